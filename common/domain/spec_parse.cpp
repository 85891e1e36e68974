#include <algorithm>
#include <set>

#include "common/domain/spec_table.hpp"
#include "common/json/described.hpp"

namespace rackmark {
namespace {

constexpr std::size_t kMaxProblems = 100;
constexpr std::int64_t kMaxWorkersPerAgent = 4096;

struct Given {
  const SpecRow* row;
  const Json* value;
};

// One pass over what was submitted, kept as members so that every check can add to `problems`.
class Parser {
 public:
  Result<JobSpec> parse(const Json& submitted) {
    return take(submitted, [this] {
      check_applies();
      check_required();
      check_contradictions();
      check_available();
    });
  }
  Result<JobSpec> read(const Json& stored) {
    return take(stored, [] {});
  }

 private:
  template <class Check>
  Result<JobSpec> take(const Json& given, Check check) {
    if (!given.is_object()) {
      return invalid("(body)", Json(given.type_name()), "a JSON object",
                     "a job spec is a JSON object");
    }
    collect(given, "");
    for (const auto& [row, value] : given_) set(*row, *value);
    fill_defaults();
    check();
    if (problems_.empty()) return settled();
    problems_.resize(std::min(problems_.size(), kMaxProblems));
    std::string message = problems_.front().detail + ", allowed: " + problems_.front().allowed;
    if (problems_.size() > 1) {
      message += " (and " + std::to_string(problems_.size() - 1) + " more)";
    }
    return Error{ErrorCode::kInvalid, std::move(message), std::move(problems_)};
  }

  // Workers that are equally many on every agent are said in one way only.
  JobSpec settled() {
    ResourcesSpec& resources = spec_.resources;
    if (resources.workers && *resources.workers % resources.agents == 0) {
      resources.workers_per_agent = *resources.workers / resources.agents;
      resources.workers.reset();
    }
    return std::move(spec_);
  }

  // Leaves of the submitted object that are rows of the table; everything else is a problem.
  void collect(const Json& object, const std::string& prefix) {
    for (const auto& [name, value] : object.items()) {
      if (problems_.size() > kMaxProblems) return;
      const std::string path = prefix + name;
      if (const SpecRow* row = name.find('.') == name.npos ? find_spec_row(path) : nullptr) {
        given_.push_back({row, &value});
      } else if (name.find('.') != name.npos || !is_group(path)) {
        add(shown_path(prefix, name), value, children(prefix), "is unknown");
      } else if (!value.is_object()) {
        bad_.insert(path);
        add(path, value, "an object with " + children(path + "."), "is not allowed");
      } else {
        collect(value, path + ".");
      }
    }
  }
  static std::string shown_path(const std::string& prefix, const std::string& name) {
    return prefix + (name.size() > 100 ? name.substr(0, 100) + "..." : name);
  }
  static bool is_group(const std::string& path) {
    const std::string start = path + ".";
    const auto& table = spec_table();
    return std::any_of(table.begin(), table.end(),
                       [&](const SpecRow& row) { return row.field.path.starts_with(start); });
  }
  static std::string children(const std::string& prefix) {
    std::vector<std::string> names;
    for (const auto& row : spec_table()) {
      if (!row.field.path.starts_with(prefix)) continue;
      const std::string rest = row.field.path.substr(prefix.size());
      const std::string name = rest.substr(0, rest.find('.'));
      if (names.empty() || names.back() != name) names.push_back(name);
    }
    return json::joined(names);
  }

  void add(const std::string& path, const Json& value, const std::string& allowed,
           const std::string& why) {
    bad_.insert(path);
    problems_.push_back(spec_problem(path, value, allowed, why));
  }
  bool is_bad(const std::string& path) const { return bad_.contains(path); }
  const Json* given(const std::string& path) const {
    for (const auto& [row, value] : given_) {
      if (row->field.path == path) return value;
    }
    return nullptr;
  }

  void set(const SpecRow& row, const Json& value) {
    const std::size_t before = problems_.size();
    row.set(value, spec_, problems_);
    if (problems_.size() != before) bad_.insert(row.field.path);
  }

  const ModelFacts* facts() const { return find_model_facts(spec_.model); }

  void fill_defaults() {
    if (trains(spec_) && !spec_.variable_update && !is_bad("variable_update")) {
      spec_.variable_update = VariableUpdate::kAllReduce;
    }
    if (spec_.mode != Mode::kAccuracy && !spec_.steps.measured && !spec_.steps.measured_seconds) {
      spec_.steps.measured = 100;
    }
    if (const ModelFacts* model = facts()) {
      if (spec_.batch_size == 0 && !spec_.batch_max) spec_.batch_size = model->default_batch;
      if (infers_from_files_on_gpu(spec_)) spec_.input.overlap = overlaps_input(spec_);
      if (spec_.image_size == 0) spec_.image_size = model->image_size;
      // With pictures the folders are the classes: 0 here, counted by the worker.
      if (spec_.classes == 0 && !needs_host_path(spec_)) spec_.classes = model->classes;
    }
  }

  // A field on whose governor there is a problem already is not judged.
  void check_applies() {
    for (const auto& [row, value] : given_) {
      const auto& path = row->field.path;
      if (is_bad(path) || row->applies(spec_)) continue;
      const bool undecided = std::any_of(row->governed_by.begin(), row->governed_by.end(),
                                         [&](const std::string& by) { return is_bad(by); });
      if (undecided) continue;
      add(path, *value, "leave it out unless " + row->field.applies_when,
          "does not apply: it does when " + row->field.applies_when);
    }
  }

  void check_required() {
    if (!given("model")) {
      add("model", nullptr, allowed_now(find_spec_row("model")->field), "is missing");
    }
    if (needs_host_path(spec_) && !given("input.path") && !is_bad("input.kind")) {
      add("input.path", nullptr, "an absolute path inside a data root of the agent", "is missing");
    }
    if (spec_.parameter_server.consistency == Consistency::kBounded &&
        !spec_.parameter_server.staleness && !is_bad("parameter_server.staleness") &&
        spec_.variable_update == VariableUpdate::kParameterServer) {
      add("parameter_server.staleness", nullptr, "a whole number, 1 to 1000 steps", "is missing");
    }
  }

  void check_contradictions() {
    const StepsSpec& steps = spec_.steps;
    if (steps.measured && steps.measured_seconds) {
      add("steps.measured_seconds", *steps.measured_seconds,
          "steps.measured or steps.measured_seconds, not both", "contradicts steps.measured");
    }
    if (const ModelFacts* model = facts()) check_model(*model);
    if (spec_.all_reduce.wire != Precision::kFp32 &&
        spec_.all_reduce.algorithm != AllReduceAlgorithm::kAuto && !is_bad("all_reduce.wire") &&
        !is_bad("all_reduce.algorithm")) {
      add("all_reduce.algorithm", json::encode(spec_.all_reduce.algorithm), "auto",
          "contradicts a 16-bit all_reduce.wire");
    }
    if (spec_.resources.device == Device::kGpu &&
        spec_.all_reduce.algorithm != AllReduceAlgorithm::kAuto && !is_bad("resources.device") &&
        !is_bad("all_reduce.algorithm")) {
      add("all_reduce.algorithm", json::encode(spec_.all_reduce.algorithm), "auto on gpu",
          "is about the MPI library, and GPUs exchange through NCCL");
    }
    check_schedule();
    check_instances();
    check_workers();
    check_precision();
    check_fusion();
    check_cache();
    check_path();
  }

  // What one model asks of the fields that all models share.
  void check_model(const ModelFacts& model) {
    const std::int64_t size = spec_.image_size, least = model.minimum_image_size,
                       most = model.maximum_image_size;
    if ((size < least || size > most) && !is_bad("image_size")) {
      const std::string allowed = least == most ? std::to_string(least) + " pixels"
                                                : "a whole number, " + std::to_string(least) +
                                                      " to " + std::to_string(most) + " pixels";
      add("image_size", size, allowed,
          std::string(size < least ? "is too small for " : "is too large for ") + model.name);
    }
    if (model.two_classes_only && spec_.classes != 0 && spec_.classes != 2 && !is_bad("classes")) {
      add("classes", spec_.classes, "2", "does not fit " + model.name + ", which has one output");
    }
    if (trains(spec_) && !spec_.batch_max && spec_.batch_size < model.minimum_training_batch &&
        !is_bad("batch_size") && !is_bad("mode")) {
      add("batch_size", spec_.batch_size,
          "a whole number, " + std::to_string(model.minimum_training_batch) + " to 65536 images",
          "is too small to train " + model.name +
              ", whose batch norm sees one pixel of each image");
    }
  }

  void check_schedule() {
    const OptimizerSpec& optimizer = spec_.optimizer;
    if (!trains(spec_) || is_bad("optimizer.schedule")) return;
    if (optimizer.schedule != Schedule::kConstant && spec_.steps.measured_seconds) {
      add("optimizer.schedule", json::enum_name(optimizer.schedule),
          "constant, or steps.measured instead of steps.measured_seconds",
          "needs a known number of steps");
    }
    if (spec_.steps.measured && !is_bad("optimizer.warmup_steps") &&
        optimizer.warmup_steps > spec_.steps.warmup + *spec_.steps.measured) {
      add("optimizer.warmup_steps", optimizer.warmup_steps,
          "a whole number, 0 to " + std::to_string(spec_.steps.warmup + *spec_.steps.measured) +
              " steps",
          "is longer than the run (steps.warmup + steps.measured)");
    }
  }

  // An instance is a worker.
  void check_instances() {
    const auto instances = spec_.inference_instances, workers = spec_.resources.workers_per_agent;
    if (!instances || !workers || *instances == *workers) return;
    if (is_bad("inference.instances") || is_bad("resources.workers_per_agent")) return;
    add("inference.instances", *instances,
        std::to_string(*workers) + ", or leave resources.workers_per_agent out",
        "contradicts resources.workers_per_agent " + std::to_string(*workers) +
            ": an instance is a worker");
  }

  void check_workers() {
    const ResourcesSpec& resources = spec_.resources;
    if (!resources.workers || !trains(spec_)) return;
    if (is_bad("resources.workers") || is_bad("resources.agents")) return;
    const std::int64_t workers = *resources.workers, agents = resources.agents;
    if (workers < agents) {
      add("resources.workers", workers, std::to_string(agents) + " or more",
          "leaves an agent without a worker (resources.agents is " + std::to_string(agents) + ")");
    }
    if (workers > agents * kMaxWorkersPerAgent) {
      add("resources.workers", workers, "at most " + std::to_string(agents * kMaxWorkersPerAgent),
          "is more than 4096 on an agent (resources.agents is " + std::to_string(agents) + ")");
    }
    const auto each = resources.workers_per_agent;
    if (!each || is_bad("resources.workers_per_agent") || *each * agents == workers) return;
    add("resources.workers", workers,
        std::to_string(*each * agents) + ", or leave resources.workers_per_agent out",
        "contradicts resources.agents " + std::to_string(agents) +
            " x resources.workers_per_agent " + std::to_string(*each));
  }

  void check_precision() {
    if (is_bad("precision") || is_bad("mode") || is_bad("resources.device")) return;
    const std::string name = json::enum_name(spec_.precision);
    const bool gpu = spec_.resources.device == Device::kGpu;
    const bool gpu_only =
        spec_.precision == Precision::kTf32 || spec_.precision == Precision::kFp16;
    if (gpu_only && !gpu) {
      add("precision", name, trains(spec_) ? "fp32, bf16 on cpu" : "fp32, bf16, int8 on cpu",
          "needs resources.device gpu");
    } else if (spec_.precision == Precision::kInt8 && trains(spec_)) {
      add("precision", name, gpu ? "fp32, tf32, bf16, fp16 in training" : "fp32, bf16 in training",
          "needs mode inference");
    }
  }

  // Without training a batch norm is part of the convolution before it.
  void check_fusion() {
    if (is_bad("fusion") || is_bad("mode") || is_bad("precision")) return;
    if (is_bad("resources.device")) return;
    const std::string& level = spec_.fusion;
    if (level == "best" || level == "none") return;
    if (!trains(spec_)) {
      add("fusion", level, "one of best, none in inference", "is about training");
    } else if (level.find("+conv-statistics") != level.npos &&
               spec_.precision != Precision::kFp16) {
      add("fusion", level, "one of best, none, bn-relu-add", "needs precision fp16");
    } else if (level == "bn-relu-add+pool" && spec_.resources.device != Device::kGpu) {
      add("fusion", level, "one of best, none, bn-relu-add on cpu", "needs resources.device gpu");
    }
  }

  void check_cache() {
    if (!spec_.input.cache || spec_.input.kind != InputKind::kPacked) return;
    if (is_bad("input.cache") || is_bad("input.kind")) return;
    add("input.cache", true, "false with input.kind packed",
        "would keep a second copy of what is decoded already, in the system's file cache");
  }

  void check_path() {
    if (!spec_.input.path || is_bad("input.path")) return;
    const std::string& path = *spec_.input.path;
    bool climbs = false;
    for (std::size_t at = 0; at <= path.size();) {
      const std::size_t end = std::min(path.find('/', at), path.size());
      climbs = climbs || path.substr(at, end - at) == "..";
      at = end + 1;
    }
    if (path.empty() || path[0] != '/' || climbs) {
      add("input.path", path, "an absolute path without ..", "is not allowed");
    }
  }

  // Well-formed and free of contradictions, but not built yet.
  void check_available() {
    for (const auto& [row, value] : given_) {
      const SpecField& field = row->field;
      if (is_bad(field.path)) continue;
      if (!field.available || (!field.values_now.empty() && !runs_now(field, *row))) {
        add(field.path, *value, allowed_now(field), "is not available in this version");
      }
    }
    const std::int64_t agents = spec_.resources.agents;
    const bool agents_given = !is_bad("resources.agents") && agents > 1;
    if (agents_given && !trains(spec_) && !is_bad("mode")) {
      add("resources.agents", agents, "1 in inference", "is available in training only");
    }
    if (agents_given && spec_.batch_max && !is_bad("batch_size")) {
      add("batch_size", "max", "a number",
          "is available on one agent only in this version (resources.agents is 1)");
    }
  }
  bool runs_now(const SpecField& field, const SpecRow& row) const {
    const Json value = row.get(spec_);
    if (field.values_now == std::vector<std::string>{"a number"}) return value.is_number();
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    return std::find(field.values_now.begin(), field.values_now.end(), text) !=
           field.values_now.end();
  }

  JobSpec spec_;
  std::vector<Given> given_;
  std::vector<FieldProblem> problems_;
  std::set<std::string> bad_;  // paths with a problem
};

}  // namespace

Result<JobSpec> parse_spec(const Json& submitted) { return Parser().parse(submitted); }

Result<JobSpec> read_spec(const Json& stored) { return Parser().read(stored); }

Json to_json(const JobSpec& spec) {
  Json out = Json::object();
  for (const auto& row : spec_table()) {
    if (!row.applies(spec)) continue;
    Json value = row.get(spec);
    if (value.is_null()) continue;
    Json* at = &out;
    std::size_t start = 0;
    for (auto dot = row.field.path.find('.'); dot != std::string::npos;
         dot = row.field.path.find('.', start)) {
      at = &(*at)[row.field.path.substr(start, dot - start)];
      start = dot + 1;
    }
    (*at)[row.field.path.substr(start)] = std::move(value);
  }
  return out;
}

}  // namespace rackmark

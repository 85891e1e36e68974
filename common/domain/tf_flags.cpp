// tf_cnn_benchmarks' flag line as a spec. Defaults are that program's own where it has one that
// changes the measurement; a flag that has no counterpart here is refused by name.
#include <algorithm>
#include <charconv>
#include <functional>

#include "common/domain/spec_table.hpp"
#include "common/json/described.hpp"

namespace rackmark {
namespace {

struct Flag {
  std::string name, value;
  bool has_value = false;
};

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\\'; }

// Words as a shell would give them: blanks, a line-continuing backslash, single and double quotes.
std::vector<std::string> split_words(std::string_view line) {
  std::vector<std::string> words;
  std::string word;
  bool in_word = false;
  char quote = 0;
  for (const char c : line) {
    if (quote != 0 && c == quote) {
      quote = 0;
    } else if (quote == 0 && (c == '"' || c == '\'')) {
      quote = c;
      in_word = true;
    } else if (quote == 0 && is_space(c)) {
      if (in_word) words.push_back(std::move(word));
      word.clear();
      in_word = false;
    } else {
      word += c;
      in_word = true;
    }
  }
  if (in_word) words.push_back(std::move(word));
  return words;
}

bool is_boolean_flag(const std::string& name) {
  return name == "forward_only" || name == "use_fp16" || name == "cross_replica_sync";
}

const std::vector<std::string>& known_flags() {
  static const std::vector<std::string> names = {"model",
                                                 "num_gpus",
                                                 "batch_size",
                                                 "num_batches",
                                                 "num_warmup_batches",
                                                 "device",
                                                 "variable_update",
                                                 "data_format",
                                                 "local_parameter_device",
                                                 "forward_only",
                                                 "use_fp16",
                                                 "data_dir",
                                                 "data_name",
                                                 "optimizer",
                                                 "init_learning_rate",
                                                 "momentum",
                                                 "weight_decay",
                                                 "display_every",
                                                 "image_size",
                                                 "tf_random_seed",
                                                 "num_intra_threads",
                                                 "cross_replica_sync"};
  return names;
}

class Translator {
 public:
  Result<Json> translate(std::string_view line, bool gpu_available) {
    read(line);
    if (problems_.empty()) map_all(gpu_available);
    if (problems_.empty()) return Result<Json>(boost::system::in_place_value, std::move(spec_));
    std::string message = problems_.front().detail + ", allowed: " + problems_.front().allowed;
    return Error{ErrorCode::kInvalid, std::move(message), std::move(problems_)};
  }

 private:
  void refuse(const std::string& flag, const Json& value, const std::string& allowed,
              const std::string& why) {
    const std::string given = value.is_string() ? "=" + value.get<std::string>() : "";
    problems_.push_back({"--" + flag, value, allowed, "flag --" + flag + given + " " + why});
  }

  void read(std::string_view line) {
    const std::vector<std::string> words = split_words(line);
    for (std::size_t i = 0; i < words.size(); ++i) {
      const std::string& word = words[i];
      // The program's own name may lead the line.
      if (!word.starts_with("-")) {
        const bool program =
            flags_.empty() &&
            (word.ends_with("tf_cnn_benchmarks.py") || word.ends_with("tf_cnn_benchmarks") ||
             word.ends_with("python") || word.ends_with("python3"));
        if (!program) refuse(word.substr(0, 100), nullptr, "--flag=value", "is not a flag");
        continue;
      }
      Flag flag;
      flag.name = word.substr(word.starts_with("--") ? 2 : 1);
      if (const auto equals = flag.name.find('='); equals != flag.name.npos) {
        flag.value = flag.name.substr(equals + 1);
        flag.name.resize(equals);
        flag.has_value = true;
      } else if (!is_boolean_flag(flag.name) && is_known(flag.name) && i + 1 < words.size() &&
                 !words[i + 1].starts_with("--")) {
        flag.value = words[++i];
        flag.has_value = true;
      }
      add(std::move(flag));
    }
  }

  static bool is_known(const std::string& name) {
    return std::find(known_flags().begin(), known_flags().end(), name) != known_flags().end();
  }

  void add(Flag flag) {
    if (!flag.has_value && flag.name.starts_with("no") && is_boolean_flag(flag.name.substr(2))) {
      flag = {flag.name.substr(2), "false", true};
    }
    if (!is_known(flag.name)) {
      const Json value = flag.has_value ? Json(flag.value) : Json(nullptr);
      return refuse(flag.name.substr(0, 100), value, json::joined(known_flags()), "is unknown");
    }
    if (find(flag.name)) return refuse(flag.name, flag.value, "one value", "is given twice");
    if (!flag.has_value && is_boolean_flag(flag.name)) flag.value = "true";
    if (flag.value.empty()) return refuse(flag.name, nullptr, "a value", "has no value");
    flags_.push_back(std::move(flag));
  }

  const std::string* find(std::string_view name) const {
    for (const auto& flag : flags_) {
      if (flag.name == name) return &flag.value;
    }
    return nullptr;
  }

  std::optional<double> number(const char* name) {
    const std::string* text = find(name);
    if (!text) return std::nullopt;
    double value = 0;
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
    if (error != std::errc() || end != text->data() + text->size()) {
      refuse(name, *text, "a number", "is not a number");
      return std::nullopt;
    }
    return value;
  }
  std::optional<std::int64_t> integer(const char* name) {
    const std::string* text = find(name);
    if (!text) return std::nullopt;
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
    if (error != std::errc() || end != text->data() + text->size()) {
      refuse(name, *text, "a whole number", "is not a whole number");
      return std::nullopt;
    }
    return value;
  }
  bool boolean(const char* name) {
    const std::string* text = find(name);
    if (!text || *text == "false" || *text == "False" || *text == "0") return false;
    if (*text == "true" || *text == "True" || *text == "1") return true;
    refuse(name, *text, "true or false", "is not a truth value");
    return false;
  }
  // The value of `name` among `choices`, translated; empty when absent or refused.
  std::string choice(const char* name, const std::map<std::string, std::string>& choices) {
    const std::string* text = find(name);
    if (!text) return "";
    if (const auto it = choices.find(*text); it != choices.end()) return it->second;
    std::vector<std::string> names;
    for (const auto& [from, to] : choices) names.push_back(from);
    refuse(name, *text, "one of " + json::joined(names), "has no counterpart here");
    return "";
  }

  void map_all(bool gpu_available) {
    const bool forward_only = boolean("forward_only");
    spec_ = Json::object();
    spec_["mode"] = forward_only ? "inference" : "training";
    if (boolean("use_fp16")) spec_["precision"] = "fp16";
    map_model();
    map_resources(gpu_available);
    map_update(forward_only);
    map_optimizer(forward_only);
    map_input();
    spec_["steps"] = {{"warmup", integer("num_warmup_batches").value_or(10)},
                      {"measured", integer("num_batches").value_or(100)}};
    if (const auto seed = integer("tf_random_seed")) spec_["seed"] = *seed;
    // How often the other program printed a line; it changes no number.
    integer("display_every");
  }

  void map_model() {
    const std::string* model = find("model");
    if (!model) return refuse("model", nullptr, "a model, such as resnet50", "is missing");
    static const std::map<std::string, std::string> aliases = {{"inception3", "inception_v3"},
                                                               {"resnet50_v1.5", "resnet50"}};
    const auto alias = aliases.find(*model);
    spec_["model"] = alias == aliases.end() ? *model : alias->second;
    if (const auto batch = integer("batch_size")) spec_["batch_size"] = *batch;
    if (const auto size = integer("image_size")) spec_["image_size"] = *size;
    // Layouts are the backend's own choice here; what was asked stays visible as a label.
    const std::string format = choice("data_format", {{"NCHW", "NCHW"}, {"NHWC", "NHWC"}});
    if (!format.empty()) spec_["labels"]["tf.data_format"] = format;
  }

  void map_resources(bool gpu_available) {
    std::string device =
        choice("device", {{"cpu", "cpu"}, {"CPU", "cpu"}, {"gpu", "gpu"}, {"GPU", "gpu"}});
    if (!find("device")) device = gpu_available ? "gpu" : "cpu";
    spec_["resources"] = {{"device", device},
                          {"workers_per_agent", integer("num_gpus").value_or(1)}};
    // 0 leaves the choice to the system, there as here.
    if (const auto threads = integer("num_intra_threads"); threads && *threads != 0) {
      spec_["resources"]["threads_per_worker"] = *threads;
    }
  }

  void map_update(bool forward_only) {
    std::string update = choice("variable_update", {{"parameter_server", "parameter_server"},
                                                    {"replicated", "all_reduce"},
                                                    {"distributed_all_reduce", "all_reduce"},
                                                    {"collective_all_reduce", "all_reduce"},
                                                    {"horovod", "all_reduce"},
                                                    {"independent", "independent"}});
    if (!find("variable_update")) update = "parameter_server";
    if (!forward_only) spec_["variable_update"] = update;  // forward passes exchange nothing
    const std::string server = choice("local_parameter_device", {{"cpu", "cpu"}, {"gpu", "gpu"}});
    const bool serves = !forward_only && update == "parameter_server";
    for (const char* name : {"local_parameter_device", "cross_replica_sync"}) {
      if (const auto* text = find(name); text && !serves) {
        refuse(name, *text, "only with variable_update=parameter_server",
               "has no meaning without a parameter server");
      }
    }
    if (!serves) return;
    if (!server.empty()) spec_["parameter_server"]["device"] = server;
    if (find("cross_replica_sync") && !boolean("cross_replica_sync")) {
      spec_["parameter_server"]["consistency"] = "async";
    }
  }

  void map_optimizer(bool forward_only) {
    const std::string kind = choice("optimizer", {{"sgd", "sgd"}, {"momentum", "momentum"}});
    const auto rate = number("init_learning_rate");
    const auto momentum = number("momentum");
    const auto decay = number("weight_decay");
    if (momentum && kind != "momentum") {
      refuse("momentum", *find("momentum"), "only with optimizer=momentum",
             "has no meaning with plain sgd");
    }
    if (forward_only) {
      for (const char* name : {"optimizer", "init_learning_rate", "momentum", "weight_decay"}) {
        if (const auto* text = find(name)) {
          refuse(name, *text, "nothing with forward_only", "has no meaning without training");
        }
      }
      return;
    }
    Json optimizer = {{"kind", "sgd"},
                      {"momentum", kind == "momentum" ? momentum.value_or(0.9) : 0.0},
                      {"weight_decay", decay.value_or(4e-5)}};
    if (rate) optimizer["learning_rate"] = *rate;
    spec_["optimizer"] = std::move(optimizer);
  }

  void map_input() {
    const std::string name = choice("data_name", {{"imagenet", "images"},
                                                  {"images", "images"},
                                                  {"cifar10", "cifar10"},
                                                  {"synthetic", "synthetic"}});
    const std::string* folder = find("data_dir");
    if (!folder) {  // without a folder that program makes its pictures up, whatever the name says
      spec_["input"] = {{"kind", "synthetic"}};
    } else if (name == "synthetic") {
      refuse("data_dir", *folder, "nothing with data_name=synthetic", "contradicts data_name");
    } else {
      spec_["input"] = {{"kind", name.empty() ? "images" : name}, {"path", *folder}};
    }
  }

  std::vector<Flag> flags_;
  std::vector<FieldProblem> problems_;
  Json spec_;
};

}  // namespace

Result<Json> spec_from_tf_flags(std::string_view line, bool gpu_available) {
  return Translator().translate(line, gpu_available);
}

}  // namespace rackmark

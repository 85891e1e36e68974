// The job spec: what a benchmark is. One table (spec_fields.cpp) declares every field once: name,
// type, unit, default, range, when it applies, whether it counts in the fingerprint. Validation,
// the JSON schema, the web form, the command line's flags and the fingerprint are all made from
// that table.
#pragma once

#include <boost/describe.hpp>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/error.hpp"
#include "common/json/json.hpp"

namespace rackmark {

enum class Mode { kTraining, kInference, kAccuracy };
BOOST_DESCRIBE_ENUM(Mode, kTraining, kInference, kAccuracy)
enum class Precision { kFp32, kTf32, kBf16, kFp16, kInt8 };
BOOST_DESCRIBE_ENUM(Precision, kFp32, kTf32, kBf16, kFp16, kInt8)
enum class VariableUpdate { kAllReduce, kParameterServer, kIndependent };
BOOST_DESCRIBE_ENUM(VariableUpdate, kAllReduce, kParameterServer, kIndependent)
enum class Device { kCpu, kGpu };
BOOST_DESCRIBE_ENUM(Device, kCpu, kGpu)
enum class InputKind { kSynthetic, kImages, kCifar10, kPacked };
BOOST_DESCRIBE_ENUM(InputKind, kSynthetic, kImages, kCifar10, kPacked)
enum class Schedule { kConstant, kStep, kCosine };
BOOST_DESCRIBE_ENUM(Schedule, kConstant, kStep, kCosine)
enum class AllReduceAlgorithm { kAuto, kRing, kRecursiveDoubling, kRabenseifner };
BOOST_DESCRIBE_ENUM(AllReduceAlgorithm, kAuto, kRing, kRecursiveDoubling, kRabenseifner)
enum class Consistency { kSync, kAsync, kBounded };
BOOST_DESCRIBE_ENUM(Consistency, kSync, kAsync, kBounded)
enum class ServerPlacement { kColocated, kDedicated };
BOOST_DESCRIBE_ENUM(ServerPlacement, kColocated, kDedicated)

struct OptimizerSpec {
  std::string kind = "sgd";
  double learning_rate = 0.01, momentum = 0.9, weight_decay = 1e-4;
  Schedule schedule = Schedule::kConstant;
  std::int64_t warmup_steps = 0;
};
struct AllReduceSpec {
  AllReduceAlgorithm algorithm = AllReduceAlgorithm::kAuto;
  std::int64_t bucket_bytes = 26214400;
  bool overlap = true;
  Precision wire = Precision::kFp32;
};
struct ParameterServerSpec {
  std::int64_t servers = 1;
  ServerPlacement placement = ServerPlacement::kColocated;
  Device device = Device::kCpu;
  Consistency consistency = Consistency::kSync;
  std::optional<std::int64_t> staleness;  // only with bounded
  std::int64_t shard_bytes = 4194304;
  Precision wire = Precision::kFp32;
};
struct ResourcesSpec {
  Device device = Device::kCpu;
  std::int64_t agents = 1;
  std::optional<std::int64_t> workers;  // of all agents together; only where they do not have
                                        // equally many, else it became workers_per_agent
  std::optional<std::int64_t> workers_per_agent;   // resolved, unless workers: NUMA domains, GPUs
  std::optional<std::int64_t> threads_per_worker;  // resolved: physical cores / workers
  std::optional<std::int64_t> gpus_per_worker;     // gpu only
  std::map<std::string, std::string>
      selector;  // labels an agent must carry; "name" matches its name
  bool exclusive = true;
};
struct InputSpec {
  InputKind kind = InputKind::kSynthetic;
  std::optional<std::string> path;  // inside one of the agent's data_roots
  std::map<std::string, bool> augment;
  std::optional<std::int64_t> decode_threads, queue_depth;
  std::optional<bool> overlap;          // inference of files on gpu only, see overlaps_input()
  Device decode_device = Device::kCpu;  // gpu: images on gpu only
  bool cache = false;                   // keep decoded pictures in memory after their first use
  bool compare_synthetic = false;
};
struct StepsSpec {
  std::int64_t warmup = 10;
  std::optional<std::int64_t> measured;  // exactly one of these two
  std::optional<double> measured_seconds;
  std::optional<double> epochs, target_accuracy;
};
struct RepetitionsSpec {  // a plain number n is {min: n, max: n}
  std::int64_t min = 1, max = 1;
  std::optional<double> target_rse, max_minutes;
};

// A validated spec. Members that do not apply to it are at their default here and absent in its
// JSON. optionals named "resolved" above have a value after resolve_for_host().
struct JobSpec {
  std::string model;
  Mode mode = Mode::kTraining;
  Precision precision = Precision::kFp32;
  std::optional<double> loss_scale;  // fp16 training only; absent: dynamic
  std::int64_t batch_size = 0;       // per worker; 0 together with batch_max
  bool batch_max = false;            // "max": the largest that fits
  std::int64_t image_size = 0, classes = 0, seed = 1;
  OptimizerSpec optimizer;
  std::optional<VariableUpdate> variable_update;
  AllReduceSpec all_reduce;
  ParameterServerSpec parameter_server;
  ResourcesSpec resources;
  InputSpec input;
  StepsSpec steps;
  std::optional<std::int64_t> inference_instances;  // resolved: workers_per_agent
  RepetitionsSpec repetitions;
  bool profile = false;
  bool measure_collectives = false;  // time all-reduces before the warm-up; several ranks
  std::string fusion = "best";       // the backend's best, "none", or which layers share a kernel
  std::int64_t priority = 0, retries = 1;
  std::optional<double> timeout_s;  // derived when absent
  std::optional<double> stall_s;    // absent: max(60, 20 x median step)
  std::map<std::string, std::string> labels;
  std::string name;
};

// One row of the table, for schema, form and documentation.
struct SpecField {
  std::string path;              // "optimizer.learning_rate"
  std::string type;              // string, integer, number, boolean, enum, object, integer_or_max,
                                 // number_or_dynamic, repetitions, map
  std::string unit;              // "", "s", "bytes", "pixels", "images", ...
  nlohmann::json default_value;  // null: none, or depends (then `default_text` says on what)
  std::string default_text;
  std::vector<std::string> values;      // of an enum
  std::vector<std::string> values_now;  // of these, what this version can run
  std::optional<double> minimum, maximum;
  std::string applies_when;  // in words: "mode is training"; "" = always
  bool in_fingerprint = true;
  std::string help;       // one sentence for people
  bool available = true;  // false: this version refuses the field, whatever its value
};
BOOST_DESCRIBE_STRUCT(SpecField, (),
                      (path, type, unit, default_value, default_text, values, values_now, minimum,
                       maximum, applies_when, in_fingerprint, help, available))
std::span<const SpecField> spec_fields();
nlohmann::json spec_json_schema();  // JSON Schema 2020-12 of a submitted spec

// What resolution and validation know of a model. The list covers every name of the spec, with
// `available` false for those that this version cannot run yet.
struct ModelFacts {
  std::string name, title;
  std::int64_t image_size = 0, classes = 0, default_batch = 0;
  std::int64_t minimum_image_size = 0, maximum_image_size = 0;  // equal where the size is fixed
  std::int64_t minimum_training_batch = 1;  // 2 where a batch norm sees one pixel an image
  bool two_classes_only = false;            // one logit
  std::int64_t parameters = 0;              // counted, not estimated; 0 while unavailable
  double forward_gflop_per_image = 0,
         training_gflop_per_image = 0;  // at image_size; 1 MAC = 2 FLOP
  bool available = false;
};
BOOST_DESCRIBE_STRUCT(ModelFacts, (),
                      (name, title, image_size, classes, default_batch, minimum_image_size,
                       maximum_image_size, minimum_training_batch, two_classes_only, parameters,
                       forward_gflop_per_image, training_gflop_per_image, available))
std::span<const ModelFacts> model_facts();
const ModelFacts* find_model_facts(const std::string& name);  // null when unknown

// Checks what people wrote and fills every default that needs no host. All problems are reported at
// once. Unknown fields, contradictions, fields that do not apply, and values that this version
// cannot run yet are kInvalid (HTTP 422), each naming field, value and what is allowed.
Result<JobSpec> parse_spec(const nlohmann::json& submitted);

// What was asked for and taken once, maybe by a version that allowed more: nothing is checked but
// that every field is known and of its type and range (else kInvalid).
Result<JobSpec> read_spec(const nlohmann::json& stored);

// The host's part: workers, threads, decode threads, queue depth.
struct HostShape {
  std::int64_t numa_domains = 1, physical_cores = 1, gpus = 0;
};
// kInvalid when the host cannot run it (more threads than cores, no GPU).
Result<JobSpec> resolve_for_host(JobSpec spec, const HostShape& host);

// Whether inference brings the next batch to the GPU while one is answered; false where
// input.overlap does not apply.
bool overlaps_input(const JobSpec& spec);

// The spec as JSON: every field that applies, with its value. parse_spec(to_json(s)) gives s again.
nlohmann::json to_json(const JobSpec& spec);

// Seconds after which a run is ended as timed out when the spec does not say: generous, from steps.
double derived_timeout_s(const JobSpec& spec);

// The tf_cnn_benchmarks flag line as a spec (design.md section 3). `gpu_available`: whether a
// matching agent has one, decides the device when no --device is given; the choice is recorded in
// the spec. kInvalid naming every unknown flag.
Result<nlohmann::json> spec_from_tf_flags(std::string_view line, bool gpu_available);

// Series identity: SHA-256 (hex) of the canonical JSON of fingerprint version, resolved measurement
// fields that differ from their default, engine revision, library versions and device class.
std::string fingerprint(const JobSpec& resolved, std::string_view engine_revision,
                        const std::map<std::string, std::string>& libraries,
                        std::string_view device_class);
std::string sha256_hex(std::string_view bytes);

}  // namespace rackmark

// The one table of the job spec. A new field is a member of JobSpec and a row here.
#include "common/domain/spec_row.hpp"

namespace rackmark {
namespace {

constexpr double kMaxExactInteger = 9007199254740991;  // 2^53 - 1: exact in every JSON reader

#define AT(member) \
  [](auto& spec) -> auto& { return spec.member; }

// What later rows apply to, in words and as a function.
bool exchanges_by_all_reduce(const JobSpec& s) {
  return trains(s) && s.variable_update == VariableUpdate::kAllReduce;
}
bool exchanges_by_server(const JobSpec& s) {
  return trains(s) && s.variable_update == VariableUpdate::kParameterServer;
}
bool infers(const JobSpec& s) { return s.mode == Mode::kInference; }
bool measures_accuracy(const JobSpec& s) { return s.mode == Mode::kAccuracy; }
bool counts_steps(const JobSpec& s) { return s.mode != Mode::kAccuracy; }
bool on_gpu(const JobSpec& s) { return s.resources.device == Device::kGpu; }
bool scales_loss(const JobSpec& s) { return trains(s) && s.precision == Precision::kFp16; }

Row&& training(Row&& row) {
  return std::move(row).when("mode is training or accuracy", {"mode"}, trains);
}
Row&& all_reduce(Row&& row) {
  return std::move(row).when("variable_update is all_reduce", {"mode", "variable_update"},
                             exchanges_by_all_reduce);
}
Row&& server(Row&& row) {
  return std::move(row).when("variable_update is parameter_server", {"mode", "variable_update"},
                             exchanges_by_server);
}
Row&& pictures(Row&& row) {
  return std::move(row).when("input.kind is not synthetic", {"input.kind"}, needs_host_path);
}
Row&& inference(Row&& row) { return std::move(row).when("mode is inference", {"mode"}, infers); }
Row&& accuracy(Row&& row) {
  return std::move(row).when("mode is accuracy", {"mode"}, measures_accuracy);
}

bool decodes_beside_a_gpu(const JobSpec& s) {
  return s.input.kind == InputKind::kImages && on_gpu(s);
}
bool trains_on_pictures(const JobSpec& s) { return trains(s) && needs_host_path(s); }

Row augment(const std::string& name, const std::string& sentence) {
  const std::string path = "input.augment." + name;
  const auto get = [name](const JobSpec& spec) {
    const auto it = spec.input.augment.find(name);
    return it == spec.input.augment.end() ? Json(false) : Json(it->second);
  };
  const auto set = [name](const SpecField& field, const Json& value, JobSpec& spec,
                          Problems& problems) {
    if (!value.is_boolean()) return problems.push_back(not_allowed(field, value));
    spec.input.augment[name] = value.get<bool>();
  };
  return Row::reached_by(path, "boolean", get, set)
      .when("mode is training or accuracy and input.kind is not synthetic", {"mode", "input.kind"},
            trains_on_pictures)
      .help(sentence);
}

std::vector<std::string> model_names(bool only_available) {
  std::vector<std::string> names;
  for (const auto& facts : model_facts()) {
    if (facts.available || !only_available) names.push_back(facts.name);
  }
  return names;
}

void add_network_rows(std::vector<Row>& rows) {
  rows.push_back(Row("model", AT(model))
                     .values(model_names(false))
                     .now(model_names(true))
                     .defaults_to_text("required")
                     .help("The network to run."));
  rows.push_back(Row("mode", AT(mode))
                     .now({"training", "inference"})
                     .help("Training steps, forward passes only, or training to an accuracy."));
  rows.push_back(Row("precision", AT(precision))
                     .help("Number format of the heavy arithmetic: fp32, bf16 and, in inference, "
                           "int8; tf32 and fp16 on gpu alone."));
  rows.push_back(Row("loss_scale", AT(loss_scale))
                     .custom("number_or_dynamic", get_loss_scale, set_loss_scale)
                     .range(1, 1 << 24)
                     .defaults_to("dynamic")
                     .when("precision is fp16 and mode is training or accuracy",
                           {"precision", "mode"}, scales_loss)
                     .help("Factor on the loss so that small gradients survive 16 bits; dynamic: "
                           "as large as they stay finite."));
  rows.push_back(Row("batch_size", AT(batch_size))
                     .custom("integer_or_max", get_batch_size, set_batch_size)
                     .range(1, 65536, "images")
                     .defaults_to_text("the model's")
                     .help("Pictures per step of one worker; \"max\" searches the largest that "
                           "fits."));
  rows.push_back(Row("image_size", AT(image_size))
                     .range(8, 1024, "pixels")
                     .defaults_to_text("the model's")
                     .help("Height and width of a picture as the network sees it."));
  rows.push_back(Row("classes", AT(classes))
                     .custom("integer", get_classes, set_classes)
                     .range(2, 100000)
                     .defaults_to_text("the model's, or the data set's folders")
                     .help("Outputs of the network."));
  rows.push_back(Row("seed", AT(seed))
                     .range(0, kMaxExactInteger)
                     .help("Start of every random number: weights, order, synthetic pictures."));
  rows.push_back(training(Row("optimizer.kind", AT(optimizer.kind)).values({"sgd"}))
                     .help("How weights follow gradients."));
  rows.push_back(training(Row("optimizer.learning_rate", AT(optimizer.learning_rate)))
                     .range(0, 1000)
                     .help("Step size of the optimizer."));
  rows.push_back(training(Row("optimizer.momentum", AT(optimizer.momentum)))
                     .range(0, 1)
                     .help("Share of the last update that is kept."));
  rows.push_back(training(Row("optimizer.weight_decay", AT(optimizer.weight_decay)))
                     .range(0, 1)
                     .help("Pull of every weight towards zero."));
  rows.push_back(training(Row("optimizer.schedule", AT(optimizer.schedule)))
                     .help("How the learning rate changes over the run: step takes a tenth after "
                           "30/90, 60/90 and 80/90 of all steps, cosine falls to 0."));
  rows.push_back(training(Row("optimizer.warmup_steps", AT(optimizer.warmup_steps)))
                     .range(0, 1e6, "steps")
                     .help("Steps over which the learning rate rises from zero."));
}

void add_exchange_rows(std::vector<Row>& rows) {
  const std::vector<std::string> wires = {"fp32", "fp16", "bf16"};
  rows.push_back(training(Row("variable_update", AT(variable_update)))
                     .defaults_to("all_reduce")
                     .help("How workers share gradients; independent exchanges nothing and is the "
                           "ceiling."));
  rows.push_back(
      all_reduce(Row("all_reduce.algorithm", AT(all_reduce.algorithm)))
          .help("Algorithm of the MPI library; auto leaves the choice to it. On gpu auto only: "
                "GPUs exchange through NCCL."));
  rows.push_back(all_reduce(Row("all_reduce.bucket_bytes", AT(all_reduce.bucket_bytes)))
                     .range(4096, 1073741824, "bytes")
                     .help("Gradients are sent in groups of about this size."));
  rows.push_back(all_reduce(Row("all_reduce.overlap", AT(all_reduce.overlap)))
                     .help("Send gradients while earlier layers still compute theirs."));
  rows.push_back(all_reduce(Row("all_reduce.wire", AT(all_reduce.wire)).values(wires))
                     .help("Number format of gradients on the wire; 16 bits are summed in fp32."));
  rows.push_back(server(Row("parameter_server.servers", AT(parameter_server.servers)))
                     .range(1, 1024)
                     .help("How many servers share the weights."));
  rows.push_back(server(Row("parameter_server.placement", AT(parameter_server.placement)))
                     .help("Servers as threads of workers, or as processes of their own beside "
                           "them."));
  rows.push_back(server(Row("parameter_server.device", AT(parameter_server.device)))
                     .now({"cpu"})
                     .help("Where servers keep the weights."));
  rows.push_back(server(Row("parameter_server.consistency", AT(parameter_server.consistency)))
                     .help("Whether a step waits for the others' gradients: always, never, or when "
                           "too far ahead."));
  rows.push_back(Row("parameter_server.staleness", AT(parameter_server.staleness))
                     .range(1, 1000, "steps")
                     .when("parameter_server.consistency is bounded",
                           {"mode", "variable_update", "parameter_server.consistency"},
                           [](const JobSpec& s) {
                             return exchanges_by_server(s) &&
                                    s.parameter_server.consistency == Consistency::kBounded;
                           })
                     .help("How many steps a worker may run ahead of the slowest."));
  rows.push_back(server(Row("parameter_server.shard_bytes", AT(parameter_server.shard_bytes)))
                     .range(4096, 1073741824, "bytes")
                     .help("Weights are spread over servers in pieces of about this size."));
  rows.push_back(server(Row("parameter_server.wire", AT(parameter_server.wire)).values(wires))
                     .help("Number format of gradients and weights on the wire."));
}

void add_placement_rows(std::vector<Row>& rows) {
  rows.push_back(Row("resources.device", AT(resources.device)).help("What computes."));
  rows.push_back(Row("resources.agents", AT(resources.agents))
                     .range(1, 100000)
                     .help("Hosts of one run, of one device class and on one network; more than 1 "
                           "in training only."));
  rows.push_back(training(Row("resources.workers", AT(resources.workers)))
                     .range(1, 1e6)
                     .defaults_to_text("agents x workers_per_agent")
                     .help("Worker processes on all hosts together, spread evenly: when they do "
                           "not divide, the first hosts have one more."));
  rows.push_back(Row("resources.workers_per_agent", AT(resources.workers_per_agent))
                     .range(1, 4096)
                     .defaults_to_text("NUMA domains, or GPUs")
                     .help("Worker processes on each host."));
  rows.push_back(Row("resources.threads_per_worker", AT(resources.threads_per_worker))
                     .range(1, 4096)
                     .defaults_to_text("physical cores / workers")
                     .help("Computing threads of one worker."));
  rows.push_back(Row("resources.gpus_per_worker", AT(resources.gpus_per_worker))
                     .range(1, 64)
                     .now({"1"})
                     .defaults_to_text("1")
                     .when("resources.device is gpu", {"resources.device"}, on_gpu)
                     .help("GPUs that one worker drives."));
  rows.push_back(Row("resources.selector", AT(resources.selector))
                     .not_measured()
                     .help("Labels that an agent must carry; \"name\" matches its name."));
  rows.push_back(Row("resources.exclusive", AT(resources.exclusive))
                     .now({"true"})
                     .help("No other run on the host at the same time."));
}

void add_input_rows(std::vector<Row>& rows) {
  rows.push_back(Row("input.kind", AT(input.kind))
                     .now({"synthetic", "images", "packed"})
                     .help("Made-up pictures in memory, or a data set on the agent: JPEG files, or "
                           "what rackmark-worker pack made of them, which no thread need decode."));
  rows.push_back(pictures(Row("input.path", AT(input.path)))
                     .defaults_to_text("required")
                     .help("Folder on the agent, inside one of its data roots; images: one folder "
                           "per class; packed: what rackmark-worker pack wrote."));
  rows.push_back(augment("flip", "Mirror half of the pictures."));
  rows.push_back(augment("crop", "Cut a random window instead of the centre."));
  rows.push_back(augment("shift", "Move by a random number of pixels.").now({"false"}));
  rows.push_back(augment("rotate", "Turn by a random angle.").now({"false"}));
  rows.push_back(augment("zoom", "Scale by a random factor.").now({"false"}));
  rows.push_back(augment("shear", "Slant by a random angle.").now({"false"}));
  rows.push_back(
      pictures(Row("input.decode_threads", AT(input.decode_threads)))
          .range(1, 1024)
          .defaults_to_text("cpu: one for eight computing threads; gpu: the worker's cores "
                            "but one; at least 1")
          .help("Threads of one worker that read pictures, and decode JPEG files."));
  rows.push_back(
      Row("input.decode_device", AT(input.decode_device))
          .when("input.kind is images and resources.device is gpu",
                {"input.kind", "resources.device"}, decodes_beside_a_gpu)
          .help("What decodes JPEG files: the CPU, or the GPU beside its training, by nvJPEG; "
                "the CPU resizes, and decodes what nvJPEG does not take."));
  rows.push_back(pictures(Row("input.queue_depth", AT(input.queue_depth)))
                     .range(1, 1024, "batches")
                     .defaults_to_text("3")
                     .help("Batches that are prepared ahead."));
  rows.push_back(
      Row("input.overlap", AT(input.overlap))
          .when("mode is inference and input.kind is not synthetic and resources.device is gpu",
                {"mode", "input.kind", "resources.device"}, infers_from_files_on_gpu)
          .defaults_to_text("true, but at batch_size 1 false")
          .help("Bring the next batch to the GPU while one is answered, for throughput; false: one "
                "after the other, so that the latency of a batch is measured."));
  rows.push_back(
      pictures(Row("input.cache", AT(input.cache)))
          .help("Keep decoded pictures in memory after their first use, as far as a quarter of "
                "the free memory holds them; not with packed ones."));
  rows.push_back(pictures(Row("input.compare_synthetic", AT(input.compare_synthetic)))
                     .now({"false"})
                     .help("Also run with synthetic pictures, to see what reading costs."));
}

void add_length_rows(std::vector<Row>& rows) {
  rows.push_back(Row("steps.warmup", AT(steps.warmup))
                     .range(0, 1e6, "steps")
                     .help("Steps before the measured window."));
  rows.push_back(Row("steps.measured", AT(steps.measured))
                     .range(1, 1e6, "steps")
                     .defaults_to(100)
                     .when("mode is not accuracy", {"mode"}, counts_steps)
                     .help("Measured steps; this or steps.measured_seconds."));
  rows.push_back(Row("steps.measured_seconds", AT(steps.measured_seconds))
                     .range(0.1, 604800, "s")
                     .when("mode is not accuracy", {"mode"}, counts_steps)
                     .help("Measure for this long; this or steps.measured."));
  rows.push_back(accuracy(Row("steps.epochs", AT(steps.epochs)))
                     .range(0.01, 10000, "epochs")
                     .help("Passes over the data set before the evaluation."));
  rows.push_back(accuracy(Row("steps.target_accuracy", AT(steps.target_accuracy)))
                     .range(0, 1)
                     .help("Stop once this share of the evaluation pictures is right."));
  rows.push_back(inference(Row("inference.instances", AT(inference_instances)))
                     .range(1, 4096)
                     .defaults_to_text("resources.workers_per_agent")
                     .help("Independent copies of the network on one host, each a worker."));
  rows.push_back(inference(Row::unavailable("inference.request_rate", "number"))
                     .range(0.001, 1e6, "requests/s")
                     .help("Offered load; absent: as fast as possible."));
  rows.push_back(
      Row::unavailable("inference.calibration", "string")
          .when("precision is int8", {"mode", "precision"},
                [](const JobSpec& s) { return infers(s) && s.precision == Precision::kInt8; })
          .help("Pictures from which the ranges of int8 are taken."));
  rows.push_back(Row("repetitions", AT(repetitions.min))
                     .custom("repetitions", get_repetitions, set_repetitions)
                     .range(1, 1000, "runs")
                     .now({"a number"})
                     .not_measured()
                     .help("Fresh sets of processes, each measured on its own."));
}

void add_service_rows(std::vector<Row>& rows) {
  rows.push_back(Row("profile", AT(profile))
                     .not_measured()
                     .help("A separate labelled pass that times every layer."));
  rows.push_back(training(Row("measure_collectives", AT(measure_collectives)))
                     .not_measured()
                     .help("Before the warm-up also time all-reduces of a few sizes between the "
                           "ranks, from which the network's latency and bandwidth follow."));
  rows.push_back(Row("fusion", AT(fusion))
                     .values({"best", "none", "bn-relu-add", "bn-relu-add+pool",
                              "bn-relu-add+conv-statistics", "bn-relu-add+pool+conv-statistics",
                              "bn-relu-add+pool+conv-statistics+bn-in-conv"})
                     .help("Which layers one kernel covers: what the backend does best, none, or "
                           "in training batch norm with the ReLU and sum behind it, on gpu also "
                           "with the max pool behind it, in fp16 also with its sums made by the "
                           "convolutions around it, and with both made by the convolution behind "
                           "them; to see what each brings."));
  rows.push_back(Row("priority", AT(priority))
                     .range(-1000, 1000)
                     .now({"0"})
                     .not_measured()
                     .help("Higher goes first."));
  rows.push_back(Row("timeout_s", AT(timeout_s))
                     .range(1, 2592000, "s")
                     .defaults_to_text("derived from the steps")
                     .not_measured()
                     .help("A run is ended after this time."));
  rows.push_back(Row("stall_s", AT(stall_s))
                     .range(1, 86400, "s")
                     .defaults_to_text("max(60, 20 x median step)")
                     .not_measured()
                     .help("A run without a finished step for this long is ended."));
  rows.push_back(Row("retries", AT(retries))
                     .range(0, 10)
                     .not_measured()
                     .help("Further attempts after a lost host or a crashed launch."));
  rows.push_back(Row("labels", AT(labels))
                     .not_measured()
                     .help("Your own key = value pairs, to find jobs again."));
  rows.push_back(
      Row("name", AT(name)).not_measured().help("What people call this job; at most 200 bytes."));
}
#undef AT

std::vector<SpecRow> make_table() {
  std::vector<Row> rows;
  add_network_rows(rows);
  add_exchange_rows(rows);
  add_placement_rows(rows);
  add_input_rows(rows);
  add_length_rows(rows);
  add_service_rows(rows);
  std::vector<SpecRow> table;
  table.reserve(rows.size());
  for (auto& row : rows) table.push_back(std::move(row).build());
  return table;
}

}  // namespace

const std::vector<SpecRow>& spec_table() {
  static const std::vector<SpecRow> table = make_table();
  return table;
}

std::span<const SpecField> spec_fields() {
  static const std::vector<SpecField> fields = [] {
    std::vector<SpecField> out;
    for (const auto& row : spec_table()) out.push_back(row.field);
    return out;
  }();
  return fields;
}

}  // namespace rackmark

#include "worker/train/tf_output.hpp"

#include <string>

#include "common/measure/statistics.hpp"

namespace rackmark::worker {

namespace {

constexpr const char* kRule = "----------------------------------------------------------------";
constexpr std::int64_t kImagenetPictures = 1281167;

// The names that tf_cnn_benchmarks' users know.
const char* variables_name(const JobSpec& spec) {
  switch (spec.variable_update.value_or(VariableUpdate::kAllReduce)) {
    case VariableUpdate::kParameterServer:
      return "parameter_server";
    case VariableUpdate::kIndependent:
      return "independent";
    case VariableUpdate::kAllReduce:
      break;
  }
  return "replicated";
}

}  // namespace

TfOutput::TfOutput(std::FILE* out, const JobSpec& spec, std::int64_t ranks,
                   std::int64_t dataset_pictures)
    : out_(out), spec_(spec), ranks_(ranks), dataset_pictures_(dataset_pictures) {}

double TfOutput::global_batch() const { return static_cast<double>(spec_.batch_size * ranks_); }

void TfOutput::line(const char* name, const char* value) {
  std::fprintf(out_, "%-12s %s\n", name, value);
}

void TfOutput::header() {
  const bool synthetic = spec_.input.kind == InputKind::kSynthetic;
  const std::int64_t planned = spec_.steps.measured.value_or(0);
  const std::int64_t pictures = synthetic ? kImagenetPictures : dataset_pictures_;
  std::string devices = "[";
  for (std::int64_t rank = 0; rank < ranks_; ++rank) {
    devices += (rank == 0 ? "'/cpu:" : ", '/cpu:") + std::to_string(rank) + "'";
  }
  line("Rackmark:", RACKMARK_VERSION);
  line("Model:", spec_.model.c_str());
  line("Dataset:", synthetic ? "imagenet (synthetic)" : spec_.input.path->c_str());
  line("Mode:", "training");
  line("SingleSess:", "False");
  line("Batch size:", (std::to_string(spec_.batch_size * ranks_) + " global").c_str());
  line("", (std::to_string(spec_.batch_size) + " per device").c_str());
  line("Num batches:", std::to_string(planned).c_str());
  std::fprintf(out_, "%-12s %.2f\n", "Num epochs:",
               static_cast<double>(planned) * global_batch() / static_cast<double>(pictures));
  line("Devices:", (devices + "]").c_str());
  line("NUMA bind:", "False");
  line("Data format:", "NCHW");
  line("Optimizer:", spec_.optimizer.momentum > 0 ? "momentum" : "sgd");
  line("Variables:", variables_name(spec_));
  if (std::string(variables_name(spec_)) == "replicated") line("AllReduce:", "mpi");
  std::fprintf(out_, "==========\n");
  std::fprintf(out_, "Generating training model\n");
  std::fflush(out_);
}

void TfOutput::warming_up() {
  std::fprintf(out_, "Running warm up\n");
  std::fflush(out_);
}

void TfOutput::done_warm_up() {
  std::fprintf(out_, "Done warm up\nStep\tImg/sec\ttotal_loss\n");
  std::fflush(out_);
}

void TfOutput::step(double step_s, double loss) {
  step_seconds_.push_back(step_s);
  const std::size_t number = step_seconds_.size();
  if (number != 1 && number % 10 != 0) return;
  const measure::TfSpeed speed = measure::tf_speed(step_seconds_, global_batch());
  std::fprintf(out_, "%zu\timages/sec: %.1f +/- %.1f (jitter = %.1f)\t%.3f\n", number,
               speed.images_per_second, speed.uncertainty, speed.jitter, loss);
  std::fflush(out_);
}

void TfOutput::total(double images_per_second) {
  std::fprintf(out_, "%s\ntotal images/sec: %.2f\n%s\n", kRule, images_per_second, kRule);
  std::fflush(out_);
}

}  // namespace rackmark::worker

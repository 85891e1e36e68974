#include "asked_convolutions.hpp"

#include <string>

#include "tests/worker/compare_inference.hpp"
#include "tests/worker/cuda/host_device.hpp"
#include "worker/backend/cuda/cuda_backend.hpp"
#include "worker/backend/cuda/plan/fusion.hpp"

namespace rackmark::worker::cuda {
namespace {

constexpr int kPlannedBatch = 2;  // so that plans of any net fit into this host's memory

void note_training(Backend& backend, const Net& net, const std::string& precision) {
  for (const std::string& fusion : fusion_names(precision)) {
    backend.compile(net, {.batch = kPlannedBatch, .precision = precision, .fusion = fusion});
  }
}

void note_inference(Backend& backend, const Net& net, const std::string& precision) {
  const TrainedValues values = worker::test::make_values(net);
  for (const std::string fusion : {"", "none"}) {
    InferOptions options{.batch = kPlannedBatch, .precision = precision, .fusion = fusion};
    if (precision == kIntegers.name) {
      options.calibration.push_back(worker::test::make_images(net, kPlannedBatch, 1));
    }
    backend.compile_inference(net, options, values);
  }
}

}  // namespace

std::set<ConvolutionTask> convolutions_of(const Net& net, int batch, const ConvolutionKind& kind) {
  std::set<ConvolutionTask> tasks;
  test::HostDeviceOptions device;
  device.convolution_ms = [&](ConvolutionTask task) -> std::optional<double> {
    task.images = batch;
    if (task.type == kind.type) tasks.insert(task);  // calibration is in float32
    return std::nullopt;
  };
  const auto backend = make_cuda_backend({.why_none = [] { return std::string(); },
                                          .open = [&] { return test::make_host_device(device); },
                                          .open_file_decoder = {}});
  if (kind.type != Type::kInteger) note_training(*backend, net, kind.name);
  note_inference(*backend, net, kind.name);
  return tasks;
}

}  // namespace rackmark::worker::cuda

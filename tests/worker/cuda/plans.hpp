// Plans of the GPU backend on the host device.
#pragma once

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "host_device.hpp"
#include "tests/worker/compare_inference.hpp"
#include "worker/backend/cuda/cuda_backend.hpp"

namespace rackmark::worker::test {

inline std::unique_ptr<Backend> host_cuda_backend(
    const cuda::test::HostDeviceOptions& options = {}) {
  return make_cuda_backend({.why_none = [] { return std::string(); },
                            .open = [=] { return cuda::test::make_host_device(options); },
                            .open_file_decoder = {}});
}

inline std::unique_ptr<TrainPlan> cuda_plan(const Net& net, PlanOptions options) {
  auto plan = host_cuda_backend()->compile(net, options);
  fill(*plan);
  return plan;
}

// A batch as it comes from files, with windows that differ.
struct RawData {
  std::vector<std::uint8_t> pixels;
  std::vector<PictureWindow> windows;
  std::vector<std::int32_t> labels;
  int side = 0;
  RawPictures raw() const { return {pixels, windows, side}; }
  Batch batch() const { return {.labels = labels, .raw = raw()}; }
};

inline RawData make_raw_data(const Net& net, int batch, int side, int seed) {
  RawData data;
  data.side = side;
  for (const float x :
       uniform(std::to_string(seed) + ":bytes", std::int64_t{batch} * side * side * 3))
    data.pixels.push_back(static_cast<std::uint8_t>(std::abs(x) * 255));
  const int room = side - net.nodes()[0].shape.width + 1;
  for (int n = 0; n < batch; ++n) data.windows.push_back({(3 * n + seed) % room, n % room, n % 2});
  data.labels = make_data(net, batch, seed).labels;
  return data;
}

inline Data normalised(const Net& net, const RawData& raw) {
  Data data{.images = {}, .labels = raw.labels};
  const auto& shape = net.nodes()[0].shape;
  data.images.resize(raw.windows.size() * static_cast<std::size_t>(shape.elements()));
  normalise(raw.raw(), shape.width, data.images);
  return data;
}

}  // namespace rackmark::worker::test

#include "worker/backend/cuda/plan/op.hpp"

namespace rackmark::worker::cuda {

Matrix Binding::matrix(const Place& place) const {
  if (!place.exists()) return {};
  return {static_cast<std::byte*>(address(place.slot)) + place.offset * width(place.type),
          place.rows, place.channels, place.stride};
}

void Pass::run(const std::string& node, const char* pass, const std::string& implementation,
               double flop, double bytes, const std::function<void()>& work) {
  if (times == nullptr) return work();
  const auto begin = device.make_mark(), end = device.make_mark();
  begin->set();
  work();
  end->set();
  end->wait();
  times->push_back({.node = node,
                    .pass = pass,
                    .implementation = implementation,
                    .ms = end->ms_since(*begin),
                    .gflop = flop * 1e-9,
                    .bytes = bytes});
}

std::shared_ptr<Convolution> Engines::find(const ConvolutionTask& task) {
  auto& found = convolutions_[task];
  if (!found) found = device_.prepare(task);
  workspace_bytes_ = std::max(workspace_bytes_, found->workspace_bytes());
  return found;
}

std::shared_ptr<Product> Engines::find(const ProductTask& task) {
  auto& found = products_[task];
  if (!found) found = device_.prepare(task);
  workspace_bytes_ = std::max(workspace_bytes_, found->workspace_bytes());
  return found;
}

}  // namespace rackmark::worker::cuda

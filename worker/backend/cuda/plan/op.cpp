#include "worker/backend/cuda/plan/op.hpp"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <utility>

namespace rackmark::worker::cuda {
namespace {

// From the host: some 40 us.
constexpr std::int64_t kOccupyingBytes = std::int64_t{2} << 20, kClearedBytes = 256;

class Unrecorded final : public Recording {
 public:
  explicit Unrecorded(std::function<void()> work) : work_(std::move(work)) {}
  void replay() override { work_(); }

 private:
  std::function<void()> work_;
};

}  // namespace

Matrix Binding::matrix(const Place& place) const {
  if (!place.exists()) return {};
  return {static_cast<std::byte*>(address(place.slot)) + place.offset * width(place.type),
          place.rows, place.channels, place.stride};
}

NarrowNorm narrow_norm(const Binding& where, const NormInConvolution& norm) {
  auto* scale = static_cast<std::byte*>(where.address(norm.narrow_slot));
  return {scale, scale + norm.x.channels * width(norm.x.type)};
}

Stopwatch::Stopwatch(Device& device)
    : device_(device),
      from_(device.allocate_host(kOccupyingBytes)),
      to_(device.allocate(kOccupyingBytes)),
      begin_(device.make_mark()),
      end_(device.make_mark()) {}

void Stopwatch::occupy_queue() {
  device_.upload(to_.get(), from_.get(), kOccupyingBytes);
  device_.clear(to_.get(), kClearedBytes);  // what follows a copy waits for the copying unit
}

void Stopwatch::time(OpTime row, const std::function<void()>& work) {
  occupy_queue();
  begin_->set();
  work();
  end_->set();
  end_->wait();
  row.ms = end_->ms_since(*begin_);
  rows_.push_back(std::move(row));
}

bool step_by_step() { return std::getenv("RACKMARK_CUDA_STEP_BY_STEP") != nullptr; }

std::unique_ptr<Recording> record(Device& device, const std::function<void()>& work) {
  if (step_by_step()) return std::make_unique<Unrecorded>(work);
  return device.record(work);
}

void Pass::run(const std::string& node, const char* pass, const std::string& implementation,
               double flop, double bytes, const std::function<void()>& work) {
  const auto give = [&] {
    if (stopwatch == nullptr) return work();
    stopwatch->time({.node = node,
                     .pass = pass,
                     .implementation = implementation,
                     .gflop = flop * 1e-9,
                     .bytes = bytes},
                    work);
  };
  if (!step_by_step()) return give();
  try {
    give();
    device.wait();
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(node + " " + pass + ", " + implementation + ": " + error.what());
  }
}

std::shared_ptr<Convolution> Engines::find(const ConvolutionTask& task) {
  auto& found = convolutions_[task];
  if (!found) found = device_.prepare(task);
  workspace_bytes_ = std::max(workspace_bytes_, found->workspace_bytes());
  return found;
}

std::shared_ptr<Convolution> Engines::find_if_served(const ConvolutionTask& task) {
  if (not_served_.contains(task)) return nullptr;
  try {
    return find(task);
  } catch (const NoEngine&) {
    not_served_.insert(task);
    return nullptr;
  }
}

std::shared_ptr<Product> Engines::find(const ProductTask& task) {
  auto& found = products_[task];
  if (!found) found = device_.prepare(task);
  workspace_bytes_ = std::max(workspace_bytes_, found->workspace_bytes());
  return found;
}

}  // namespace rackmark::worker::cuda

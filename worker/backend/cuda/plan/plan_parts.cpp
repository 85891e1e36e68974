#include "worker/backend/cuda/plan/plan_parts.hpp"

#include <stdexcept>
#include <utility>

namespace rackmark::worker::cuda {

PlanParts::PlanParts(const Net& net, int batch, const Precision& precision, const Fusion& fusion)
    : net_(net),
      fusion_(fusion),
      precision_(precision),
      assembly_(net_, batch, precision_.type, precision_.arithmetic) {
  if (batch < 1) {
    throw std::invalid_argument("cuda: batch " + std::to_string(batch) + " must be at least 1");
  }
  if (net_.heads().empty()) throw std::invalid_argument("cuda: the net has no loss");
}

void PlanParts::open(std::shared_ptr<Device> device, std::int64_t most_bytes) {
  const std::int64_t free = device->free_bytes();
  if (most_bytes > free) throw OutOfMemory(most_bytes, {free, kGpuMemory});
  device_ = std::move(device);
}

void PlanParts::keep_logits() {
  assembly_.arena.keep(assembly_.values[net_.heads()[0].node].place.slot);
}

std::vector<double> PlanParts::read_logits(const std::byte* arena) const {
  const Place& place = assembly_.values[net_.heads()[0].node].place;
  std::vector<float> values(static_cast<std::size_t>(place.rows * place.channels));
  device_->download(values.data(), arena + assembly_.arena.offset(place.slot), place.bytes());
  return {values.begin(), values.end()};
}

PlanFacts PlanParts::device_facts(std::int64_t bytes) const {
  const DeviceFacts device = device_->facts();
  PlanFacts facts;
  facts.backend = "cuda";
  facts.isa = device.architecture;
  facts.fusion = fusion_text(fusion_);
  facts.libraries = device.libraries;
  facts.arena_bytes = bytes;
  facts.threads = 1;
  facts.notes["gpu"] = device.name;
  return facts;
}

Pass PlanParts::make_pass(void* workspace, bool training, Stopwatch* stopwatch) const {
  return {.device = *device_,
          .kernels = device_->kernels(precision_.type),
          .floats = device_->kernels(Type::kFloat),
          .queue = device_->queue(),
          .workspace = workspace,
          .training = training,
          .ready = [](int) {},
          .stopwatch = stopwatch};
}

}  // namespace rackmark::worker::cuda

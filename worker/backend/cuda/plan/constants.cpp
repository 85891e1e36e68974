#include "worker/backend/cuda/plan/constants.hpp"

namespace rackmark::worker::cuda {

void write_values(Device& device, const std::vector<float>& values, Type type, std::byte* to) {
  const std::int64_t count = std::ssize(values);
  if (type == Type::kFloat) return device.upload(to, values.data(), 4 * count);
  const auto wide = device.allocate(4 * count);
  device.upload(wide.get(), values.data(), 4 * count);
  device.kernels(type).narrow(device.queue(),
                              {reinterpret_cast<const float*>(wide.get()), to, count});
  device.wait();  // before `wide` goes
}

}  // namespace rackmark::worker::cuda

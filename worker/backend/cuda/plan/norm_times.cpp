#include "worker/backend/cuda/plan/norm_times.hpp"

#include <memory>
#include <string>
#include <vector>

#include "worker/backend/cuda/device/random_values.hpp"

namespace rackmark::worker::cuda {
namespace {

// Memory for one kernel over a value like x.
class Room {
 public:
  Room(Device& device, const Place& x) : device_(device), x_(x) {}
  Matrix matrix() {
    return {drawn(x_.type, x_.rows * x_.channels * width(x_.type)), x_.rows, x_.channels,
            x_.channels};
  }
  float* by_channel() {
    return reinterpret_cast<float*>(drawn(Type::kFloat, std::int64_t{x_.channels} * 4));
  }
  float* partial() {
    return floats(std::int64_t{2} * x_.channels * sum_blocks(x_.rows, x_.channels));
  }
  std::uint8_t* mask() {
    const std::int64_t bytes = mask_bytes(x_.rows, x_.channels);
    return reinterpret_cast<std::uint8_t*>(drawn(Type::kInteger, bytes));
  }

 private:
  float* floats(std::int64_t count) { return reinterpret_cast<float*>(take(count * 4)); }
  std::byte* drawn(Type type, std::int64_t bytes) {
    std::byte* at = take(bytes);
    fill_randomly(device_, type, at, bytes);
    return at;
  }
  std::byte* take(std::int64_t bytes) { return held_.emplace_back(device_.allocate(bytes)).get(); }

  Device& device_;
  Place x_;
  std::vector<std::shared_ptr<std::byte>> held_;
};

template <class Arguments>
std::optional<double> kernel_ms(Device& device, const char* name, const Place& x,
                                Kernel<Arguments> Kernels::*kernel, Arguments (*make)(Room&)) {
  const std::string shape = std::string(arithmetic_name(x.type, Arithmetic::kFull)) + " " +
                            std::to_string(x.rows) + "x" + std::to_string(x.channels);
  return device.kernel_ms(std::string(name) + " " + shape, [&]() -> Device::Work {
    const auto room = std::make_shared<Room>(device, x);
    return [&device, room, work = make(*room), run = device.kernels(x.type).*kernel] {
      run(device.queue(), work);
    };
  });
}

}  // namespace

std::optional<double> norm_sums_ms(Device& device, const Place& x) {
  return kernel_ms<NormSums>(device, "norm_sums", x, &Kernels::norm_sums,
                             [](Room& room) -> NormSums {
                               return {room.matrix(), room.partial()};
                             });
}

std::optional<double> norm_apply_ms(Device& device, const Place& x) {
  return kernel_ms<NormApply>(device, "norm_apply", x, &Kernels::norm_apply,
                              [](Room& room) -> NormApply {
                                return {.x = room.matrix(),
                                        .y = room.matrix(),
                                        .scale = room.by_channel(),
                                        .shift = room.by_channel(),
                                        .relu = true,
                                        .mask = room.mask()};
                              });
}

std::optional<double> norm_backward_sums_ms(Device& device, const Place& x) {
  return kernel_ms<NormBackwardSums>(device, "norm_backward_sums", x, &Kernels::norm_backward_sums,
                                     [](Room& room) -> NormBackwardSums {
                                       return {.dy = room.matrix(),
                                               .x = room.matrix(),
                                               .mask = room.mask(),
                                               .mean = room.by_channel(),
                                               .partial = room.partial()};
                                     });
}

}  // namespace rackmark::worker::cuda

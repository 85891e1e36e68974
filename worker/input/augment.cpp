#include "worker/input/augment.hpp"

#include "worker/net/net.hpp"

namespace rackmark::worker {

PictureWindow choose_window(const Augment& augment, std::int64_t side, std::int64_t size,
                            std::int64_t seed, std::int64_t epoch, std::int64_t index) {
  std::uint64_t key = 0;
  for (const std::int64_t part : {seed, epoch, index}) {
    key = splitmix64(key ^ static_cast<std::uint64_t>(part));
  }
  const auto slack = static_cast<std::uint64_t>(side - size);
  const auto place = [&](std::uint64_t draw) {
    const std::uint64_t at = augment.crop ? splitmix64(key + draw) % (slack + 1) : slack / 2;
    return static_cast<std::int32_t>(at);
  };
  PictureWindow window;
  window.top = place(1);
  window.left = place(2);
  window.mirrored = augment.flip ? static_cast<std::int32_t>(splitmix64(key + 3) >> 63) : 0;
  return window;
}

}  // namespace rackmark::worker

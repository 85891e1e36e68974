#include "worker/backend/cuda/device/ceilings.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "worker/backend/backend.hpp"
#include "worker/backend/cuda/device/random_values.hpp"

namespace rackmark::worker::cuda {
namespace {

struct ProductSize {
  std::int64_t rows, columns, inner;
};
constexpr std::array kProductSizes{ProductSize{4096, 4096, 4096}, ProductSize{8192, 8192, 4096},
                                   ProductSize{8192, 8192, 8192}, ProductSize{16384, 8192, 4096}};

// Block by block, so that the host keeps little.
void fill_randomly(Device& device, Type type, std::byte* to, std::int64_t bytes) {
  constexpr std::int64_t kBlock = std::int64_t{8} << 20;
  const auto block = random_values(type, kBlock / width(type));
  for (std::int64_t at = 0; at < bytes; at += kBlock) {
    device.upload(to + at, block.data(), std::min(kBlock, bytes - at));
  }
  device.wait();
}

// Milliseconds of the fastest of several runs.
double best_ms(Device& device, double seconds, const std::function<void()>& work) {
  work();
  device.wait();
  const auto begin = device.make_mark(), end = device.make_mark();
  double best = 0, spent = 0;
  while (spent < seconds * 1000) {
    begin->set();
    work();
    end->set();
    end->wait();
    const double ms = end->ms_since(*begin);
    best = best == 0 ? ms : std::min(best, ms);
    spent += std::max(ms, 1e-3);
  }
  return best;
}

ProductRate product_rate(Device& device, Type type, Arithmetic arithmetic, const ProductSize& size,
                         double seconds) {
  const auto& [rows, columns, inner] = size;
  const ProductTask task{.type = type,
                         .arithmetic = arithmetic,
                         .rows = rows,
                         .columns = columns,
                         .inner = inner,
                         .transpose_b = true};
  const auto product = device.prepare(task);
  const auto a = device.allocate(rows * inner * width(type)),
             b = device.allocate(inner * columns * width(type)),
             c = device.allocate(rows * columns * width(type)),
             workspace = device.allocate(product->workspace_bytes());
  fill_randomly(device, type, a.get(), rows * inner * width(type));
  fill_randomly(device, type, b.get(), inner * columns * width(type));
  const double ms = best_ms(device, seconds, [&] {
    product->run({.a = a.get(), .b = b.get(), .c = c.get()}, workspace.get());
  });
  return {.gflops = task.flop() / ms / 1e6,
          .what = std::to_string(rows) + " x " + std::to_string(columns) + " x " +
                  std::to_string(inner),
          .implementation = product->implementation()};
}

}  // namespace

ProductRate fastest_product(Device& device, Type type, Arithmetic arithmetic, double seconds) {
  ProductRate best;
  std::optional<OutOfMemory> no_room;
  for (const ProductSize& size : kProductSizes) {
    try {
      const ProductRate rate =
          product_rate(device, type, arithmetic, size, seconds / kProductSizes.size());
      if (rate.gflops > best.gflops) best = rate;
    } catch (const OutOfMemory& error) {
      no_room = error;
    }
  }
  if (best.gflops == 0 && no_room) throw OutOfMemory(*no_room);
  return best;
}

double copy_rate(Device& device, std::int64_t bytes, double seconds) {
  constexpr int kChannels = 1024;
  const auto from = device.allocate(bytes), to = device.allocate(bytes);
  fill_randomly(device, Type::kFloat, from.get(), bytes);
  const auto matrix = [&](std::byte* data) {
    return Matrix{.data = data,
                  .rows = bytes / width(Type::kFloat) / kChannels,
                  .channels = kChannels,
                  .stride = kChannels};
  };
  const Copy copy{.from = matrix(from.get()), .to = matrix(to.get())};
  const double ms =
      best_ms(device, seconds, [&] { device.kernels(Type::kFloat).copy(device.queue(), copy); });
  const double copied = 2.0 * static_cast<double>(copy.from.rows) * kChannels * width(Type::kFloat);
  return copied / ms / 1e6;
}

}  // namespace rackmark::worker::cuda

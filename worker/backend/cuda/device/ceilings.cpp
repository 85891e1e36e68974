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

// Of a quantity that every run gets done.
Rates rates_of(double quantity, std::vector<double> ms) {
  std::sort(ms.begin(), ms.end());
  return {.best = quantity / ms.front(),
          .median = quantity / ms[ms.size() / 2],
          .worst = quantity / ms.back(),
          .runs = std::ssize(ms)};
}

// Milliseconds of runs, after some that wake up the GPU's clock. Short ones are timed several at a
// time, so that what the host takes to give them is not in the times.
std::vector<double> times_of(Device& device, double seconds, const std::function<void()>& work) {
  constexpr double kWarmUpMs = 30, kTogetherMs = 2, kLeastMs = 1e-3;
  constexpr int kMostTogether = 64;
  const auto begin = device.make_mark(), end = device.make_mark();
  const auto time_of = [&](int runs) {
    begin->set();
    for (int run = 0; run < runs; ++run) work();
    end->set();
    end->wait();
    return std::max(end->ms_since(*begin), kLeastMs) / runs;
  };
  time_of(1);  // its kernels are loaded
  double one = time_of(1);
  for (double warm = one; warm < kWarmUpMs; warm += one) one = time_of(1);
  const int together = std::clamp(static_cast<int>(kTogetherMs / one), 1, kMostTogether);
  std::vector<double> times;
  double spent = 0;
  do {
    times.push_back(time_of(together));
    spent += times.back() * together;
  } while (spent < seconds * 1000);
  return times;
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
             c = device.allocate(task.result_bytes()),
             workspace = device.allocate(product->workspace_bytes());
  fill_randomly(device, type, a.get(), rows * inner * width(type));
  fill_randomly(device, type, b.get(), inner * columns * width(type));
  const auto ms = times_of(device, seconds, [&] {
    product->run({.a = a.get(), .b = b.get(), .c = c.get()}, workspace.get());
  });
  return {.gflops = rates_of(task.flop() / 1e6, ms),
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
      if (rate.gflops.best > best.gflops.best) best = rate;
    } catch (const OutOfMemory& error) {
      no_room = error;
    }
  }
  if (best.gflops.runs == 0 && no_room) throw OutOfMemory(*no_room);
  return best;
}

Rates copy_rate(Device& device, std::int64_t bytes, double seconds) {
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
  const auto ms =
      times_of(device, seconds, [&] { device.kernels(Type::kFloat).copy(device.queue(), copy); });
  const double copied = 2.0 * static_cast<double>(copy.from.rows) * kChannels * width(Type::kFloat);
  return rates_of(copied / 1e6, ms);
}

}  // namespace rackmark::worker::cuda

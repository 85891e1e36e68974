// 16-bit rounding against a scalar oracle that works on real numbers, for every instruction set
// that this host has, with denormals flushed as in a run.
#include "worker/collective/kernels/exchange_kernels.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "worker/train/cpus.hpp"

namespace rackmark::worker {
namespace {

struct Format {  // of a 16-bit float
  int exponent_bits, fraction_bits;
  int bias() const { return (1 << (exponent_bits - 1)) - 1; }
};
constexpr Format kBf16{8, 7}, kFp16{5, 10};

double value_of(Format f, std::uint16_t half) {
  const int exponent = half >> f.fraction_bits & ((1 << f.exponent_bits) - 1);
  const int fraction = half & ((1 << f.fraction_bits) - 1);
  const double sign = half & 0x8000 ? -1 : 1;
  if (exponent == (1 << f.exponent_bits) - 1) {
    return fraction ? std::numeric_limits<double>::quiet_NaN()
                    : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - f.bias() - f.fraction_bits);
  return sign *
         std::ldexp(fraction + (1 << f.fraction_bits), exponent - f.bias() - f.fraction_bits);
}

// The nearest representable value; of two the one with an even last bit. std::nearbyint does ties
// to even on the value measured in units of its last place.
double rounded(Format f, double value) {
  if (std::isnan(value) || std::isinf(value)) return value;
  const int least = 1 - f.bias() - f.fraction_bits;
  const int unit = value == 0 ? least : std::max(least, std::ilogb(value) - f.fraction_bits);
  const double near = std::ldexp(std::nearbyint(std::ldexp(value, -unit)), unit);
  const double largest =
      value_of(f, static_cast<std::uint16_t>(((1 << f.exponent_bits) - 1) << f.fraction_bits) - 1);
  if (std::abs(near) <= largest) return near;
  return std::copysign(std::numeric_limits<double>::infinity(), value);
}

std::vector<float> hard_values() {
  std::vector<float> values = {0.0F,
                               -0.0F,
                               1.0F,
                               65504.0F,
                               65519.99F,
                               65520.0F,
                               1e38F,
                               0x1p-24F,
                               0x1p-25F,
                               0x1.000002p-25F,
                               0x1.8p-24F,
                               0x1p-14F,
                               0x1.ffcp-15F,
                               0x1.ffep-15F,
                               std::numeric_limits<float>::infinity(),
                               std::numeric_limits<float>::max(),
                               0x1.ffp127F,
                               0x1.fep127F,
                               std::numeric_limits<float>::min()};
  // Around every 16-bit value of both kinds: itself, the ties beside it, and one bit off the ties.
  for (std::uint32_t half = 0; half < 0x8000; ++half) {
    for (const Format f : {kBf16, kFp16}) {
      const auto value = static_cast<float>(value_of(f, static_cast<std::uint16_t>(half)));
      if (!std::isfinite(value)) continue;
      const auto next = static_cast<float>(value_of(f, static_cast<std::uint16_t>(half + 1)));
      const float tie = std::isfinite(next) ? (value + next) / 2 : value;
      values.insert(values.end(), {value, tie, std::nextafter(tie, 0.0F),
                                   std::nextafter(tie, std::numeric_limits<float>::infinity())});
    }
  }
  std::mt19937 random(7);
  for (int i = 0; i < 200000; ++i)
    values.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(random())));
  const std::size_t count = values.size();
  for (std::size_t i = 0; i < count; ++i) values.push_back(-values[i]);
  return values;
}

class Rounding : public ::testing::TestWithParam<const ExchangeKernels*> {
 protected:
  const ExchangeKernels* kernels_ = GetParam();
};

TEST_P(Rounding, ToSixteenBitsIsNearestTiesToEven) {
  const std::vector<float> values = hard_values();
  const auto count = static_cast<std::int64_t>(values.size());
  std::vector<std::uint16_t> bf16(values.size()), fp16(values.size());
  // In a thread of its own: the oracle needs denormals, a run flushes them.
  std::thread([&] {
    flush_denormals();
    kernels_->to_bf16(values.data(), bf16.data(), count);
    kernels_->to_fp16(values.data(), fp16.data(), count);
  }).join();
  std::int64_t wrong = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto good = [&](Format f, std::uint16_t got) {
      const double wanted = rounded(f, double{values[i]}), found = value_of(f, got);
      return std::isnan(wanted) ? std::isnan(found)
                                : wanted == found && std::signbit(wanted) == std::signbit(found);
    };
    for (const bool right : {good(kBf16, bf16[i]), good(kFp16, fp16[i])}) {
      if (right) continue;
      if (++wrong < 10) {
        ADD_FAILURE() << std::hexfloat << values[i] << " bf16 " << std::hex << bf16[i] << " fp16 "
                      << fp16[i];
      }
    }
  }
  EXPECT_EQ(wrong, 0);
}

TEST_P(Rounding, FromSixteenBitsIsExactAndBack) {
  std::vector<std::uint16_t> all(65536), back(65536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  std::vector<float> values(all.size()), sums(all.size(), 1.5F);
  const auto check = [&](Format f, auto from, auto to, auto add) {
    std::fill(sums.begin(), sums.end(), 1.5F);
    std::thread([&] {
      flush_denormals();
      from(all.data(), values.data(), 65536);
      to(values.data(), back.data(), 65536);
      add(all.data(), sums.data(), 65536);
    }).join();
    for (std::size_t i = 0; i < all.size(); ++i) {
      const double wanted = value_of(f, all[i]);
      if (std::isnan(wanted)) {
        ASSERT_TRUE(std::isnan(values[i])) << i;
        continue;
      }
      ASSERT_EQ(static_cast<float>(wanted), values[i]) << i;
      ASSERT_EQ(back[i], all[i]) << i;
      ASSERT_EQ(sums[i], 1.5F + static_cast<float>(wanted)) << i;
    }
  };
  check(kFp16, kernels_->from_fp16, kernels_->to_fp16, kernels_->add_fp16);
  check(kBf16, kernels_->from_bf16, kernels_->to_bf16, kernels_->add_bf16);
}

TEST_P(Rounding, OddLengthsTouchNothingBeyond) {
  for (std::int64_t count = 0; count <= 32; ++count) {
    std::vector<float> values(64, 2.0F);
    std::vector<std::uint16_t> halves(64, 0xabcd);
    kernels_->to_fp16(values.data(), halves.data(), count);
    kernels_->from_fp16(halves.data(), values.data(), count);
    kernels_->scale(values.data(), 0.5F, count);
    kernels_->add(values.data(), values.data() + 64 - count, count);
    for (std::int64_t i = 0; i < 64; ++i) {
      ASSERT_EQ(halves[static_cast<std::size_t>(i)], i < count ? 0x4000 : 0xabcd) << count;
    }
  }
}

std::vector<const ExchangeKernels*> tables_of_this_host() {
  std::vector<const ExchangeKernels*> tables = {baseline_exchange_kernels(),
                                                avx2_exchange_kernels(), avx512_exchange_kernels()};
  std::erase(tables, nullptr);
  return tables;
}
INSTANTIATE_TEST_SUITE_P(Isa, Rounding, ::testing::ValuesIn(tables_of_this_host()),
                         [](const auto& table) { return std::string(table.param->isa); });

}  // namespace
}  // namespace rackmark::worker

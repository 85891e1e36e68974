// Matrices of every stored type for tests of the kernels, read and written as doubles. How a type
// rounds is stated here once more, in arithmetic of double alone.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "worker/backend/cuda/kernels/kernels.hpp"

namespace rackmark::worker::cuda::testing {

struct Format {
  int precision;    // bits of the significand, the hidden one included
  int least, most;  // exponents of the smallest normal and of the largest value
};
inline Format format_of(Type type) {
  return type == Type::kFloat  ? Format{24, -126, 127}
         : type == Type::kHalf ? Format{11, -14, 15}
                               : Format{8, -126, 127};
}
inline const char* name_of(Type type) {
  constexpr const char* kNames[] = {"float", "half", "bfloat", "integer"};
  return kNames[static_cast<int>(type)];
}

// To the nearest value of the type, of two the even one (the rounding mode of nearbyint).
inline double rounded(Type type, double x) {
  if (type == Type::kInteger) return std::nearbyint(std::clamp(x, -128.0, 127.0));
  if (!std::isfinite(x) || x == 0) return x;
  const Format f = format_of(type);
  const int exponent = std::max(std::ilogb(x), f.least);
  const double unit = std::ldexp(1.0, exponent - f.precision + 1);
  const double y = std::nearbyint(x / unit) * unit;
  return std::abs(y) >= std::ldexp(1.0, f.most + 1)
             ? std::copysign(std::numeric_limits<double>::infinity(), x)
             : y;
}

// The value of a bit pattern of 16 bits.
inline double decoded(Type type, std::uint16_t bits) {
  const Format f = format_of(type);
  const int fraction_bits = f.precision - 1;
  const int fraction = bits & ((1 << fraction_bits) - 1);
  const int exponent = (bits & 0x7FFF) >> fraction_bits;
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == 2 * f.most + 1) {
    return fraction != 0 ? std::numeric_limits<double>::quiet_NaN()
                         : sign * std::numeric_limits<double>::infinity();
  }
  const int whole = exponent == 0 ? fraction : fraction + (1 << fraction_bits);
  return sign * std::ldexp(whole, std::max(exponent, 1) - f.most - fraction_bits);
}
// Its inverse, for a value of the type.
inline std::uint16_t encoded(Type type, double x) {
  const Format f = format_of(type);
  const int fraction_bits = f.precision - 1, top = (2 * f.most + 1) << fraction_bits;
  int bits = 0;
  if (std::isnan(x)) {
    bits = top + (1 << (fraction_bits - 1));
  } else if (std::isinf(x)) {
    bits = top;
  } else if (x != 0) {
    const int exponent = std::max(std::ilogb(x), f.least);
    const auto whole = static_cast<int>(std::ldexp(std::abs(x), fraction_bits - exponent));
    bits = whole + ((exponent + f.most - 1) << fraction_bits);  // carries the hidden bit
  }
  return static_cast<std::uint16_t>(bits | (std::signbit(x) ? 0x8000 : 0));
}

// How far a stored result may be from the true one: half a unit of the type, and what float sums
// may lose on the way.
inline double tolerance(Type type, double expected, double magnitude = 1) {
  const double unit = type == Type::kFloat ? 0x1p-22 : std::ldexp(1.0, -format_of(type).precision);
  return 1.01 * unit * std::abs(expected) + 2e-6 * magnitude;
}

// `rows` x `channels` in rows of `stride` values, `first` values into each. What lies between
// belongs to others. Exactly as large as that, so that a sanitizer sees one value too far.
class Stored {
 public:
  Stored() = default;
  Stored(Type type, std::int64_t rows, int channels, std::int64_t stride = 0, int first = 0)
      : type_(type),
        rows_(rows),
        channels_(channels),
        stride_(stride == 0 ? channels : stride),
        first_(first),
        bytes_(static_cast<std::size_t>(rows_ * stride_ * width(type)), 0x5A) {}

  Matrix matrix() { return {at(0, 0), rows_, channels_, stride_}; }
  std::int64_t rows() const { return rows_; }
  int channels() const { return channels_; }

  double get(std::int64_t row, int channel) const {
    const std::uint8_t* from = const_cast<Stored*>(this)->at(row, channel);
    if (type_ == Type::kFloat) {
      float x = 0;
      std::memcpy(&x, from, sizeof x);
      return x;
    }
    if (type_ == Type::kInteger) return static_cast<std::int8_t>(*from);
    std::uint16_t bits = 0;
    std::memcpy(&bits, from, sizeof bits);
    return decoded(type_, bits);
  }
  void set(std::int64_t row, int channel, double x) {
    const double y = rounded(type_, x);
    if (type_ == Type::kInteger) {
      *at(row, channel) = static_cast<std::uint8_t>(static_cast<int>(y));
      return;
    }
    const auto as_float = static_cast<float>(y);
    const std::uint16_t bits = type_ == Type::kFloat ? 0 : encoded(type_, y);
    if (type_ == Type::kFloat) {
      std::memcpy(at(row, channel), &as_float, sizeof as_float);
    } else {
      std::memcpy(at(row, channel), &bits, sizeof bits);
    }
  }
  template <class Value>  // value(row, channel)
  Stored& fill(const Value& value) {
    for (std::int64_t row = 0; row < rows_; ++row) {
      for (int c = 0; c < channels_; ++c) set(row, c, value(row, c));
    }
    return *this;
  }
  // Whether what lies between the rows is as it was.
  bool others_untouched() const {
    const std::int64_t bytes = width(type_);
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(bytes_.size()); ++i) {
      const std::int64_t column = i / bytes % stride_;
      const bool own = column >= first_ && column < first_ + channels_;
      if (!own && bytes_[static_cast<std::size_t>(i)] != 0x5A) return false;
    }
    return true;
  }

 private:
  std::uint8_t* at(std::int64_t row, int channel) {
    return bytes_.data() + (row * stride_ + first_ + channel) * width(type_);
  }

  Type type_ = Type::kFloat;
  std::int64_t rows_ = 0;
  int channels_ = 0;
  std::int64_t stride_ = 0;
  int first_ = 0;
  std::vector<std::uint8_t> bytes_;
};

// Numbers between -2 and 2, the same in every run.
class Draws {
 public:
  explicit Draws(unsigned seed = 1) : engine_(seed) {}
  double operator()() { return engine_() / 1073741824.0 - 2; }
  std::uint32_t bits() { return static_cast<std::uint32_t>(engine_()); }

 private:
  std::mt19937 engine_;
};

}  // namespace rackmark::worker::cuda::testing

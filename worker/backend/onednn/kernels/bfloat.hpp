// bf16: the upper half of a float32, rounded to nearest even. And how a plan stores its values.
//
// All functions are always inlined: a copy that was compiled for one instruction set must never be
// the one that the linker keeps for the others.
#pragma once

#include <cstdint>

namespace rackmark::worker::onednn {

struct Bfloat {
  std::uint16_t bits;
};

enum class Storage { kFloat, kBfloat };

[[gnu::always_inline]] inline float to_float(float x) { return x; }
[[gnu::always_inline]] inline float to_float(Bfloat x) {
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(x.bits) << 16);
}

[[gnu::always_inline]] inline void put(float& to, float x) { to = x; }
[[gnu::always_inline]] inline void put(Bfloat& to, float x) {
  const auto u = __builtin_bit_cast(std::uint32_t, x);
  const std::uint32_t rounded = (u + 0x7FFFU + ((u >> 16) & 1U)) >> 16;
  const bool nan = (u & 0x7FFFFFFFU) > 0x7F800000U;  // rounding could make infinity or 0 of it
  to.bits = static_cast<std::uint16_t>(nan ? (u >> 16) | 0x40U : rounded);
}

// The address of values that a plan stores, of either kind; offsets count values.
class Cells {
 public:
  Cells() = default;
  Cells(void* at, Storage storage) : at_(static_cast<char*>(at)), storage_(storage) {}
  operator void*() const { return at_; }  // NOLINT(google-explicit-constructor): kernels take it
  Cells operator+(std::int64_t values) const { return {at_ + values * width(), storage_}; }
  std::int64_t width() const { return storage_ == Storage::kBfloat ? 2 : 4; }  // bytes of one
  Storage storage() const { return storage_; }
  float value(std::int64_t i) const {  // for a few of them
    return storage_ == Storage::kBfloat ? to_float(as<Bfloat>()[i]) : as<float>()[i];
  }
  template <class T>
  T* as() const {
    return static_cast<T*>(static_cast<void*>(at_));
  }

 private:
  char* at_ = nullptr;
  Storage storage_ = Storage::kFloat;
};

// body(T{}) with the type in which values are stored.
template <class Body>
void by_storage(Storage storage, const Body& body) {
  storage == Storage::kBfloat ? body(Bfloat{}) : body(0.0F);
}

}  // namespace rackmark::worker::onednn

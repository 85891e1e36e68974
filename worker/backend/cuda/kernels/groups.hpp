// Rows are read and written eight channels at a time: with 16-bit values that is the widest load a
// GPU has, and the eight share one byte of a mask. Where channels, stride or address do not allow
// it, the same groups go value by value.
#pragma once

#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "worker/backend/cuda/kernels/kernels.hpp"
#include "worker/backend/cuda/kernels/numbers.hpp"

namespace rackmark::worker::cuda::bodies {

constexpr int kGroup = 8;
constexpr std::int64_t groups_of(std::int64_t values) { return (values + kGroup - 1) / kGroup; }

struct Span {  // channels of one group; `count` is kGroup, or less in a row's last group
  int first, count;
};

struct alignas(16) Words {
  std::uint32_t word[4];
};
#ifndef __CUDACC__
// The device would stop there, so the host does.
inline void refuse_misaligned(const void* at, std::uintptr_t bytes) {
  if (reinterpret_cast<std::uintptr_t>(at) % bytes != 0) std::abort();
}
#endif
RM_DEVICE Words load_words(const void* at) {
#ifdef __CUDACC__
  return *static_cast<const Words*>(at);
#else
  refuse_misaligned(at, sizeof(Words));
  Words words;
  std::memcpy(&words, at, sizeof words);
  return words;
#endif
}
RM_DEVICE void store_words(void* at, const Words& words) {
#ifdef __CUDACC__
  *static_cast<Words*>(at) = words;
#else
  refuse_misaligned(at, sizeof words);
  std::memcpy(at, &words, sizeof words);
#endif
}

// Eight bytes at a multiple of 8.
struct WholeBytes {
  static RM_DEVICE void store_bytes(std::uint8_t* at, int, const int (&x)[kGroup]) {
    std::uint32_t word[2] = {0, 0};
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) word[i / 4] |= static_cast<std::uint32_t>(x[i]) << (i % 4 * 8);
#ifdef __CUDACC__
    *reinterpret_cast<uint2*>(at) = make_uint2(word[0], word[1]);
#else
    refuse_misaligned(at, sizeof word);
    std::memcpy(at, word, sizeof word);
#endif
  }
  static RM_DEVICE void load_bytes(const std::uint8_t* at, int, int (&x)[kGroup]) {
    std::uint32_t word[2];
#ifdef __CUDACC__
    const uint2 both = *reinterpret_cast<const uint2*>(at);
    word[0] = both.x, word[1] = both.y;
#else
    refuse_misaligned(at, sizeof word);
    std::memcpy(word, at, sizeof word);
#endif
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) x[i] = static_cast<int>(word[i / 4] >> (i % 4 * 8) & 0xFFU);
  }
};

// Whole groups at addresses that are multiples of 16 bytes. `Raw` is a group as it was loaded: it
// takes half the registers of its floats, so that several can be on their way.
template <class T>
struct Vectors : WholeBytes {
  using Value = T;
  static constexpr bool kWhole = true;
  struct Raw {
    Words words;
  };

  static RM_DEVICE Raw load(const T* at, int) { return {load_words(at)}; }
  static RM_DEVICE void unpack(const Raw& raw, float (&x)[kGroup]) {
    RM_UNROLL
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t word = raw.words.word[i];
      x[2 * i] = to_float(T{static_cast<std::uint16_t>(word)});
      x[2 * i + 1] = to_float(T{static_cast<std::uint16_t>(word >> 16)});
    }
  }
  static RM_DEVICE void store(T* at, int, const float (&x)[kGroup]) {
    Words words;
    RM_UNROLL
    for (int i = 0; i < 4; ++i) words.word[i] = pair<T>(x[2 * i], x[2 * i + 1]);
    store_words(at, words);
  }
};

template <>
struct Vectors<float> : WholeBytes {
  using Value = float;
  static constexpr bool kWhole = true;
  struct Raw {
    Words low, high;
  };

  static RM_DEVICE Raw load(const float* at, int) { return {load_words(at), load_words(at + 4)}; }
  static RM_DEVICE void unpack(const Raw& raw, float (&x)[kGroup]) {
    RM_UNROLL
    for (int i = 0; i < 4; ++i) {
      x[i] = float_of(raw.low.word[i]);
      x[i + 4] = float_of(raw.high.word[i]);
    }
  }
  static RM_DEVICE void store(float* at, int, const float (&x)[kGroup]) {
    Words low, high;
    RM_UNROLL
    for (int i = 0; i < 4; ++i) {
      low.word[i] = bits_of(x[i]);
      high.word[i] = bits_of(x[i + 4]);
    }
    store_words(at, low);
    store_words(at + 4, high);
  }
};

template <>
struct Vectors<Integer> : WholeBytes {
  using Value = Integer;
  static constexpr bool kWhole = true;
  struct Raw {
    int byte[kGroup];
  };

  static RM_DEVICE Raw load(const Integer* at, int) {
    Raw raw;
    load_bytes(reinterpret_cast<const std::uint8_t*>(at), kGroup, raw.byte);
    return raw;
  }
  static RM_DEVICE void unpack(const Raw& raw, float (&x)[kGroup]) {
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i)
      x[i] = to_float(Integer{static_cast<std::int8_t>(raw.byte[i])});
  }
  static RM_DEVICE void store(Integer* at, int, const float (&x)[kGroup]) {
    int bytes[kGroup];
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) bytes[i] = integer_of(x[i]) & 0xFF;
    store_bytes(reinterpret_cast<std::uint8_t*>(at), kGroup, bytes);
  }
};

// Value by value; those beyond `count` read as zero and are not written.
template <class T>
struct Singles {
  using Value = T;
  static constexpr bool kWhole = false;
  struct Raw {
    float x[kGroup];
  };

  static RM_DEVICE Raw load(const T* at, int count) {
    Raw raw;
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) raw.x[i] = i < count ? to_float(at[i]) : 0.0F;
    return raw;
  }
  static RM_DEVICE void unpack(const Raw& raw, float (&x)[kGroup]) {
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) x[i] = raw.x[i];
  }
  static RM_DEVICE void store(T* at, int count, const float (&x)[kGroup]) {
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) {
      if (i < count) put(at[i], x[i]);
    }
  }
  static RM_DEVICE void store_bytes(std::uint8_t* at, int count, const int (&x)[kGroup]) {
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) {
      if (i < count) at[i] = static_cast<std::uint8_t>(x[i]);
    }
  }
  static RM_DEVICE void load_bytes(const std::uint8_t* at, int count, int (&x)[kGroup]) {
    RM_UNROLL
    for (int i = 0; i < kGroup; ++i) x[i] = i < count ? at[i] : 0;
  }
};

template <class Access>
RM_DEVICE void load(const typename Access::Value* at, int count, float (&x)[kGroup]) {
  Access::unpack(Access::load(at, count), x);
}

inline bool is_aligned(const void* at, std::uintptr_t bytes) {
  return reinterpret_cast<std::uintptr_t>(at) % bytes == 0;
}

// Whether all of these (null data: absent) can be taken in whole groups.
template <class T>
bool in_vectors(std::initializer_list<Matrix> all) {
  constexpr std::int64_t kBytes = sizeof(T) == 1 ? kGroup : 16;  // of a load
  for (const Matrix& m : all) {
    if (m.data == nullptr) continue;
    const auto row_bytes = m.stride * static_cast<std::int64_t>(sizeof(T));
    if (m.channels % kGroup != 0 || row_bytes % kBytes != 0 || !is_aligned(m.data, kBytes))
      return false;
  }
  return true;
}

// run(Vectors<T>{}) or run(Singles<T>{}).
template <class T, class Run>
void by_access(bool vectors, const Run& run) {
  vectors ? run(Vectors<T>{}) : run(Singles<T>{});
}

// A matrix as bodies see it. The row's offset is one multiplication of 32 x 32 bits.
template <class T>
struct View {
  T* data = nullptr;
  unsigned stride = 0;

  View() = default;
  explicit View(const Matrix& m)
      : data(static_cast<T*>(m.data)), stride(static_cast<unsigned>(m.stride)) {}
  RM_DEVICE T* at(unsigned row, int channel) const {
    return data + static_cast<std::uint64_t>(row) * stride + channel;
  }
  RM_DEVICE bool present() const { return data != nullptr; }
};

template <class Byte>
struct MaskView {
  Byte* data = nullptr;
  unsigned row_bytes = 0;

  MaskView() = default;
  MaskView(Byte* mask, int channels)
      : data(mask), row_bytes(static_cast<unsigned>(mask_row_bytes(channels))) {}
  RM_DEVICE Byte* at(unsigned row, Span span) const {
    return data + static_cast<std::uint64_t>(row) * row_bytes + span.first / kGroup;
  }
  RM_DEVICE bool present() const { return data != nullptr; }
};
using Mask = MaskView<const std::uint8_t>;
using WritableMask = MaskView<std::uint8_t>;

// ReLU of a group, and its mask where one is wanted. The bit of NaN is not set: as elsewhere, what
// lets gradients through is y > 0.
RM_DEVICE void rectify_group(float (&y)[kGroup], const WritableMask& mask, unsigned row,
                             Span span) {
  std::uint32_t bits = 0;
  RM_UNROLL
  for (int i = 0; i < kGroup; ++i) {
    if (i < span.count && y[i] > 0) bits |= 1U << i;
    y[i] = rectified(y[i]);
  }
  if (mask.present()) *mask.at(row, span) = static_cast<std::uint8_t>(bits);
}
RM_DEVICE void keep_masked(float (&x)[kGroup], std::uint32_t bits) {
  RM_UNROLL
  for (int i = 0; i < kGroup; ++i) {
    if ((bits >> i & 1U) == 0) x[i] = 0;
  }
}

// An array by channel, read once a thread.
RM_DEVICE void load_channels(const float* values, Span span, float (&x)[kGroup]) {
  const float* at = values + span.first;
#ifdef __CUDACC__
  if (span.count == kGroup && reinterpret_cast<std::uintptr_t>(at) % 16 == 0) {
    return load<Vectors<float>>(at, kGroup, x);
  }
#endif
  load<Singles<float>>(at, span.count, x);
}

}  // namespace rackmark::worker::cuda::bodies

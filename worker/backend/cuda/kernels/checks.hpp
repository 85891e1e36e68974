// What a kernel refuses: std::invalid_argument that names the kernel and what is wrong.
#pragma once

#include <limits>
#include <stdexcept>
#include <string>

#include "worker/backend/cuda/kernels/kernels.hpp"

namespace rackmark::worker::cuda::bodies {

inline void require(bool holds, const char* kernel, const char* otherwise) {
  if (!holds) throw std::invalid_argument(std::string(kernel) + ": " + otherwise);
}

// Bodies count rows and strides in 32 bits.
inline void require_counts(const char* kernel, const Matrix& m) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  require(m.rows >= 0 && m.rows <= kMost, kernel, "rows must be 0 to 2^31 - 1");
  require(m.channels > 0 && m.stride >= m.channels && m.stride <= kMost, kernel,
          "needs 0 < channels <= stride < 2^31");
}

inline void require_alike(const char* kernel, const Matrix& a, const Matrix& b) {
  require_counts(kernel, a);
  require_counts(kernel, b);
  require(a.data != nullptr && b.data != nullptr, kernel, "a matrix has no data");
  require(a.rows == b.rows && a.channels == b.channels, kernel,
          "matrices differ in rows or channels");
}

}  // namespace rackmark::worker::cuda::bodies

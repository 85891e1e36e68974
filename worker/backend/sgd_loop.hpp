// The arithmetic of one SGD step, once for a backend's own update and for a parameter server's:
// where both are compiled for the same instruction set they give the same bits.
#pragma once

#include <cstdint>

namespace rackmark::worker {

// g += decay * w; v = momentum * v + g; w -= rate * v. Always inlined: a copy of its own, compiled
// with AVX-512 in one file, could be the one that the linker keeps for the whole program.
__attribute__((always_inline)) static inline void sgd_loop(float* __restrict weights,
                                                           const float* __restrict gradients,
                                                           float* __restrict velocity,
                                                           std::int64_t count, float rate,
                                                           float momentum, float decay) {
  for (std::int64_t i = 0; i < count; ++i) {
    velocity[i] = momentum * velocity[i] + (gradients[i] + decay * weights[i]);
    weights[i] -= rate * velocity[i];
  }
}

}  // namespace rackmark::worker

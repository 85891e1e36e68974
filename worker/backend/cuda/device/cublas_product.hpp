// Matrix products through cuBLASLt.
#pragma once

#include <cublasLt.h>

#include <memory>

#include "worker/backend/cuda/device/cuda_queue.hpp"
#include "worker/backend/cuda/device/device.hpp"
#include "worker/backend/cuda/device/plan_cache.hpp"

namespace rackmark::worker::cuda {

inline constexpr std::int64_t kProductWorkspaceLimit = std::int64_t{64} << 20;

// The fastest of the algorithms that heuristics offer, as measured now or remembered in `cache`.
// Handle and queue outlive the product. Throws std::runtime_error naming the task when there is
// none.
std::unique_ptr<Product> make_product(cublasLtHandle_t handle, CudaQueue& queue, PlanCache& cache,
                                      const ProductTask& task);
// "product half 256x1000x2048 a b^t -> float": for errors, logs and cache keys.
std::string task_text(const ProductTask& task);

}  // namespace rackmark::worker::cuda

// Plans of the GPU backend on the host device.
#pragma once

#include <memory>
#include <string>

#include "host_device.hpp"
#include "tests/worker/compare_inference.hpp"
#include "worker/backend/cuda/cuda_backend.hpp"

namespace rackmark::worker::test {

inline std::unique_ptr<Backend> host_cuda_backend(std::int64_t memory_bytes = std::int64_t{4}
                                                                              << 30) {
  return make_cuda_backend(
      {[] { return std::string(); }, [=] { return cuda::test::make_host_device(memory_bytes); }});
}

// Plans whose devices exchange gradients among themselves, or leave that to the host.
inline std::unique_ptr<Backend> host_cuda_backend_in_groups(bool has_groups) {
  return make_cuda_backend(
      {[] { return std::string(); },
       [=] { return cuda::test::make_host_device(std::int64_t{4} << 30, has_groups); }});
}

inline std::unique_ptr<TrainPlan> cuda_plan(const Net& net, PlanOptions options) {
  auto plan = host_cuda_backend()->compile(net, options);
  fill(*plan);
  return plan;
}

}  // namespace rackmark::worker::test

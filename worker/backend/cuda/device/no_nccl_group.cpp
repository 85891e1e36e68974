// In the place of nccl_group.cpp where the build found no header of NCCL.
#include <stdexcept>

#include "worker/backend/cuda/device/nccl_group.hpp"

namespace rackmark::worker::cuda {

bool has_nccl() { return false; }
std::string new_nccl_group() { throw std::runtime_error("NCCL: this build has none"); }
std::unique_ptr<Collective> join_nccl_group(const std::string& /*name*/, int /*rank*/, int /*size*/,
                                            cudaStream_t /*queue*/) {
  throw std::runtime_error("NCCL: this build has none");
}

}  // namespace rackmark::worker::cuda

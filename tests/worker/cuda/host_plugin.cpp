// The GPU backend on the host device, as a plug-in that `verify` loads as it loads any other.
#include "host_device.hpp"
#include "worker/backend/cuda/cuda_backend.hpp"

extern "C" rackmark::worker::Backend* rackmark_make_backend() {
  using namespace rackmark::worker;
  constexpr std::int64_t kMemory = std::int64_t{16} << 30;
  return make_cuda_backend(
             {[] { return std::string(); }, [] { return cuda::test::make_host_device(kMemory); }})
      .release();
}

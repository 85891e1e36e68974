// The kernels as loops of one thread over what are the threads of a grid on the device.
#include <algorithm>
#include <array>
#include <memory>

#include "worker/backend/cuda/kernels/elementwise.hpp"
#include "worker/backend/cuda/kernels/integers.hpp"
#include "worker/backend/cuda/kernels/loss.hpp"
#include "worker/backend/cuda/kernels/norm_pool.hpp"
#include "worker/backend/cuda/kernels/response_norm.hpp"

namespace rackmark::worker::cuda {
namespace {

struct Host {
  // Three segments of eight lanes, so that rows are cut as on the device, and a lane too many, as
  // there.
  template <class Body>
  static void rows(Queue, const char*, const Body& body, std::int64_t rows, int channels) {
    constexpr std::int64_t kLanes = 25, kSegmentLanes = 8;
    const std::int64_t groups = bodies::groups_of(channels);
    const bodies::Walk walk =
        bodies::walk_over(rows, channels, kLanes * groups, kSegmentLanes * groups);
    for (unsigned thread = 0; thread < kLanes * groups; ++thread) {
      bodies::walk_rows(body, walk, thread);
    }
  }

  template <class Body>
  static void phases(Queue, const char*, const Body& body, int blocks) {
    const auto shared = std::make_unique<typename Body::Shared>();
    for (int block = 0; block < blocks; ++block) {
      for (int phase = 0; phase < body.phases(); ++phase) {
        for (int thread = 0; thread < bodies::kThreads; ++thread) {
          body.phase(phase, block, thread, *shared);
        }
      }
    }
  }

  template <class Body>
  static void once(Queue, const char*, const Body& body) {
    body.run();
  }
};

template <class T>
Kernels make_host_kernels() {
  Kernels kernels{};
  bodies::add_norm_kernels<T, Host>(kernels);
  bodies::add_elementwise_kernels<T, Host>(kernels);
  bodies::add_pool_kernels<T, Host>(kernels);
  bodies::add_norm_pool_kernels<T, Host>(kernels);
  bodies::add_response_kernels<T, Host>(kernels);
  bodies::add_loss_kernels<T, Host>(kernels);
  bodies::add_optimizer_kernels<T, Host>(kernels);
  kernels.to_integers = bodies::to_integers<T, Host>;
  return kernels;
}

Kernels make_integer_kernels() {
  Kernels kernels{};
  bodies::add_integer_kernels<Host>(kernels);
  return kernels;
}

}  // namespace

const Kernels& host_kernels(Type type) {
  static const std::array kTables{make_host_kernels<float>(), make_host_kernels<bodies::Half>(),
                                  make_host_kernels<bodies::Bfloat>(), make_integer_kernels()};
  return kTables[static_cast<std::size_t>(type)];
}

}  // namespace rackmark::worker::cuda

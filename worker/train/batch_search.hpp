// The largest batch that fits into memory, found without taking any.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "common/domain/spec.hpp"
#include "common/protocol/worker_event.hpp"
#include "worker/backend/memory_limit.hpp"
#include "worker/collective/communicator.hpp"
#include "worker/failure.hpp"
#include "worker/net/net.hpp"

namespace rackmark::worker {

// Memory of one worker beside its plan: batches of pictures, what the exchange keeps (copies of
// weights; with an all-reduce twice the largest bucket), the largest parameter on its way into the
// plan, and an allowance for libraries and threads: 96 MiB and 16 MiB a thread; under RLIMIT_AS,
// where reserved addresses count, 256 MiB and 72 MiB a thread more.
struct WorkerMemory {
  std::int64_t fixed_bytes = 0, bytes_per_image = 0;
  std::int64_t bytes(std::int64_t batch) const { return fixed_bytes + batch * bytes_per_image; }
  std::int64_t largest_batch(std::int64_t free_bytes) const;  // that fits; 0 or less: none
};
// raw_side: as of PlanOptions, the plan takes pictures as bytes.
WorkerMemory memory_beside_plan(const JobSpec& spec, const Net& net, const MemoryLimit& limit,
                                std::int64_t raw_side = 0);

// Throws OutOfMemory when the variables that a dedicated server keeps, with their gradients and
// answers on the way, are more than this process may take.
void require_server_room(const JobSpec& spec, const Net& net, const MemoryLimit& limit);

// Bytes that a batch wants. Grows with the batch, but may fall a little at some: a plan for
// training makes large values again instead of keeping them (resnet50 at 64 pixels: 1214 MB with 63
// pictures, 1191 with 64, 1216 with 68).
using BytesWanted = std::function<std::int64_t(std::int64_t batch)>;

// What batches take: a plan, and what lies beside it in this process's memory. A plan in a device's
// own memory shares it with nothing of this process, and both must fit.
struct BatchMemory {
  BytesWanted plan;
  WorkerMemory beside;
  MemoryLimit process;
  std::optional<MemoryLimit> device;  // null: the plan lies in the process's memory as well
};

// Throws OutOfMemory with the numbers of the memory that does not hold this batch.
void require_room(const BatchMemory& memory, std::int64_t batch);

// The largest batch of [least, most] that fits, and whose successor does not. As memory grows
// almost linearly with the batch, about five probes, and a dozen at batches up to a twelfth larger,
// some of which may fit again. Throws OutOfMemory with the numbers of `least` when that does not
// fit.
protocol::BatchSearch find_largest_batch(const BatchMemory& memory, std::int64_t least,
                                         std::int64_t most);

// What "max" gets from a backend that cannot say what it will take.
Failure no_prediction(const std::string& backend);

// The largest batch that fits on every rank: the one with the least room decides, and the others
// say limited_by "another rank". Collective.
protocol::BatchSearch agree_on_largest_batch(const BatchMemory& memory, std::int64_t least,
                                             Communicator& ranks);

inline constexpr std::int64_t kLargestBatch = 65536;  // the spec's bound

}  // namespace rackmark::worker

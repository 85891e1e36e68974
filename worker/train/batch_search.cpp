#include "worker/train/batch_search.hpp"

#include <algorithm>

#include "common/domain/ranks.hpp"
#include "worker/backend/backend.hpp"
#include "worker/input/pictures.hpp"

namespace rackmark::worker {
namespace {

constexpr std::int64_t kMiB = 1 << 20;
constexpr std::int64_t kFirstGuess = 16;
constexpr int kLinearProbes = 8;               // after so many the interval is halved: always ends
constexpr int kReach = 12, kProbesAhead = 12;  // looks a twelfth further, so many times at most

struct Probe {
  std::int64_t batch = 0, bytes = 0;
};

// Where a straight line through both probes meets the limit.
std::int64_t meets(const Probe& a, const Probe& b, std::int64_t free_bytes) {
  const double slope =
      static_cast<double>(b.bytes - a.bytes) / static_cast<double>(b.batch - a.batch);
  if (!(slope > 0)) return kLargestBatch;
  const double more = static_cast<double>(free_bytes - b.bytes) / slope;
  return b.batch +
         static_cast<std::int64_t>(std::clamp(more, -double{kLargestBatch}, double{kLargestBatch}));
}

// Of a server that keeps so many bytes of variables: weights, velocities and the gradient in hand;
// as they travel, the gradient of each worker and an answer to each.
std::int64_t kept_bytes(const JobSpec& spec, std::int64_t variables) {
  const bool whole = spec.parameter_server.wire == Precision::kFp32;
  return 3 * variables + 2 * worker_count(spec) * (whole ? variables : variables / 2);
}

struct Weights {
  std::int64_t bytes = 0, largest = 0;  // largest: of one parameter
};

Weights weights_of(const Net& net) {
  Weights weights;
  for (const Parameter& p : net.parameters()) {
    weights.bytes += 4 * p.elements();
    weights.largest = std::max(weights.largest, 4 * p.elements());
  }
  return weights;
}

// Of an all-reduce, what the library or SixteenBitMean holds beside the bucket in hand. Of a
// server, answers on their way into the plan and gradients on their way out in 16 bits; a colocated
// one's share as well.
std::int64_t exchange_bytes(const JobSpec& spec, const Weights& weights) {
  const std::int64_t workers = worker_count(spec);
  if (spec.variable_update == VariableUpdate::kAllReduce && workers > 1) {
    return 2 * std::min(weights.bytes, std::max(spec.all_reduce.bucket_bytes, weights.largest));
  }
  if (spec.variable_update != VariableUpdate::kParameterServer) return 0;
  const ParameterServerSpec& server = spec.parameter_server;
  const std::int64_t own = server.wire == Precision::kFp32 ? weights.bytes : 2 * weights.bytes;
  if (server.placement == ServerPlacement::kDedicated) return own;
  return own + kept_bytes(spec, weights.bytes / std::min(server.servers, workers));
}

// For libraries and threads.
std::int64_t allowance(std::int64_t threads, const MemoryLimit& limit) {
  const bool addresses = limit.set_by == "RLIMIT_AS";
  return (96 + 16 * threads) * kMiB + (addresses ? (256 + 72 * threads) * kMiB : 0);
}

std::int64_t batches_in_memory(const JobSpec& spec, bool raw) {
  if (spec.input.kind == InputKind::kSynthetic) return 1;
  const std::int64_t on_its_way = raw ? 1 : 0;  // into the device, from the plan's own copy
  return on_its_way +
         batches_held(spec.input.queue_depth.value_or(3), spec.input.kind == InputKind::kImages);
}

void require_fit(std::int64_t bytes, const MemoryLimit& limit) {
  if (bytes > limit.free_bytes) throw OutOfMemory(bytes, limit);
}

// As find_largest_batch() in the one memory that `bytes_wanted` is about.
protocol::BatchSearch search_in(const MemoryLimit& limit, const BytesWanted& bytes_wanted,
                                std::int64_t least, std::int64_t most) {
  protocol::BatchSearch found;
  found.bytes_free = limit.free_bytes;
  found.limited_by = limit.set_by;
  const auto probe = [&](std::int64_t batch) {
    ++found.probes;
    return Probe{batch, bytes_wanted(batch)};
  };
  Probe fits = probe(least);
  require_fit(fits.bytes, limit);
  // Moves `fits` to a batch below `beyond`, which does not fit, whose successor does not fit.
  const auto approach = [&](std::int64_t guess, std::int64_t beyond) {
    const std::int64_t linear_until = found.probes + kLinearProbes;
    while (beyond - fits.batch > 1) {
      guess = std::clamp(guess, fits.batch + 1, beyond - 1);
      const Probe last = fits, now = probe(guess);
      if (now.bytes <= limit.free_bytes) {
        fits = now;
      } else {
        beyond = now.batch;
      }
      guess = found.probes < linear_until ? meets(last, now, limit.free_bytes)
                                          : fits.batch + (beyond - fits.batch) / 2;
    }
  };
  approach(std::max(least, kFirstGuess), most + 1);
  // Where a plan begins to save memory larger batches fit again: on from the farthest of the next.
  for (bool again = true; again;) {
    again = false;
    const std::int64_t reach = fits.batch / kReach + 1, stride = reach / kProbesAhead + 1;
    std::int64_t beyond = most + 1;
    for (auto batch = std::min(fits.batch + reach, most); batch > fits.batch + 1 && !again;
         batch -= stride) {
      const Probe ahead = probe(batch);
      again = ahead.bytes <= limit.free_bytes;
      if (again) {
        fits = ahead;
      } else {
        beyond = batch;
      }
    }
    if (again) approach(fits.batch + 1, beyond);
  }
  found.batch_size = fits.batch;
  found.bytes_wanted = fits.bytes;
  return found;
}

}  // namespace

WorkerMemory memory_beside_plan(const JobSpec& spec, const Net& net, const MemoryLimit& limit,
                                std::int64_t raw_side) {
  const Weights weights = weights_of(net);
  const std::int64_t threads =
      spec.resources.threads_per_worker.value_or(1) + spec.input.decode_threads.value_or(0);
  WorkerMemory memory;
  memory.fixed_bytes =
      allowance(threads, limit) + 2 * weights.largest + exchange_bytes(spec, weights);
  const std::int64_t values = 3 * spec.image_size * spec.image_size * std::int64_t{sizeof(float)};
  const std::int64_t bytes = 3 * raw_side * raw_side + std::int64_t{sizeof(PictureWindow)};
  const std::int64_t label = sizeof(std::int32_t);
  const bool raw = raw_side > 0;
  memory.bytes_per_image = batches_in_memory(spec, raw) * ((raw ? bytes : values) + label);
  return memory;
}

void require_server_room(const JobSpec& spec, const Net& net, const MemoryLimit& limit) {
  const std::int64_t kept = weights_of(net).bytes / spec.parameter_server.servers;
  require_fit(allowance(1, limit) + kept_bytes(spec, kept), limit);
}

std::int64_t WorkerMemory::largest_batch(std::int64_t free_bytes) const {
  return (free_bytes - fixed_bytes) / std::max<std::int64_t>(1, bytes_per_image);
}

void require_room(const BatchMemory& memory, std::int64_t batch) {
  const std::int64_t plan = memory.plan(batch), beside = memory.beside.bytes(batch);
  if (memory.device) require_fit(plan, *memory.device);
  require_fit(memory.device ? beside : plan + beside, memory.process);
}

protocol::BatchSearch find_largest_batch(const BatchMemory& memory, std::int64_t least,
                                         std::int64_t most) {
  if (!memory.device) {
    const auto bytes = [&](std::int64_t b) { return memory.plan(b) + memory.beside.bytes(b); };
    return search_in(memory.process, bytes, least, most);
  }
  require_fit(memory.beside.bytes(least), memory.process);
  const std::int64_t process_holds = memory.beside.largest_batch(memory.process.free_bytes);
  auto found = search_in(*memory.device, memory.plan, least, std::min(most, process_holds));
  if (found.batch_size == process_holds && process_holds < most) {
    found.limited_by = memory.process.set_by;
    found.bytes_free = memory.process.free_bytes;
    found.bytes_wanted = memory.beside.bytes(process_holds);
  }
  return found;
}

Failure no_prediction(const std::string& backend) {
  return Failure(
      Reason::kSpecUnsupported,
      "batch_size \"max\" needs a backend that predicts its memory; '" + backend + "' does not");
}

protocol::BatchSearch agree_on_largest_batch(const BatchMemory& memory, std::int64_t least,
                                             Communicator& ranks) {
  const protocol::BatchSearch own = find_largest_batch(memory, least, kLargestBatch);
  const auto batch =
      static_cast<std::int64_t>(-ranks.all_reduce_max(-static_cast<double>(own.batch_size)));
  if (batch == own.batch_size) return own;
  protocol::BatchSearch found = find_largest_batch(memory, batch, batch);
  found.probes += own.probes;
  found.limited_by = "another rank";
  return found;
}

}  // namespace rackmark::worker

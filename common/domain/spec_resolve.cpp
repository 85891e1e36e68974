#include <algorithm>

#include "common/domain/ranks.hpp"
#include "common/domain/spec_table.hpp"

namespace rackmark {
namespace {

constexpr std::int64_t kMostDecodeThreads = 1024;  // the field's range

// Workers as one per NUMA domain keep memory local.
std::int64_t default_workers(const JobSpec& spec, const HostShape& host) {
  if (spec.resources.device == Device::kGpu) {
    return std::max<std::int64_t>(1, host.gpus / spec.resources.gpus_per_worker.value_or(1));
  }
  return std::clamp<std::int64_t>(host.numa_domains, 1,
                                  std::max<std::int64_t>(1, host.physical_cores));
}

// A dedicated server gets a core of its own where there is one. Of the hosts, the one with most
// workers and the one that is first dealt a server decide: all threads are alike.
std::int64_t default_threads(const RankCounts& counts, std::int64_t cores) {
  std::int64_t threads = cores;
  for (const std::int64_t host : {std::int64_t{0}, counts.workers % counts.hosts}) {
    threads =
        std::min(threads, (cores - servers_on_host(counts, host)) / workers_on_host(counts, host));
  }
  return std::max<std::int64_t>(1, threads);
}

// On cpu decoding one picture costs about a hundredth of training on it, so an eighth is plenty. A
// GPU trains on pictures faster than its share of the cores decodes them: all but the one that
// drives it.
std::int64_t default_decode_threads(const JobSpec& spec, std::int64_t cores) {
  const bool gpu = spec.resources.device == Device::kGpu;
  const std::int64_t threads = gpu ? cores - 1 : *spec.resources.threads_per_worker / 8;
  return std::clamp<std::int64_t>(threads, 1, kMostDecodeThreads);
}

// How many workers were asked for, and by which field.
struct AskedWorkers {
  const char* field;
  std::int64_t value;
};
AskedWorkers asked_workers(const JobSpec& spec, bool by_instances) {
  const ResourcesSpec& resources = spec.resources;
  if (resources.workers) return {"resources.workers", *resources.workers};
  return {by_instances ? "inference.instances" : "resources.workers_per_agent",
          *resources.workers_per_agent};
}

// `fitting`: workers for which a host has room; `room` in words: "2 GPUs".
Error too_many_workers(const JobSpec& spec, bool by_instances, std::int64_t fitting,
                       const std::string& room) {
  const AskedWorkers asked = asked_workers(spec, by_instances);
  const std::int64_t hosts = spec.resources.workers ? spec.resources.agents : 1;
  const std::int64_t workers = workers_on_host(rank_counts(spec), 0);
  return invalid(asked.field, asked.value, "1 to " + std::to_string(hosts * fitting),
                 std::to_string(workers) + " workers do not fit the host's " + room);
}

}  // namespace

Result<JobSpec> resolve_for_host(JobSpec spec, const HostShape& host) {
  ResourcesSpec& resources = spec.resources;
  const bool infers = spec.mode == Mode::kInference;
  const bool by_instances = infers && spec.inference_instances.has_value();
  if (resources.device == Device::kGpu && host.gpus == 0) {
    return invalid("resources.device", "gpu", "cpu", "this host has no GPU");
  }
  if (!resources.workers_per_agent && infers) {
    resources.workers_per_agent = spec.inference_instances;
  }
  if (!resources.workers_per_agent && !resources.workers) {
    resources.workers_per_agent = default_workers(spec, host);
  }
  const RankCounts counts = rank_counts(spec);
  const std::int64_t workers = workers_on_host(counts, 0);  // no host has more
  if (infers) spec.inference_instances = workers;
  const std::string cores = std::to_string(host.physical_cores);
  if (workers > host.physical_cores) {
    return too_many_workers(spec, by_instances, host.physical_cores, cores + " physical cores");
  }
  const std::int64_t fitting = host.physical_cores / workers;
  if (!resources.threads_per_worker) {
    resources.threads_per_worker = default_threads(counts, host.physical_cores);
  }
  if (*resources.threads_per_worker > fitting) {
    return invalid("resources.threads_per_worker", *resources.threads_per_worker,
                   "1 to " + std::to_string(fitting),
                   std::to_string(workers) + " x " + std::to_string(*resources.threads_per_worker) +
                       " threads are more than the host's " + cores + " physical cores");
  }
  if (resources.device == Device::kGpu) {
    if (!resources.gpus_per_worker) resources.gpus_per_worker = 1;
    const std::int64_t each = *resources.gpus_per_worker;
    if (workers * each > host.gpus) {
      return too_many_workers(
          spec, by_instances, host.gpus / each,
          std::to_string(host.gpus) + " GPUs, " + std::to_string(each) + " for each worker");
    }
  }
  if (needs_host_path(spec)) {
    if (!spec.input.decode_threads) {
      spec.input.decode_threads = default_decode_threads(spec, fitting);
    }
    if (!spec.input.queue_depth) spec.input.queue_depth = 3;
  }
  return spec;
}

double derived_timeout_s(const JobSpec& spec) {
  if (spec.timeout_s) return *spec.timeout_s;
  // A backstop, not an estimate (the stall watchdog ends what hangs): start-up, plus the work at
  // 2 GFLOP/s, slower than one old core.
  constexpr double kStartS = 900, kSlowestGflops = 2, kMaxS = 2592000;
  double gflop_per_image = 50;
  if (const ModelFacts* model = find_model_facts(spec.model)) {
    const double scale =
        static_cast<double>(spec.image_size) / static_cast<double>(model->image_size);
    gflop_per_image = model->training_gflop_per_image * scale * scale;
  }
  // "max" may be any batch, once it is found.
  const std::int64_t batch = spec.batch_max ? 65536 : std::max<std::int64_t>(1, spec.batch_size);
  const double step_s = static_cast<double>(batch) * gflop_per_image / kSlowestGflops;
  const auto warmup = static_cast<double>(spec.steps.warmup);
  const double measured_s = spec.steps.measured_seconds
                                ? *spec.steps.measured_seconds + step_s
                                : static_cast<double>(spec.steps.measured.value_or(100)) * step_s;
  return std::min(kMaxS, kStartS + warmup * step_s + measured_s);
}

}  // namespace rackmark

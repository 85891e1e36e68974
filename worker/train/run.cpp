#include "worker/train/run.hpp"

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <new>
#include <optional>
#include <sstream>
#include <thread>

#include "common/domain/ranks.hpp"
#include "common/json/described.hpp"
#include "worker/failure.hpp"
#include "worker/train/cpus.hpp"
#include "worker/train/gpus.hpp"
#include "worker/train/session.hpp"

namespace rackmark::worker {

namespace {

constexpr std::size_t kMaxSpecBytes = 1 << 20;
constexpr double kDrainS = 5;

// SIGTERM and SIGINT ask the loop to end after the step in progress. A rank that is stuck in an
// exchange with a dead peer cannot: it is ended after two seconds.
class TerminationWatch {
 public:
  TerminationWatch() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGTERM);
    sigaddset(&signals_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);  // threads started from here on inherit it
    thread_ = std::thread([this] { watch(); });
  }
  TerminationWatch(const TerminationWatch&) = delete;
  TerminationWatch& operator=(const TerminationWatch&) = delete;
  ~TerminationWatch() {
    done_ = true;
    thread_.join();
  }
  const std::atomic<bool>& stop() const { return stop_; }

 private:
  void watch() {
    const timespec turn{0, 100'000'000};
    while (!done_ && sigtimedwait(&signals_, nullptr, &turn) < 0) continue;
    if (done_) return;
    stop_ = true;
    for (int i = 0; i < 20 && !done_; ++i) nanosleep(&turn, nullptr);
    if (!done_) ::_exit(kExitTerminated);
  }

  sigset_t signals_{};
  std::atomic<bool> stop_{false}, done_{false};
  std::thread thread_;
};

Result<nlohmann::json> read_spec(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kMaxSpecBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (file.bad() || (text.empty() && !file.eof())) {
    return Error{ErrorCode::kMalformed, "cannot read the spec file '" + path + "'", {}};
  }
  if (text.size() > kMaxSpecBytes) {
    return Error{ErrorCode::kMalformed, "the spec file '" + path + "' is larger than 1 MiB", {}};
  }
  return json::parse(text);
}

int refuse(const Error& error) {
  if (error.fields.empty()) std::fprintf(stderr, "rackmark-worker: %s\n", error.message.c_str());
  for (const FieldProblem& problem : error.fields) {
    std::fprintf(stderr, "rackmark-worker: %s: %s (allowed: %s)\n", problem.field.c_str(),
                 problem.detail.c_str(), problem.allowed.c_str());
  }
  return kExitBadSpec;
}

// As the spec deals them to hosts, if the launcher did; else all that it started here are alike.
HostRanks host_ranks(const JobSpec& spec, const LaunchedRanks& launched) {
  const std::int64_t threads = spec.resources.threads_per_worker.value_or(1);
  const RankCounts counts = rank_counts(spec);
  if (launched.size == counts.workers + counts.servers) {
    const auto host = host_of_rank(counts, rank_of_launched(counts, launched.rank));
    if (ranks_on_host(counts, host) == launched.local_size) {
      return {workers_on_host(counts, host), servers_on_host(counts, host), threads,
              launched.local_rank};
    }
  }
  return {launched.local_size, 0, threads, launched.local_rank};
}

// By hand as in the service: a flag line that names no device means the GPU, if there is one and
// this installation can use it.
bool gpu_available() {
  const auto backends = backend_names();
  return std::find(backends.begin(), backends.end(), "cuda") != backends.end() &&
         !visible_gpus().names.empty();
}

bool computes_on_gpu(const JobSpec& spec, const HostRanks& ranks) {
  return spec.resources.device == Device::kGpu && ranks.rank < ranks.workers;
}

// What the OpenMP runtime reads when a backend loads it.
void set_threads(const JobSpec& spec) {
  const std::string threads = std::to_string(spec.resources.threads_per_worker.value_or(1));
  ::setenv("OMP_NUM_THREADS", threads.c_str(), 1);
  ::setenv("OMP_DYNAMIC", "FALSE", 1);
}

// Taken before there is any thread, so that equal starts find equal batches. Each malloc arena of a
// thread reserves 64 MiB of addresses: where addresses are limited, one must do.
MemoryLimit limit_at_start(const LaunchedRanks& launched) {
  MemoryLimit memory = memory_limit("", launched.local_size);
  if (memory.set_by == "RLIMIT_AS") ::mallopt(M_ARENA_MAX, 1);
  return memory;
}

std::unique_ptr<LineSink> open_sink(const RunOptions& options) {
  if (const char* path = std::getenv("RACKMARK_EVENTS"); path != nullptr && *path != '\0') {
    return std::make_unique<LineSink>(connect_unix(path));
  }
  if (options.tf_output) return nullptr;
  return std::make_unique<LineSink>(STDOUT_FILENO, false);
}

void say(const std::string& what) {
  const LaunchedRanks ranks = launched_ranks();
  const std::string who = ranks.size > 1 ? " rank " + std::to_string(ranks.rank) : "";
  std::fprintf(stderr, "rackmark-worker%s: %s\n", who.c_str(), what.c_str());
}

protocol::OutOfMemoryEvent memory_event(const JobSpec& spec) {
  protocol::OutOfMemoryEvent event;
  event.model = spec.model;
  event.precision = json::enum_name(spec.precision);
  event.batch_size = spec.batch_size;
  return event;
}

// Tells everybody why this rank ends; called from within a catch.
int report(const JobSpec& spec, Events& events) try { throw; } catch (const Failure& failure) {
  say(json::enum_name(failure.reason) + ": " + failure.what());
  events.failure(failure.reason, failure.what());
  return kExitFailure;
} catch (const OutOfMemory& error) {
  protocol::OutOfMemoryEvent event = memory_event(spec);
  event.bytes_wanted = error.bytes_wanted;
  event.bytes_free = error.bytes_free;
  event.limited_by = error.limited_by;
  say("out of memory: " + spec.model + " at batch size " + std::to_string(spec.batch_size) +
      " wants " + std::to_string(error.bytes_wanted) + " bytes, " +
      std::to_string(error.bytes_free) + " are free (" + error.limited_by + ")");
  events.out_of_memory(event);
  return kExitOutOfMemory;
} catch (const std::bad_alloc&) {
  say("out of memory: " + spec.model + " at batch size " + std::to_string(spec.batch_size));
  events.out_of_memory(memory_event(spec));
  return kExitOutOfMemory;
} catch (const Terminated&) {
  say("ended by a signal in phase " + events.current_phase());
  return kExitTerminated;
} catch (const EventsLost& lost) {
  say(lost.what());
  return kExitEventsLost;
} catch (const std::exception& error) {
  say(error.what());
  events.failure(Reason::kInternal, error.what());
  return kExitFailure;
}

// What options say against the spec or the launcher.
std::optional<Error> check_options(const JobSpec& spec, const RunOptions& options,
                                   const LaunchedRanks& launched) {
  if (options.micro_batches > 1 && launched.size > 1) {
    return invalid("--micro-batches", options.micro_batches, "1 with several ranks",
                   "--micro-batches plays several ranks in one: start only one rank");
  }
  const bool asks_for_training =
      options.tf_output || options.micro_batches > 1 || !options.dump_path.empty();
  if (spec.mode == Mode::kInference && asks_for_training) {
    return invalid("mode", "inference", "training",
                   "--output tf, --micro-batches and --dump-parameters are about training: "
                   "inference has no loss and changes no parameter");
  }
  const std::string device = json::enum_name(spec.resources.device);
  if (!options.backend.empty() && (options.backend == "cuda") != (device == "gpu")) {
    return invalid("--backend", options.backend, device == "gpu" ? "cuda" : "one for cpu",
                   "--backend " + options.backend + " contradicts resources.device " + device);
  }
  return std::nullopt;
}

struct Prepared {
  bool on_gpu = false;
  MemoryLimit memory;  // when there was no thread yet
};

// This rank's CPUs, GPUs and threads. Before there is any thread and any backend.
Result<Prepared> prepare_process(const JobSpec& spec, const LaunchedRanks& launched) {
  const HostRanks ranks = host_ranks(spec, launched);
  settle(usable_cpus(), ranks);
  Prepared process;
  process.on_gpu = computes_on_gpu(spec, ranks);
  if (process.on_gpu) {
    const std::vector<std::string> gpus = visible_gpus().names;
    if (!take_gpus(gpus, ranks, spec.resources.gpus_per_worker.value_or(1))) {
      return invalid("resources.workers_per_agent", ranks.workers,
                     "1 to " + std::to_string(gpus.size()) + ", this host's GPUs",
                     "worker " + std::to_string(ranks.rank) + " of " +
                         std::to_string(ranks.workers) + " on this host has no GPU left");
    }
  }
  set_threads(spec);
  flush_denormals();
  process.memory = limit_at_start(launched);
  return process;
}

// Returns when the session did all its work; else ends the process, and its peers with it.
void run_session(RankSession& session, Events& events, LineSink* sink) try {
  session.connect();
  session.set_up();
  session.run();
} catch (...) {
  const int status = report(session.spec(), events);
  events.flush();
  if (sink != nullptr) sink->drain(kDrainS);
  if (session.ranks() != nullptr) session.ranks()->abort(status);
  std::fflush(nullptr);
  ::_exit(status);  // threads may be stuck in an exchange with a peer that is gone
}

}  // namespace

Result<JobSpec> load_spec(const RunOptions& options) {
  auto submitted = options.spec_path.empty() ? spec_from_tf_flags(options.tf_flags, gpu_available())
                                             : read_spec(options.spec_path);
  if (!submitted) return submitted.error();
  if (options.profile && submitted->is_object()) (*submitted)["profile"] = true;
  auto parsed = parse_spec(*submitted);
  if (!parsed) return parsed.error();
  // Unless the spec says otherwise, the workers are those that the launcher started.
  const LaunchedRanks ranks = launched_ranks();
  HostShape host;
  const std::int64_t agents = parsed->resources.agents;
  const std::int64_t started = agents > 1 ? ranks.size : ranks.local_size;
  host.numa_domains =
      std::max<std::int64_t>(1, (started - dedicated_server_count(*parsed)) / agents);
  host.physical_cores = shared_cores(usable_cpus(), ranks);
  if (parsed->resources.device == Device::kGpu) {
    const VisibleGpus gpus = visible_gpus();
    host.gpus = static_cast<std::int64_t>(gpus.names.size());
    if (host.gpus == 0 && !gpus.cut_short.empty()) {
      return invalid("resources.device", "gpu", "cpu", gpus.cut_short);
    }
    // As on cpu: one worker unless the launcher started more, not one for each GPU of the host.
    auto& workers = parsed->resources.workers_per_agent;
    if (!workers && !parsed->resources.workers && !parsed->inference_instances) {
      workers = host.numa_domains;
    }
  }
  return resolve_for_host(*std::move(parsed), host);
}

int run_worker(const RunOptions& options, const MakeSession& make_session) {
  ::signal(SIGPIPE, SIG_IGN);
  const LaunchedRanks launched = launched_ranks();
  const Result<JobSpec> spec = load_spec(options);
  if (!spec) return refuse(spec.error());
  if (const auto problem = check_options(*spec, options, launched)) return refuse(*problem);
  const Result<Prepared> process = prepare_process(*spec, launched);
  if (!process) return refuse(process.error());

  const TerminationWatch watch;
  const SystemClock clock;
  std::unique_ptr<LineSink> sink;
  try {
    sink = open_sink(options);
  } catch (const std::exception& error) {
    say(error.what());
    return kExitEventsLost;
  }
  Events events(sink.get(), rank_of_launched(rank_counts(*spec), launched.rank), clock);
  if (process->on_gpu) events.watch(GpuWatch::open(clock));
  const auto session =
      make_session({*spec, options.backend, options.micro_batches, options.dump_path,
                    options.tf_output, options.profile, process->memory},
                   events, clock, watch.stop());
  run_session(*session, events, sink.get());
  if (sink && !sink->drain(kDrainS)) {
    say("the events could not be delivered: " + sink->broken());
    return kExitEventsLost;
  }
  return kExitOk;
}

}  // namespace rackmark::worker

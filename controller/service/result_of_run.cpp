#include "controller/service/result_of_run.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "common/domain/ranks.hpp"
#include "common/measure/statistics.hpp"
#include "common/protocol/worker_event.hpp"
#include "controller/service/hosts_seen.hpp"
#include "controller/service/queue.hpp"

namespace rackmark::service {

namespace {

using protocol::HelloEvent;
using protocol::SummaryEvent;
using protocol::TelemetryEvent;

constexpr std::size_t kBrokenPicturesKept = 20;

// The newest event of each rank. What does not decode counts as not sent.
template <class T>
std::map<std::int64_t, T> by_rank(const std::vector<store::FactRow>& facts) {
  std::map<std::int64_t, T> out;
  for (const store::FactRow& fact : facts) {
    auto value = json::decode<T>(fact.data, json::Unknown::kIgnore);
    if (value) out[fact.rank] = std::move(*value);
  }
  return out;
}

std::vector<double> as_doubles(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

double mean(const std::vector<float>& values) {
  double sum = 0;
  std::int64_t count = 0;
  for (const float value : values) {
    if (std::isnan(value)) continue;
    sum += value;
    ++count;
  }
  return count ? sum / static_cast<double>(count) : 0;
}

// Means of telemetry inside each rank's measured window, which is on its own host's clock; that of
// the rank where it was most.
std::optional<double> steal_fraction(const std::vector<store::FactRow>& telemetry,
                                     const Summaries& summaries) {
  std::map<std::int64_t, std::vector<float>> by_rank;
  for (const store::FactRow& row : telemetry) {
    const auto window = summaries.find(std::max<std::int64_t>(0, row.rank));  // -1: of the host
    if (window == summaries.end()) continue;
    if (row.t_ns < window->second.start_ns || row.t_ns > window->second.end_ns) continue;
    const auto member = row.data.find("steal_fraction");
    if (member == row.data.end() || !member->is_number()) continue;
    by_rank[row.rank].push_back(member->get<float>());
  }
  std::optional<double> most;
  for (const auto& [rank, fractions] : by_rank) {
    most = std::max(most.value_or(0), mean(fractions));
  }
  return most;
}

std::optional<double> mean_over_ranks(const Summaries& summaries,
                                      std::optional<double> SummaryEvent::*member) {
  double sum = 0;
  for (const auto& [rank, summary] : summaries) {
    if (!(summary.*member)) return std::nullopt;
    sum += *(summary.*member);
  }
  return sum / static_cast<double>(summaries.size());
}

// Null as soon as one rank has none: a part of a peak is no peak.
std::optional<double> sum_over_ranks(const Summaries& summaries,
                                     std::optional<double> SummaryEvent::*member) {
  const auto mean = mean_over_ranks(summaries, member);
  if (!mean) return std::nullopt;
  return *mean * static_cast<double>(summaries.size());
}

std::optional<double> bound_share(const Evidence& e) {
  if (!e.profile) return std::nullopt;
  const auto profile = json::decode<protocol::ProfileEvent>(*e.profile, json::Unknown::kIgnore);
  return profile ? profile->convolution_bound_share : std::nullopt;
}

template <class T>
std::optional<T> largest(const Summaries& summaries, std::optional<T> SummaryEvent::*member) {
  std::optional<T> out;
  for (const auto& [rank, summary] : summaries) {
    if (summary.*member) out = std::max(out.value_or(*(summary.*member)), *(summary.*member));
  }
  return out;
}

// Of several agents the rank's agent, whose name is unique; of one the name of its host.
std::string host_of(const Evidence& e, std::int64_t rank,
                    const std::map<std::int64_t, HelloEvent>& hellos) {
  const auto count = static_cast<std::int64_t>(e.agents.size());
  if (count > 1) {
    return e.agents[static_cast<std::size_t>(host_of_rank({count, e.run.ranks, 0}, rank))];
  }
  const auto hello = hellos.find(rank);
  return hello == hellos.end() ? "" : hello->second.host;
}

// Step times without the waits for other ranks: who made them wait has the longest.
std::vector<std::vector<double>> own_times(const std::vector<store::RankSamples>& samples) {
  std::vector<std::vector<double>> own;
  for (const store::RankSamples& s : samples) {
    std::vector<double>& ms = own.emplace_back(as_doubles(s.ms));
    for (const auto* waits : {&s.exposed_communication_ms, &s.server_wait_ms}) {
      for (std::size_t i = 0; i < std::min(ms.size(), waits->size()); ++i) {
        if (!std::isnan((*waits)[i])) ms[i] -= static_cast<double>((*waits)[i]);
      }
    }
  }
  return own;
}

std::vector<protocol::RankTime> rank_times(const Evidence& e,
                                           const std::map<std::int64_t, HelloEvent>& hellos,
                                           const Summaries& summaries) {
  const auto& samples = e.samples;
  const std::vector<double> share_last = measure::share_last(own_times(samples));
  std::vector<protocol::RankTime> out;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const store::RankSamples& s = samples[i];
    protocol::RankTime time;
    time.rank = s.rank;
    time.host = host_of(e, s.rank, hellos);
    time.step_ms = mean(s.ms);
    time.input_wait_ms = mean(s.input_wait_ms);
    time.exposed_communication_ms = mean(s.exposed_communication_ms);
    time.server_wait_ms = mean(s.server_wait_ms);
    time.compute_ms = std::max(0.0, time.step_ms - time.input_wait_ms -
                                        time.exposed_communication_ms - time.server_wait_ms);
    time.share_last = i < share_last.size() ? share_last[i] : 0;
    if (const auto summary = summaries.find(s.rank); summary != summaries.end()) {
      time.staleness = summary->second.staleness;
      time.skipped_steps = summary->second.skipped_steps;
      time.gpu = summary->second.gpu;
    }
    out.push_back(time);
  }
  return out;
}

// Every rank must have said that it did all its steps.
std::optional<Failure> missing_rank(const Evidence& e, const Summaries& summaries) {
  for (std::int64_t rank = 0; rank < e.run.ranks; ++rank) {
    if (summaries.contains(rank)) continue;
    return Failure{Reason::kMissingRank, "rank " + std::to_string(rank) + " of " +
                                             std::to_string(e.run.ranks) +
                                             " sent no summary of its measured steps"};
  }
  return std::nullopt;
}

// Steps that change nothing are no training.
std::optional<Failure> nothing_trained(const Summaries& summaries) {
  for (const auto& [rank, summary] : summaries) {
    if (summary.skipped_steps.value_or(0) < std::max<std::int64_t>(1, summary.steps)) continue;
    return Failure{Reason::kNoValidSteps,
                   "rank " + std::to_string(rank) + " skipped all of its " +
                       std::to_string(summary.steps) +
                       " measured steps: their gradients overflowed in fp16 (loss_scale)"};
  }
  return std::nullopt;
}

void describe(protocol::ResultView& r, const Evidence& e, const JobSpec& spec,
              const HelloEvent& hello) {
  r.run_id = e.run.id;
  r.job_id = e.job.id;
  r.agent_id = e.agent.id;
  r.job_name = e.job.name;
  r.agent = e.agent.name;
  r.device_class = e.run.device_class;
  r.fingerprint = fingerprint(spec, hello.engine_revision, hello.libraries, e.run.device_class);
  r.model = e.job.model;
  r.mode = e.job.mode;
  r.precision = e.job.precision;
  r.device = e.job.device;
  r.variable_update = e.job.variable_update;
  r.exchange = hello.variable_update;
  r.input_kind = e.job.input_kind;
  r.backend = hello.backend;
  // "max" stays in spec and fingerprint, which say what was asked; what it came to is a result.
  r.batch_size = hello.batch_size > 0 ? hello.batch_size : spec.batch_size;
  r.batch_search = hello.batch_search;
  r.image_size = spec.image_size;
  r.ranks = e.run.ranks;
  r.threads_per_worker = spec.resources.threads_per_worker.value_or(hello.threads);
  r.repetition = e.run.repetition;
  r.attempt = e.run.attempt;
}

void take_pictures(protocol::ResultView& r, const JobSpec& spec, const Summaries& summaries) {
  const bool gpu_decodes = spec.input.decode_device == Device::kGpu;
  for (const auto& [rank, summary] : summaries) {
    if (gpu_decodes) {
      r.pictures_left_to_cpu = r.pictures_left_to_cpu.value_or(0) + summary.pictures_left_to_cpu;
    }
    r.pictures_broken += summary.pictures_broken;
    for (const std::string& path : summary.broken_pictures) {
      if (r.broken_pictures.size() < kBrokenPicturesKept) r.broken_pictures.push_back(path);
    }
  }
}

// Batches of all instances; what a batch waited for its pictures is not its latency.
std::vector<double> latencies(const std::vector<store::RankSamples>& samples) {
  std::vector<double> out;
  for (const store::RankSamples& s : samples) {
    for (std::size_t i = 0; i < s.ms.size(); ++i) {
      const float waited = i < s.input_wait_ms.size() ? s.input_wait_ms[i] : 0.0F;
      const double latency = static_cast<double>(s.ms[i]) - (std::isnan(waited) ? 0 : waited);
      if (std::isfinite(latency) && latency > 0) out.push_back(latency);
    }
  }
  return out;
}

void take_inference(protocol::ResultView& r, const Evidence& e, const JobSpec& spec,
                    const HelloEvent& hello, const Summaries& summaries) {
  if (r.mode != json::enum_name(Mode::kInference)) return;
  protocol::InferenceView& inference = r.inference.emplace();
  inference.instances = spec.inference_instances.value_or(r.ranks);
  if (!overlaps_input(spec)) {
    inference.latency = measure::latency_statistics(latencies(e.samples));
  }
  inference.notes = hello.notes;
  for (const auto& [rank, summary] : summaries) {
    if (summary.agreement) inference.agreement = summary.agreement;
  }
}

// Of the GPUs of all ranks; null as soon as one of them does not say.
std::optional<double> gpu_power_w(const Summaries& summaries) {
  double sum = 0;
  for (const auto& [rank, summary] : summaries) {
    if (!summary.gpu || !summary.gpu->power_w) return std::nullopt;
    sum += *summary.gpu->power_w;
  }
  return sum;
}

void take_energy(protocol::ResultView& r, const std::optional<double>& power_w) {
  r.power_w = power_w;
  if (!power_w || *power_w <= 0) return;
  r.joules_per_image = *power_w * r.window_s / static_cast<double>(r.images);
  r.images_per_second_per_watt = r.images_per_second / *power_w;
}

void take_gpus(protocol::ResultView& r, const Summaries& summaries) {
  for (const auto& [rank, summary] : summaries) {
    if (!summary.gpu || !summary.gpu->peak_memory_bytes) continue;
    r.peak_gpu_memory_bytes =
        std::max(r.peak_gpu_memory_bytes.value_or(0), *summary.gpu->peak_memory_bytes);
  }
}

measure::Conditions conditions(const std::vector<protocol::RankTime>& ranks, const Evidence& e,
                               const std::vector<HostSeen>& hosts, const Summaries& summaries) {
  measure::Conditions out;
  out.steal_fraction = steal_fraction(e.telemetry, summaries);
  out.foreign_cpu_fraction = foreign_cpu_fraction(hosts);
  out.quota_throttled_fraction = quota_throttled_fraction(hosts);
  out.governor_changed = governor_changed(hosts);
  for (const protocol::RankTime& rank : ranks) {
    if (!(rank.step_ms > 0)) continue;
    out.input_wait_fraction =
        std::max(out.input_wait_fraction.value_or(0), rank.input_wait_ms / rank.step_ms);
  }
  if (e.job.device != json::enum_name(Device::kGpu)) return out;
  for (const auto& [rank, summary] : summaries) {
    const protocol::GpuUse gpu = summary.gpu.value_or(protocol::GpuUse{});
    out.gpus.push_back({rank, gpu.throttled, gpu.sm_clock_change, gpu.ecc_uncorrected});
  }
  return out;
}

void judge_run(protocol::ResultView& r, const Evidence& e, const std::vector<HostSeen>& hosts,
               const Summaries& summaries) {
  constexpr double kManySkipped = 0.05;  // as definitions() say
  r.validity = measure::judge(r.step, conditions(r.rank_times, e, hosts, summaries));
  const auto suspect = [&r](const std::string& cause) {
    r.validity.verdict = std::max(r.validity.verdict, measure::Verdict::kSuspect);
    r.validity.causes.push_back(cause);
  };
  for (const auto& [rank, summary] : summaries) {
    const auto skipped = static_cast<double>(summary.skipped_steps.value_or(0));
    if (skipped <= kManySkipped * static_cast<double>(summary.steps)) continue;
    suspect("rank " + std::to_string(rank) + " skipped " + std::to_string(*summary.skipped_steps) +
            " of " + std::to_string(summary.steps) + " steps: gradients overflowed in fp16");
  }
  for (const store::RankSamples& s : e.samples) {
    const auto summary = summaries.find(s.rank);
    if (summary == summaries.end()) continue;
    const auto sent =
        std::count_if(s.ms.begin(), s.ms.end(), [](float v) { return !std::isnan(v); });
    if (sent == summary->second.steps) continue;
    suspect("rank " + std::to_string(s.rank) + " sent " + std::to_string(sent) +
            " step times for " + std::to_string(summary->second.steps) + " steps");
  }
}

}  // namespace

Evidence collect_evidence(store::Database& db, const store::RunRow& run) {
  Evidence e;
  e.run = run;
  e.job = store::find_job(db, run.job_id).value();
  e.agent = store::find_agent(db, run.agent_id).value();
  for (const store::HostRow& host : store::list_hosts(db, run.id)) {
    e.agents.push_back(store::find_agent_name(db, host.agent_id).value_or("?"));
  }
  e.hellos = store::list_facts(db, run.id, "hello");
  e.summaries = store::list_facts(db, run.id, "summary");
  e.samples = store::list_samples(db, run.id);
  e.telemetry = store::list_telemetry(db, run.id);
  e.profile = store::find_profile(db, run.id);
  return e;
}

std::variant<protocol::ResultView, Failure> result_of_run(const Evidence& e) {
  const auto spec = stored_spec(e.run.spec_resolved);
  if (!spec) return Failure{Reason::kSpecUnsupported, spec.error().message};
  const auto hellos = by_rank<HelloEvent>(e.hellos);
  Summaries summaries = by_rank<SummaryEvent>(e.summaries);
  const auto first_server = summaries.lower_bound(e.run.ranks);
  const Summaries servers(first_server, summaries.end());
  summaries.erase(first_server, summaries.end());
  if (auto failure = missing_rank(e, summaries)) return *failure;
  if (auto failure = nothing_trained(summaries)) return *failure;

  protocol::ResultView r;
  std::vector<measure::RankWindow> windows;
  for (const auto& [rank, s] : summaries) {
    windows.push_back({s.images, s.start_ns, s.end_ns});
    r.images += s.images;
    r.steps = std::max(r.steps, s.steps);
    r.window_s = std::max(r.window_s, static_cast<double>(s.end_ns - s.start_ns) / 1e9);
  }
  const auto rate = measure::headline(windows);
  if (!rate) return Failure{Reason::kNoValidSteps, "no image was measured"};
  r.images_per_second = *rate;

  std::vector<std::vector<double>> ms;
  for (const store::RankSamples& s : e.samples) {
    if (!s.ms.empty()) ms.push_back(as_doubles(s.ms));
  }
  if (static_cast<std::int64_t>(ms.size()) < e.run.ranks) {
    return Failure{Reason::kNoValidSteps, "a rank sent no time of a measured step"};
  }
  auto steps = measure::slowest_per_step(ms);
  std::erase_if(steps, [](double v) { return !std::isfinite(v) || v <= 0; });
  if (steps.empty()) return Failure{Reason::kNoValidSteps, "no measured step has a valid time"};
  r.step = measure::step_statistics(steps);

  const HelloEvent hello = hellos.empty() ? HelloEvent{} : hellos.begin()->second;
  describe(r, e, *spec, hello);
  r.rank_times = rank_times(e, hellos, summaries);
  r.first_loss = mean_over_ranks(summaries, &SummaryEvent::first_loss);
  r.final_loss = mean_over_ranks(summaries, &SummaryEvent::final_loss);
  r.setup_s = largest(summaries, &SummaryEvent::setup_s);
  r.peak_rss_bytes = largest(summaries, &SummaryEvent::peak_rss_bytes);
  r.matrix_peak_gflops = sum_over_ranks(summaries, &SummaryEvent::matrix_peak_gflops);
  const bool forward_only = r.mode == json::enum_name(Mode::kInference);
  const double gflop =
      forward_only ? hello.forward_gflop_per_image : hello.training_gflop_per_image;
  r.mfu = measure::mfu(gflop, r.images_per_second, r.matrix_peak_gflops);
  r.convolution_bound_share = bound_share(e);
  for (const auto& [rank, summary] : summaries) {
    if (!summary.all_reduce_times.empty()) r.all_reduce_times = summary.all_reduce_times;
  }
  take_pictures(r, *spec, summaries);
  take_inference(r, e, *spec, hello, summaries);
  std::vector<HostSeen> hosts;
  if (std::ssize(servers) == dedicated_server_count(*spec)) hosts = hosts_seen(summaries, servers);
  const bool on_gpu = r.device == json::enum_name(Device::kGpu);
  take_energy(r, on_gpu ? gpu_power_w(summaries) : package_power_w(hosts));
  take_gpus(r, summaries);
  judge_run(r, e, hosts, summaries);
  r.environment = {{"worker", e.hellos.empty() ? nlohmann::json() : e.hellos.front().data},
                   {"agent", json::encode(e.agent.inventory)},
                   {"controller", {{"version", RACKMARK_VERSION}}}};
  return r;
}

}  // namespace rackmark::service

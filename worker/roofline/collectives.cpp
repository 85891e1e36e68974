#include "worker/roofline/collectives.hpp"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <optional>
#include <vector>

#include "common/json/json.hpp"
#include "common/measure/collective_model.hpp"
#include "worker/backend/backend.hpp"
#include "worker/collective/communicator.hpp"
#include "worker/collective/parameter_server.hpp"
#include "worker/collective/turns.hpp"
#include "worker/failure.hpp"

namespace rackmark::worker {
namespace {

constexpr std::int64_t kGrowth = 4;
constexpr std::int64_t kShardBytes = 4194304, kLeastShardBytes = 4096;

struct Timing {
  std::string operation;
  std::int64_t bytes = 0, turns = 0;
  double median_s = 0, least_s = 0;
  double algorithm_bandwidth() const { return static_cast<double>(bytes) / median_s; }
};

Timing time_operation(Communicator& ranks, const std::string& operation, std::int64_t bytes,
                      const std::function<void()>& turn) {
  const Turns turns = time_turns(ranks, {}, turn);
  return {operation, bytes, turns.count, turns.median_s, turns.least_s};
}

// A plan of about so many bytes of parameters, of which only the blocks are used.
std::unique_ptr<TrainPlan> plan_of(std::int64_t bytes) {
  constexpr std::int64_t kInputs = 3 * 8 * 8, kBytesOfOutput = 4 * (kInputs + 1);
  const auto outputs = static_cast<int>(std::max<std::int64_t>(2, bytes / kBytesOfOutput));
  Net net("push_pull", 8, outputs);
  net.loss(net.linear(net.flatten(net.input()), "fc", {.out = outputs}));
  return load_backend("reference")->compile(net, {.batch = 1, .threads = 1});
}

// Every rank is a worker and has a server: gradients out, SGD step, variables back.
Timing time_push_pull(Communicator& ranks, std::int64_t bytes) {
  const auto plan = plan_of(bytes);
  ServerSetup setup{
      .workers = ranks.size(), .spec = {}, .schedule = [](std::int64_t) { return SgdStep{}; }};
  setup.spec.servers = ranks.size();
  setup.spec.shard_bytes = std::clamp(bytes / ranks.size(), kLeastShardBytes, kShardBytes);
  const auto exchange = make_parameter_server(*plan, ranks, setup);
  const auto parameters = static_cast<int>(plan->net().parameters().size());
  const auto real_bytes = static_cast<std::int64_t>(plan->parameter_block().size_bytes());
  const Timing timing = time_operation(ranks, "push_pull", real_bytes, [&] {
    exchange->begin_step({});
    for (int p = 0; p < parameters; ++p) exchange->ready(p);
    exchange->finish_step();
    exchange->settle();
  });
  exchange->leave();
  ranks.barrier();
  return timing;
}

std::vector<Timing> measure_all(Communicator& ranks, const CollectivesOptions& options) {
  std::vector<Timing> all;
  for (std::int64_t bytes = options.min_bytes; bytes <= options.max_bytes; bytes *= kGrowth) {
    std::vector<float> values(static_cast<std::size_t>(bytes / 4), 1e-3F);
    all.push_back(
        time_operation(ranks, "all_reduce", bytes, [&] { ranks.all_reduce_sum(values); }));
    all.push_back(time_operation(ranks, "broadcast", bytes, [&] { ranks.broadcast(values, 0); }));
    all.push_back(time_push_pull(ranks, bytes));
  }
  return all;
}

// From the all-reduces, where it is known what they do: one algorithm for all sizes. Two ranks have
// nothing to choose.
std::optional<measure::LinkModel> fit(const std::vector<Timing>& all, const std::string& algorithm,
                                      std::int64_t ranks) {
  if (algorithm == "auto" && ranks != 2) return std::nullopt;
  const std::string name = algorithm == "auto" ? "recursive_doubling" : algorithm;
  std::vector<measure::CollectivePoint> points;
  for (const Timing& t : all) {
    if (t.operation != "all_reduce") continue;
    points.push_back(
        {*measure::all_reduce_cost(name, ranks, static_cast<double>(t.bytes)), t.median_s});
  }
  return measure::fit_link(points);
}

Json row_json(const Timing& t, std::int64_t ranks) {
  const double factor = measure::bus_factor(t.operation, ranks);
  return {{"operation", t.operation},
          {"bytes", t.bytes},
          {"turns", t.turns},
          {"median_s", t.median_s},
          {"least_s", t.least_s},
          {"algbw_gb_per_s", t.algorithm_bandwidth() * 1e-9},
          {"busbw_gb_per_s", t.algorithm_bandwidth() * factor * 1e-9}};
}

void print_json(const std::vector<Timing>& all, const Communicator& ranks,
                const CollectivesOptions& options, const std::optional<measure::LinkModel>& link) {
  Json rows = Json::array();
  for (const Timing& t : all) rows.push_back(row_json(t, ranks.size()));
  Json fitted;
  if (link) {
    fitted = {{"alpha_s", link->alpha_s}, {"beta_s_per_byte", link->beta_s_per_byte}};
  }
  const Json out = {{"ranks", ranks.size()},
                    {"all_reduce_algorithm", options.algorithm},
                    {"libraries", ranks.libraries()},
                    {"rows", std::move(rows)},
                    {"link", std::move(fitted)}};
  std::printf("%s\n", out.dump(2).c_str());
}

void print_table(const std::vector<Timing>& all, const Communicator& ranks,
                 const CollectivesOptions& options, const std::optional<measure::LinkModel>& link) {
  std::printf(
      "%lld ranks, all-reduce algorithm %s; algbw: bytes / time; busbw: algbw x factor, what the "
      "links see (nccl-tests, doc/PERFORMANCE.md); 1 GB = 1e9 bytes\n",
      static_cast<long long>(ranks.size()), options.algorithm.c_str());
  std::printf("%-12s %12s %6s %12s %12s %10s %10s\n", "operation", "bytes", "turns", "median us",
              "least us", "algbw GB/s", "busbw GB/s");
  for (const Timing& t : all) {
    const double factor = measure::bus_factor(t.operation, ranks.size());
    std::printf("%-12s %12lld %6lld %12.1f %12.1f %10.3f %10.3f\n", t.operation.c_str(),
                static_cast<long long>(t.bytes), static_cast<long long>(t.turns), t.median_s * 1e6,
                t.least_s * 1e6, t.algorithm_bandwidth() * 1e-9,
                t.algorithm_bandwidth() * factor * 1e-9);
  }
  if (!link) return;
  const double bandwidth = link->beta_s_per_byte > 0 ? 1e-9 / link->beta_s_per_byte : 0;
  std::printf("alpha-beta fit of the all-reduces: %.1f us a message, %.3f GB/s\n",
              link->alpha_s * 1e6, bandwidth);
}

}  // namespace

int run_collectives(const CollectivesOptions& options) {
  const auto ranks = connect_ranks({.all_reduce_algorithm = options.algorithm, .rank = {}});
  if (ranks->size() < 2) {
    std::fprintf(stderr,
                 "rackmark-worker: --collectives needs several ranks: mpirun -n 2 rackmark-worker "
                 "roofline --collectives\n");
    return kExitBadSpec;
  }
  const std::vector<Timing> all = measure_all(*ranks, options);
  const auto link = fit(all, options.algorithm, ranks->size());
  if (ranks->rank() == 0) {
    (options.json ? print_json : print_table)(all, *ranks, options, link);
  }
  ranks->finish();
  return kExitOk;
}

}  // namespace rackmark::worker

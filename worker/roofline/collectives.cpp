#include "worker/roofline/collectives.hpp"

#include <algorithm>
#include <cstdio>
#include <memory>
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
  std::int64_t bytes = 0;
  std::optional<measure::CollectiveCost> cost;  // null: it is not known what the library does
  Turns turns;
  double algorithm_bandwidth() const { return static_cast<double>(bytes) / turns.median_s; }
};

// Two ranks have nothing to choose: every algorithm sends all, or two halves.
std::optional<measure::CollectiveCost> cost_of_all_reduce(const std::string& algorithm,
                                                          std::int64_t ranks, std::int64_t bytes) {
  if (algorithm == "auto" && ranks != 2) return std::nullopt;
  return measure::all_reduce_cost(algorithm == "auto" ? "recursive_doubling" : algorithm, ranks,
                                  static_cast<double>(bytes));
}

// A plan of about so many bytes of parameters, of which only the blocks are used.
std::unique_ptr<TrainPlan> plan_of(std::int64_t bytes) {
  constexpr std::int64_t kInputs = 3 * 8 * 8, kBytesOfOutput = 4 * (kInputs + 1);
  const auto outputs = static_cast<int>(std::max<std::int64_t>(2, bytes / kBytesOfOutput));
  Net net("push_pull", 8, outputs);
  net.loss(net.linear(net.flatten(net.input()), "fc", {.out = outputs}));
  return load_backend("reference")->compile(net, {.batch = 1, .threads = 1});
}

// Of at most kShardBytes, and as many for each server.
std::int64_t equal_shards(std::int64_t bytes, std::int64_t servers) {
  const std::int64_t each = (bytes + servers - 1) / servers;
  const std::int64_t pieces = (each + kShardBytes - 1) / kShardBytes;
  return std::max(kLeastShardBytes, (each + pieces - 1) / pieces);
}

// Every rank is a worker and has a server: gradients out, SGD step, variables back.
Timing time_push_pull(Communicator& ranks, std::int64_t bytes) {
  const auto plan = plan_of(bytes);
  const auto real_bytes = static_cast<std::int64_t>(plan->parameter_block().size_bytes());
  ServerSetup setup{
      .workers = ranks.size(), .spec = {}, .schedule = [](std::int64_t) { return SgdStep{}; }};
  setup.spec.servers = ranks.size();
  setup.spec.shard_bytes = equal_shards(real_bytes, ranks.size());
  const auto exchange = make_parameter_server(*plan, ranks, setup);
  const auto parameters = static_cast<int>(plan->net().parameters().size());
  const Turns turns = time_turns(ranks, {}, [&] {
    exchange->begin_step({});
    for (int p = 0; p < parameters; ++p) exchange->ready(p);
    exchange->finish_step();
    exchange->settle();
  });
  exchange->leave();
  ranks.barrier();
  const measure::PushPull shape{.workers = ranks.size(),
                                .servers = ranks.size(),
                                .shard_bytes = static_cast<double>(setup.spec.shard_bytes)};
  return {"push_pull", real_bytes, measure::push_pull_cost(shape, static_cast<double>(real_bytes)),
          turns};
}

Timing time_operation(Communicator& ranks, const CollectivesOptions& options,
                      const std::string& operation, std::int64_t bytes) {
  if (operation == "push_pull") return time_push_pull(ranks, bytes);
  std::vector<float> values(static_cast<std::size_t>(bytes / 4), 1e-3F);
  if (operation == "broadcast") {
    return {operation, bytes, std::nullopt,
            time_turns(ranks, {}, [&] { ranks.broadcast(values, 0); })};
  }
  return {operation, bytes, cost_of_all_reduce(options.algorithm, ranks.size(), bytes),
          time_turns(ranks, {}, [&] { ranks.all_reduce_sum(values); })};
}

std::vector<Timing> measure_all(Communicator& ranks, const CollectivesOptions& options) {
  std::vector<Timing> all;
  for (std::int64_t bytes = options.min_bytes; bytes <= options.max_bytes; bytes *= kGrowth) {
    for (const std::string& operation : options.operations) {
      all.push_back(time_operation(ranks, options, operation, bytes));
    }
  }
  return all;
}

// From the all-reduces: nothing but the network is in them.
std::optional<measure::LinkModel> fit(const std::vector<Timing>& all) {
  std::vector<measure::CollectivePoint> points;
  for (const Timing& t : all) {
    if (t.operation == "all_reduce" && t.cost) points.push_back({*t.cost, t.turns.median_s});
  }
  return measure::fit_link(points);
}

Json cost_json(const std::optional<measure::CollectiveCost>& cost) {
  if (!cost) return nullptr;
  return {{"messages", cost->messages}, {"bytes", cost->bytes}};
}

Json row_json(const Timing& t, std::int64_t ranks) {
  const double factor = measure::bus_factor(t.operation, ranks);
  return {{"operation", t.operation},
          {"bytes", t.bytes},
          {"cost", cost_json(t.cost)},
          {"turns", t.turns.count},
          {"median_s", t.turns.median_s},
          {"least_s", t.turns.least_s},
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
                static_cast<long long>(t.bytes), static_cast<long long>(t.turns.count),
                t.turns.median_s * 1e6, t.turns.least_s * 1e6, t.algorithm_bandwidth() * 1e-9,
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
  const auto link = fit(all);
  if (ranks->rank() == 0) {
    (options.json ? print_json : print_table)(all, *ranks, options, link);
  }
  ranks->finish();
  return kExitOk;
}

}  // namespace rackmark::worker

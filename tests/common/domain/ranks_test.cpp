#include "common/domain/ranks.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace rackmark {
namespace {

using testing::ElementsAre;

JobSpec spec_with(std::int64_t agents, std::int64_t workers, std::int64_t servers,
                  ServerPlacement placement) {
  JobSpec spec;
  spec.resources.agents = agents;
  spec.resources.workers_per_agent = workers;
  spec.variable_update = VariableUpdate::kParameterServer;
  spec.parameter_server.servers = servers;
  spec.parameter_server.placement = placement;
  return spec;
}

TEST(Ranks, OnlyDedicatedServersAreProcesses) {
  EXPECT_EQ(rank_count(spec_with(2, 3, 2, ServerPlacement::kDedicated)), 8);
  EXPECT_EQ(worker_count(spec_with(2, 3, 2, ServerPlacement::kDedicated)), 6);
  EXPECT_EQ(rank_count(spec_with(2, 3, 2, ServerPlacement::kColocated)), 6);
  JobSpec other = spec_with(2, 3, 2, ServerPlacement::kDedicated);
  other.variable_update = VariableUpdate::kAllReduce;
  EXPECT_EQ(rank_count(other), 6);
  other.variable_update = VariableUpdate::kParameterServer;
  other.mode = Mode::kInference;
  EXPECT_EQ(rank_count(other), 6);
}

std::vector<std::int64_t> on_hosts(const RankCounts& counts,
                                   std::int64_t (*of)(const RankCounts&, std::int64_t)) {
  std::vector<std::int64_t> values;
  for (std::int64_t host = 0; host < counts.hosts; ++host) values.push_back(of(counts, host));
  return values;
}

TEST(Ranks, AreDealtLikeCards) {
  JobSpec uneven = spec_with(3, 1, 2, ServerPlacement::kDedicated);
  uneven.resources.workers_per_agent.reset();
  uneven.resources.workers = 5;
  EXPECT_EQ(worker_count(uneven), 5);
  const RankCounts counts = rank_counts(uneven);
  EXPECT_THAT(on_hosts(counts, workers_on_host), ElementsAre(2, 2, 1));
  EXPECT_THAT(on_hosts(counts, servers_on_host), ElementsAre(1, 0, 1));
  EXPECT_THAT(on_hosts(counts, ranks_on_host), ElementsAre(3, 2, 2));
  EXPECT_THAT(on_hosts(counts, first_worker_on_host), ElementsAre(0, 2, 4));
  EXPECT_THAT(on_hosts(counts, first_server_on_host), ElementsAre(5, 6, 6));
}

TEST(Ranks, WorkersAreNumberedFirstWhateverTheLauncherDoes) {
  const auto numbers = [](const RankCounts& counts) {
    std::vector<std::int64_t> out;
    for (std::int64_t launched = 0; launched < counts.workers + counts.servers; ++launched) {
      out.push_back(rank_of_launched(counts, launched));
    }
    return out;
  };
  EXPECT_THAT(numbers({3, 6, 2}), ElementsAre(0, 1, 6, 2, 3, 7, 4, 5));
  EXPECT_THAT(numbers({3, 5, 2}), ElementsAre(0, 1, 5, 2, 3, 4, 6));
  EXPECT_THAT(numbers({3, 5, 0}), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_EQ(rank_of_launched({3, 6, 2}, 8), 8) << "one too many";
}

// What every host says of itself and what is said of every rank is the same.
TEST(Ranks, EveryRankIsOnOneHost) {
  for (std::int64_t hosts = 1; hosts <= 5; ++hosts) {
    for (std::int64_t workers = hosts; workers <= 12; ++workers) {
      for (std::int64_t servers = 0; servers <= 7; ++servers) {
        const RankCounts counts{hosts, workers, servers};
        std::int64_t launched = 0, most = ranks_on_host(counts, 0);
        for (std::int64_t host = 0; host < hosts; ++host) {
          EXPECT_LE(ranks_on_host(counts, host), most);
          for (std::int64_t i = 0; i < ranks_on_host(counts, host); ++i, ++launched) {
            const bool worker = i < workers_on_host(counts, host);
            const std::int64_t rank = rank_of_launched(counts, launched);
            EXPECT_EQ(rank, worker ? first_worker_on_host(counts, host) + i
                                   : first_server_on_host(counts, host) + i -
                                         workers_on_host(counts, host));
            EXPECT_EQ(rank < workers, worker);
            EXPECT_EQ(host_of_rank(counts, rank), host)
                << hosts << " " << workers << " " << servers;
          }
        }
        EXPECT_EQ(launched, workers + servers);
      }
    }
  }
}

}  // namespace
}  // namespace rackmark

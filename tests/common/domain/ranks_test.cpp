#include "common/domain/ranks.hpp"

#include <gtest/gtest.h>

namespace rackmark {
namespace {

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

// Three hosts: launched 0-2 and 3-5 are two workers and a server each, 6-7 two workers.
TEST(Ranks, WorkersAreNumberedFirstWhateverTheLauncherDoes) {
  const JobSpec spec = spec_with(3, 2, 2, ServerPlacement::kDedicated);
  EXPECT_EQ(ranks_on_host(spec, 0), 3);
  EXPECT_EQ(ranks_on_host(spec, 1), 3);
  EXPECT_EQ(ranks_on_host(spec, 2), 2);
  const std::int64_t wanted[] = {0, 1, 6, 2, 3, 7, 4, 5};
  for (std::int64_t launched = 0; launched < 8; ++launched) {
    EXPECT_EQ(rank_of_launched(spec, launched), wanted[launched]) << launched;
  }
  EXPECT_EQ(rank_of_launched(spec, 8), 8) << "one too many";
  const JobSpec plain = spec_with(2, 2, 4, ServerPlacement::kColocated);
  for (std::int64_t launched = 0; launched < 4; ++launched) {
    EXPECT_EQ(rank_of_launched(plain, launched), launched);
  }
}

}  // namespace
}  // namespace rackmark

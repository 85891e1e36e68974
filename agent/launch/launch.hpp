// From what is wanted and what the host is to mpirun's argv and environment. Pure: the recipe for
// Open MPI 4.1 in one place, so that it can be compared with golden texts.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "common/error.hpp"

namespace rackmark::agent {

struct LaunchInput {
  std::int64_t run_id = 0;
  std::string agent_mark;                        // RunMark::agent
  std::int64_t ranks = 1, threads = 1;           // per rank
  std::int64_t physical_cores = 1;               // of this host
  bool affinity_restricted = false;              // the agent itself may not use all of them
  bool root = false;                             // effective user id 0
  std::filesystem::path worker;                  // rackmark-worker, absolute
  std::filesystem::path spec_file;               // absolute
  std::filesystem::path scratch;                 // Open MPI's session and shared-memory files
  std::filesystem::path events_socket;           // at most 107 bytes
  std::map<std::string, std::string> inherited;  // the agent's own environment
};

struct Launch {
  std::vector<std::string> argv;         // argv[0] is plain "mpirun": see launch.cpp
  std::vector<std::string> environment;  // "NAME=value", sorted, the whole of it
};

// kInvalid when ranks or threads are below 1, or the socket's path is too long for the kernel.
Result<Launch> plan_launch(const LaunchInput& input);

inline constexpr std::size_t kMaxSocketPath = 107;  // sun_path less its terminating zero

// Ranks (dedicated parameter servers included) and threads of a resolved spec. kInvalid naming the
// member when one is missing.
struct RankShape {
  std::int64_t ranks = 0, threads = 0;
};
Result<RankShape> rank_shape(const nlohmann::json& spec);

}  // namespace rackmark::agent

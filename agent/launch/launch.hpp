// From what is wanted and what the host is to mpirun's argv and environment. Pure: the recipe for
// Open MPI 4.1 in one place, so that it can be compared with golden texts.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/domain/ranks.hpp"
#include "common/error.hpp"

namespace rackmark::agent {

struct LaunchInput {
  std::int64_t run_id = 0;
  std::string agent_mark;                        // RunMark::agent
  std::int64_t ranks = 1, threads = 1;           // per rank
  std::int64_t physical_cores = 1;               // of this host
  bool affinity_restricted = false;              // the agent itself may not use all of them
  bool root = false;                             // effective user id 0
  bool no_mpirun = false;                        // this host has none: one rank does without
  std::filesystem::path worker;                  // rackmark-worker, absolute
  std::filesystem::path spec_file;               // absolute
  std::filesystem::path scratch;                 // Open MPI's session and shared-memory files
  std::filesystem::path events_socket;           // at most 107 bytes
  std::map<std::string, std::string> inherited;  // the agent's own environment
};

// How a launcher says which rank wrote a line; without a launcher all lines are rank 0's.
enum class LineTags { kMpirun, kSrun, kOneRank };

struct Launch {
  std::vector<std::string>
      argv;  // argv[0]: plain "mpirun" or "srun", see launch.cpp; or the worker
  std::vector<std::string> environment;  // "NAME=value", sorted, the whole of it
  LineTags tags = LineTags::kMpirun;
};

// kInvalid when ranks or threads are below 1, or the socket's path is too long for the kernel.
Result<Launch> plan_launch(const LaunchInput& input);

inline constexpr std::size_t kMaxSocketPath = 107;  // sun_path less its terminating zero

// Several hosts. mpirun on the head agent has no ranks of its own: every host, the head's own too,
// gets its daemon through the remote-shell agent, and with it the environment of that host
// (rank_environment). So nothing of one host's paths reaches another.
struct GangInput {
  std::int64_t run_id = 0;
  std::string agent_mark;
  RankCounts counts;
  std::int64_t threads = 1;         // of a rank
  std::int64_t physical_cores = 1;  // of this host; all are of one device class
  bool affinity_restricted = false;
  bool root = false;
  std::string network;                   // CIDR on which hosts talk
  std::string rank_ports, launch_ports;  // "21000-21999"; "" = any free ones
  std::filesystem::path scratch;         // of this host
  std::filesystem::path remote_shell;    // started as REMOTE_SHELL HOST DAEMON ARGUMENTS...
  std::filesystem::path relay_socket;    // of the head agent, for the remote shell
  std::string run_token;                 // for the remote shell, never on a command line
  std::map<std::string, std::string> inherited;
};

// The recipe that was tried: Open MPI 4.1. kInvalid when a path would not survive the way through
// mpirun (blanks), or the socket's is too long.
Result<Launch> plan_gang_launch(const GangInput& input);
// The same for Open MPI 5, whose launcher is PRRTE: its parameters have other names. Tried with
// 5.0.7 of Debian 13.
Result<Launch> plan_gang_launch_prrte(const GangInput& input);
// Which of the two, from what mpirun says of itself ("4.1.4", "5.0.7"); unknown counts as 4.
bool uses_prrte(const std::string& openmpi_version);

// The name by which mpirun knows host `position` (0: the head): valid, unique, and no real host's.
std::string gang_host_name(std::int64_t position);
std::optional<std::int64_t> gang_host_position(const std::string& name);

// What daemon and ranks on this host get, whoever calls for the daemon. `bin`: a folder in which
// kRankProgram is this host's worker.
inline constexpr const char* kRankProgram = "rackmark-worker";
struct PlaceInput {
  std::int64_t run_id = 0;
  std::string agent_mark;
  std::int64_t threads = 1;
  std::string interface;  // of this host, in the run's network; "" = any
  std::filesystem::path scratch, bin, spec_file, events_socket;
  std::map<std::string, std::string> inherited;
};
Result<std::vector<std::string>> rank_environment(const PlaceInput& input);

}  // namespace rackmark::agent

// A run over several hosts inside one allocation of Slurm: ranks are tasks of one step, started by
// srun on the head agent, in the order of `nodes`. Pure.
//
// slurmd starts on each node `AGENT take-seat` (process/seat.hpp), which becomes that host's worker
// with what the host's own agent has prepared: as with mpirun nothing of one host's paths reaches
// another, but for the agent's program, which must be at one path everywhere.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "agent/launch/launch.hpp"

namespace rackmark::agent {

inline constexpr const char* kTakeSeat = "take-seat";

struct SlurmInput {
  std::int64_t run_id = 0;
  std::string agent_mark;
  std::int64_t job_id = 0;         // of Slurm: the allocation
  std::vector<std::string> nodes;  // Slurm's names, head first
  RankCounts counts;               // of all nodes
  std::string network;             // CIDR on which hosts talk
  std::string rank_ports;          // "21000-21999"; "" = any free ones
  std::string openmpi_version;     // as mpirun says
  std::filesystem::path agent;     // this program
  std::string seat_key;            // see process/seat.hpp
  std::map<std::string, std::string> inherited;
};

// Tried with Slurm 22.05 and Open MPI 4.1. kInvalid naming the member when there are fewer than two
// nodes, a name that no node has, no rank, or no network.
Result<Launch> plan_slurm_launch(const SlurmInput& input);

}  // namespace rackmark::agent

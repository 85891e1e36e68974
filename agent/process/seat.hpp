// Where a rank that Slurm starts finds what the agent of its node has prepared for it.
//
//   agent:   make_seats(folder)                           slurmd: `rackmark-agent take-seat`
//              seat.json  what to become, as whom   -----> reads it and becomes the worker,
//              taken      FIFO, where watched       <----- holding the FIFO's write end open
//   guard:   `rackmark-agent watch-seats FOLDER` holds the read end: it ends with the last rank
//
// Both sides work out the folder's name from what they are told, so that one command starts the
// ranks of all nodes. slurmd, not the agent, is the ranks' parent: the FIFO tells of their end
// without polling and whatever becomes of agent and guard.
#pragma once

#include <boost/describe.hpp>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace rackmark::agent {

inline constexpr const char* kWatchSeats = "watch-seats";

// The token of the run, such that it may be seen.
std::string seat_key(const std::string& run_token);
// Stands for one node (Slurm's name) of one run in the name of a folder. Letters and digits.
std::string seat_mark(const std::string& key, const std::string& node);
// /dev/shm/rackmark-<mark>-<run>: as run_folder's make_scratch names it.
std::filesystem::path seat_folder(const std::string& mark, std::int64_t run_id);

struct Seat {
  std::vector<std::string> argv, environment;
};
BOOST_DESCRIBE_STRUCT(Seat, (), (argv, environment))

// `folder` exists and is its owner's alone. Throws std::system_error.
void make_seats(const std::filesystem::path& folder, const Seat& seat, bool watched);

// The whole program of one task: RACKMARK_SEAT (the key), RACKMARK_RUN and SLURMD_NODENAME say
// where. Waits up to a minute for the agent. The worker gets the seat's environment and of its own
// what Slurm, PMIx and Open MPI need (SLURM*, PMIX_*, OMPI_MCA_*). Returns only when that failed:
// 126, with a line on standard error.
int take_seat_main();

// Returns 0 once ranks have come and all of them have ended, 1 when the folder is not there.
int watch_seats_main(const std::filesystem::path& folder);

}  // namespace rackmark::agent

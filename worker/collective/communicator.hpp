// What ranks say to each other. All ranks call the same operations in the same order; one thread at
// a time (messages() have a thread of their own). Errors of the transport are exceptions naming
// library, call and code.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "worker/collective/messages.hpp"

namespace rackmark::worker {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual std::int64_t rank() const = 0;
  virtual std::int64_t size() const = 0;
  virtual std::map<std::string, std::string> libraries() const { return {}; }

  // Which all-reduce algorithm the library was told to use, as read back from it; "" when it was
  // left to choose.
  virtual std::string forced_algorithm() const { return ""; }

  virtual void barrier() = 0;
  // Replaces every element by its sum over all ranks; equal lengths everywhere.
  virtual void all_reduce_sum(std::span<float> values) = 0;
  virtual double all_reduce_max(double value) = 0;
  virtual void broadcast(std::span<float> values, std::int64_t root) = 0;
  // The texts of all ranks, by rank, on every rank.
  virtual std::vector<std::string> all_gather(const std::string& text) = 0;
  // 16-bit values, which no reduction of the library knows. `send` and `receive` are size() blocks
  // of equal length, by rank: block r of `send` goes to rank r, block r of `receive` is from it.
  virtual void all_to_all(std::span<const std::uint16_t> send,
                          std::span<std::uint16_t> receive) = 0;
  // `all` is size() blocks of the length of `mine`, by rank.
  virtual void all_gather(std::span<const std::uint16_t> mine, std::span<std::uint16_t> all) = 0;

  // Ranks below `count` among themselves; null on the others. Collective.
  virtual std::unique_ptr<Communicator> first_ranks(std::int64_t count) = 0;
  // Messages among all ranks, apart from every other operation. Collective. Throws
  // std::runtime_error when the library lets only one thread call it.
  virtual std::unique_ptr<Messages> open_messages() = 0;

  // Orderly end; collective. Nothing may be called after it.
  virtual void finish() = 0;
  // Ends every rank of the job, from any thread, without waiting for them.
  virtual void abort(int exit_status) = 0;
};

struct CommunicatorOptions {
  std::string all_reduce_algorithm = "auto";  // auto, ring, recursive_doubling, rabenseifner
  // Number of this process among the ranks, where that is not the launcher's (common/domain/ranks).
  std::optional<std::int64_t> rank;
};

// The only rank there is; needs no start-up.
std::unique_ptr<Communicator> make_single_communicator();

// How many ranks the launcher (mpirun, srun --mpi=pmix) started, from its environment; 1 when there
// is none.
struct LaunchedRanks {
  std::int64_t rank = 0, size = 1;
  std::int64_t local_rank = 0, local_size = 1;  // on this host
};
LaunchedRanks launched_ranks();

std::string host_name();  // this one's

// A single rank gets the single communicator; more load librackmark-mpi.so from beside the worker,
// so that the worker itself needs no MPI library. Throws std::runtime_error naming what is missing.
std::unique_ptr<Communicator> connect_ranks(const CommunicatorOptions& options);

// Every rank states what it is about to do (spec, engine revision, memory layout). Throws
// Failure(launch_failed) on every rank, naming rank and host of the first that differs from rank 0,
// and in what.
void require_agreement(Communicator& ranks, const std::map<std::string, std::string>& statement);

}  // namespace rackmark::worker

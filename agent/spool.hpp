// Events that the controller has not accepted yet, on disk, so that neither an absent controller
// nor the end of the agent loses them.
//
// One folder per run below `root`, with segments `events-<first seq>`: records of a header line
//   "rm1 <seq> <bytes> <crc32 hex>\n"
// the batch as JSON and a newline. A record is fsynced before it can be sent. After a crash the
// torn tail of a segment is cut off; its number is given again. A record whose sum is wrong becomes
// an empty batch with `dropped` 1, so that numbers have no holes; one that cannot be read now is
// not given up.
//
// Bounded: when `limit_bytes` would be passed, log lines go first, oldest first, and are counted in
// `dropped`; then telemetry of the new batch. Steps, failures and summaries always stay.
//
// Any thread may call; append() blocks for an fsync.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "agent/process/unique_fd.hpp"
#include "common/protocol/agents.hpp"

namespace rackmark::agent {

class Spool {
 public:
  // Opens what is there, repairing it. Throws std::system_error when the folder cannot be used.
  explicit Spool(std::filesystem::path root, std::uint64_t limit_bytes = std::uint64_t{256} << 20);

  // Numbers the batch (its seq is set here) and makes it durable. Gives the number. Throws
  // std::system_error, with ENOSPC when the disk is full; the batch is then not in the spool.
  std::int64_t append(protocol::EventBatch batch);

  // What is not accepted yet, in order, run by run; about `max_bytes`, at least one batch. Throws
  // std::system_error when the disk does not give it now: it is still there.
  std::vector<protocol::EventBatch> pending(std::size_t max_bytes) const;
  std::vector<protocol::EventBatch> pending(std::int64_t run_id, std::size_t max_bytes) const;
  bool has_pending() const;
  bool has_pending(std::int64_t run_id) const;
  // The next run behind `run_id`, and behind the last one the first, that has something pending.
  std::optional<std::int64_t> next_pending(std::int64_t run_id) const;

  void accepted(std::int64_t run_id, std::int64_t up_to_seq);
  void forget(std::int64_t run_id);  // drops all that is left of a run
  std::int64_t last_seq(std::int64_t run_id) const;
  std::uint64_t bytes() const;

 private:
  struct Record {
    std::int64_t seq = 0;
    std::uint64_t offset = 0, bytes = 0;  // of the JSON text inside the segment; 0 bytes: lost
    std::uint32_t crc = 0;
    bool has_logs = false;
  };
  struct Segment {
    std::filesystem::path path;
    std::uint64_t size = 0;
    std::vector<Record> records;
  };
  struct RunSpool {
    std::deque<Segment> segments;  // the last one is appended to
    UniqueFd open;                 // of the last one
    std::int64_t last_seq = 0, accepted_seq = 0;
    bool has_pending() const { return last_seq > accepted_seq; }
  };

  std::filesystem::path folder_of(std::int64_t run_id) const;
  void load_run(std::int64_t run_id);
  static Segment load_segment(const std::filesystem::path& path, std::int64_t next_seq);
  static protocol::EventBatch read(std::int64_t run_id, const Segment& segment,
                                   const Record& record);
  // Appends to `out` until its texts pass `max_bytes`; false: they have.
  static bool collect(std::int64_t run_id, const RunSpool& run, std::size_t max_bytes,
                      std::size_t& bytes, std::vector<protocol::EventBatch>& out);
  bool make_room(std::uint64_t wanted);
  std::uint64_t strip_logs(std::int64_t run_id, RunSpool& run, std::size_t index);
  void start_segment(std::int64_t run_id, RunSpool& run, std::int64_t first_seq);

  const std::filesystem::path root_;
  const std::uint64_t limit_bytes_;
  mutable std::mutex mutex_;
  std::map<std::int64_t, RunSpool> runs_;  // guarded by mutex_
  std::uint64_t bytes_ = 0;                // guarded by mutex_
};

}  // namespace rackmark::agent

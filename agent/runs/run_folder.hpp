// What is kept of a run on disk, so that an agent that is started again knows it:
//   STATE/runs/<id>/  run.json (what was wanted, who guards it)  spec.json (for the worker)
//                     launch.json, guard.json (see process/guard)  end.json (how it ended)
#pragma once

#include <boost/describe.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "common/protocol/agents.hpp"

namespace rackmark::agent {

struct RunRecord {
  protocol::WantedRun wanted;  // without its token
  std::int64_t guard_pid = 0;  // 0: not started yet
  std::int64_t guard_start_ticks = 0;
};
BOOST_DESCRIBE_STRUCT(RunRecord, (), (wanted, guard_pid, guard_start_ticks))

class RunFolder {
 public:
  RunFolder(const std::filesystem::path& runs, std::int64_t run_id);
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path spec_file() const { return path_ / "spec.json"; }

  void create() const;  // throws std::system_error
  void write_record(RunRecord record) const;
  std::optional<RunRecord> read_record() const;
  void write_spec(const nlohmann::json& spec) const;
  void write_end(const protocol::ObservedRun& end) const;
  std::optional<protocol::ObservedRun> read_end() const;
  void remove() const;  // never throws

 private:
  std::filesystem::path path_;
};

// Ids of the runs that have a folder.
std::vector<std::int64_t> list_run_folders(const std::filesystem::path& runs);

// A fresh folder for Open MPI's session files, its shared memory and the events socket:
// /dev/shm/rackmark-<mark>-<id> (memory, and a short path), else the same name inside `fallback`.
// Mode 0700. Throws std::system_error when neither can be made.
std::filesystem::path make_scratch(const std::string& agent_mark, std::int64_t run_id,
                                   const std::filesystem::path& fallback);

// `wanted` (of a spec) as a real path inside one of `roots`; nullopt when it is absent or resolves
// to somewhere else. A relative path is looked for in each root.
std::optional<std::filesystem::path> resolve_input(const std::string& wanted,
                                                   const std::vector<std::string>& roots);

}  // namespace rackmark::agent

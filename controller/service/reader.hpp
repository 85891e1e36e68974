// Everything that only looks. A Reader owns its own connection and is used by one thread at a time;
// make as many as there are reading threads. Needs a database that a Writer has migrated. It sees
// everything that a Writer's function committed before the call began.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/clock.hpp"
#include "common/error.hpp"
#include "common/protocol/agents.hpp"
#include "common/protocol/groups.hpp"
#include "common/protocol/jobs.hpp"
#include "common/protocol/runs.hpp"
#include "common/protocol/system.hpp"
#include "controller/service/notices.hpp"
#include "controller/service/settings.hpp"

namespace rackmark::service {

// For /metrics; states by their wire names, zeros included.
struct Counters {
  std::map<std::string, std::int64_t> jobs_by_state, runs_by_state, agents_by_state;
  std::int64_t results = 0, events_logged = 0;  // events_logged: newest id of the event log
  std::int64_t database_bytes = 0;
  std::optional<double> oldest_queued_s;  // age of the oldest waiting job
};

struct Identity {
  std::string controller_uuid;
  std::int64_t schema = 0;  // number of the newest migration
};

class Reader {
 public:
  // Throws store::StoreError. `clock` outlives the Reader.
  Reader(const std::filesystem::path& database, const Clock& clock, Settings settings);
  ~Reader();
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  Identity identity();
  bool ready();  // the database answers
  // A copy of the database beside it. From any one thread, also while others use this Reader: it
  // has a connection of its own. kUnavailable when it cannot be written.
  Result<protocol::BackupView> back_up() const;

  // kInvalid with every wrong member of a query (unknown state, bad cursor or time, limit).
  Result<protocol::JobPage> jobs(const protocol::JobQuery& query);
  Result<protocol::JobView> job(std::int64_t id);  // kNotFound
  // Checks and resolves like submit, stores nothing. kInvalid.
  Result<protocol::DryRun> dry_run(const nlohmann::json& spec);

  Result<protocol::GroupPage> groups(const protocol::GroupQuery& query);  // kInvalid
  Result<protocol::GroupView> group(std::int64_t id);                     // kNotFound
  Result<protocol::ScalingView> scaling(std::int64_t group_id);           // kNotFound

  Result<protocol::RunView> run(std::int64_t id);  // kNotFound
  // kNotFound, kInvalid; of running runs too.
  Result<protocol::StepsView> steps(std::int64_t id, const protocol::StepsQuery& query = {});
  Result<protocol::ProfileView> profile(std::int64_t id);  // kNotFound, also without a profile
  Result<protocol::LogPage> logs(std::int64_t id,
                                 const protocol::LogQuery& query);           // kNotFound, kInvalid
  Result<protocol::ResultPage> results(const protocol::ResultQuery& query);  // kInvalid

  protocol::AgentList agents();                        // `pack_command` is left to the caller
  Result<protocol::AgentView> agent(std::int64_t id);  // kNotFound
  // Constant-time comparison with the stored hash. kUnauthorized, also for an unknown agent.
  Result<void> authenticate(std::int64_t agent_id, std::string_view bearer);

  // Rows of the event log with an id above `after`, oldest first. `limit` 1 to 1000.
  std::vector<EventLogEntry> events_after(std::int64_t after, std::optional<std::int64_t> job,
                                          std::int64_t limit);
  std::int64_t newest_event_id();  // 0 when there is none
  std::int64_t oldest_event_id();  // resuming from before it has a gap: fetch state anew

  Counters counters();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace rackmark::service

// Everything that changes state. One Writer, one thread, one connection; every public function is
// one durable transaction (or none, when it refuses), so a kill -9 between any two instructions
// loses nothing that was answered.
//
// Refusals are Result errors; a broken disk or database is store::StoreError (an exception).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "common/clock.hpp"
#include "common/error.hpp"
#include "common/protocol/agents.hpp"
#include "common/protocol/groups.hpp"
#include "common/protocol/jobs.hpp"
#include "controller/service/notices.hpp"
#include "controller/service/settings.hpp"

namespace rackmark::service {

// The same key with the same request within 24 h answers the first reply again; another request
// under the same key is kConflict. `request_sha256` covers verb, path and body.
struct Idempotency {
  std::string key;  // 1 to 255 characters
  std::string request_sha256;
};

struct Submission {
  std::string spec_text;  // the body as it came, kept verbatim
  nlohmann::json spec;    // the same, parsed
  std::optional<Idempotency> idempotency;
  std::string who = "local";  // for the audit log: token name or address
};

struct SyncReply {
  protocol::SyncDown down;
  // False: nothing in `down` is new to this agent, so the call may be held until
  // Notices::wake_agent names it, `hold_s` passed, or a newer sync of it came; then answer with
  // Writer::sync_down().
  bool answer_now = true;
  double hold_s = 0;  // 3 with a run, 25 without, less under a short lease
};

class Writer {
 public:
  // Opens or creates the database, checks it, migrates it, and recovers (leases run anew from now).
  // `clock` outlives the Writer. Throws store::StoreError with one clear sentence: not a database,
  // damaged, a changed migration, a newer schema, held by another controller.
  Writer(const std::filesystem::path& database, const Clock& clock, Settings settings,
         Notices notices);
  ~Writer();
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  // --- jobs
  // kInvalid with every wrong member; kConflict (idempotency); kTooMany. Nothing is stored then.
  Result<protocol::JobView> submit(const Submission& submission);
  // Ends a queued job at once; of a running one the agent is told, and the view shows
  // cancel_requested until its workers are gone. kNotFound; kConflict when the job is over.
  Result<protocol::JobView> cancel(std::int64_t job_id, const std::string& who = "local");
  // A new job from the same submitted text, rerun_of set, in the same group. kNotFound.
  Result<protocol::JobView> rerun(std::int64_t job_id, const std::optional<Idempotency>& = {},
                                  const std::string& who = "local");

  // All jobs of the group or none. kInvalid with every wrong member; kConflict (idempotency);
  // kTooMany.
  Result<protocol::GroupView> create_group(const protocol::NewGroup& group,
                                           const std::optional<Idempotency>& = {},
                                           const std::string& who = "local");
  // As cancel(), of every job of the group that is not over. kNotFound; kConflict when all are.
  Result<protocol::GroupView> cancel_group(std::int64_t group_id, const std::string& who = "local");

  // --- agents
  // valid_s 60 to 604800, else kInvalid. The token is in no log and at rest only as a hash.
  Result<protocol::EnrolmentToken> create_enrolment_token(std::int64_t valid_s,
                                                          const std::string& who = "local");
  // kUnauthorized: unknown, used or expired token (a repeat of the call whose answer was lost is
  // answered again until that agent's first sync). kConflict: the name is held; names the holder.
  // kInvalid: name, labels, protocol.
  Result<protocol::Enrolled> enrol(const protocol::Enrolment& enrolment);
  // Revokes its token and frees its name; whoever enrols under that goes on with its id. kNotFound;
  // kConflict: it has a run, or was retired before.
  Result<protocol::AgentView> retire_agent(std::int64_t agent_id, const std::string& who = "local");
  // Takes in what the agent sees and tells what it should do, at once; holding is the caller's.
  // The caller has checked the bearer token (Reader::authenticate). kNotFound; kConflict
  // (agent_conflict): the same id from another boot whose holder is not silent yet, or an older
  // incarnation of this boot.
  Result<SyncReply> sync(std::int64_t agent_id, const protocol::SyncUp& up);
  // What a held sync is answered with.
  Result<protocol::SyncDown> sync_down(std::int64_t agent_id);
  // Accepts each batch once by (run, source agent, seq), in order of seq; a hole stops there.
  // Runs that are not this agent's or are over are in `refused_runs`.
  Result<protocol::EventReceipt> accept_events(std::int64_t agent_id,
                                               const protocol::EventUpload& upload);

  // --- time
  // Leases, time-outs, scheduling, bounds of the event log, old idempotency keys. Call it about
  // once a second. Throws store::StoreError, also as long as a change that failed could not be
  // stored now either.
  void tick();
  // Moves the write-ahead log into the database file; for an orderly end.
  void checkpoint();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace rackmark::service

#include "controller/service/writer.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstring>

#include "common/domain/spec.hpp"
#include "controller/service/core.hpp"
#include "controller/service/enrolment.hpp"
#include "controller/service/event_intake.hpp"
#include "controller/service/groups.hpp"
#include "controller/service/life.hpp"
#include "controller/service/placement.hpp"
#include "controller/service/secrets.hpp"
#include "controller/service/submission.hpp"
#include "controller/service/sync.hpp"
#include "controller/store/agents.hpp"
#include "controller/store/journal.hpp"
#include "controller/store/migrate.hpp"
#include "controller/store/runs.hpp"

namespace rackmark::service {

namespace {

constexpr std::int64_t kCleaningNs = 60'000'000'000;

// One controller per database. The kernel frees the lock when the process ends, however it ends.
class DatabaseLock {
 public:
  explicit DatabaseLock(const std::filesystem::path& database) {
    const std::string path = database.string() + ".lock";
    fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd_ < 0) {
      throw store::StoreError(path + " cannot be opened: " + std::strerror(errno));
    }
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      ::close(fd_);
      throw store::StoreError("database " + database.string() +
                              " is in use by another rackmark-controller");
    }
  }
  ~DatabaseLock() { ::close(fd_); }
  DatabaseLock(const DatabaseLock&) = delete;
  DatabaseLock& operator=(const DatabaseLock&) = delete;

 private:
  int fd_ = -1;
};

}  // namespace

struct Writer::Impl {
  Impl(const std::filesystem::path& database, const Clock& clock_ref, Settings given, Notices told)
      : lock(database),
        db(database, store::Database::Access::kWrite),
        settings(given),
        notices(std::move(told)),
        core{db, clock_ref, settings, notices, "", {}} {
    store::migrate(db, store::embedded_migrations(), clock_ref.wall_us());
    recover();
  }

  // Nothing of the past is undone; only clocks start anew: every agent has a full lease, every run
  // what is left of its time.
  void recover() {
    Change change(core);
    core.controller_uuid = store::controller_uuid(db);
    if (core.controller_uuid.empty()) {
      core.controller_uuid = random_uuid();
      store::adopt_uuid(change.tx, core.controller_uuid);
    }
    for (const store::AgentRow& agent : store::list_agents(db)) {
      if (agent.presence != store::Presence::kPresent && agent.presence != store::Presence::kLeft) {
        continue;
      }
      core.memory.last_sync_ns[agent.id] = core.clock.monotonic_ns();
    }
    for (const store::RunRow& run : store::list_live_runs(db)) {
      const double ran_s = static_cast<double>(change.now_us() - run.created_us) / 1e6;
      core.memory.deadline_ns[run.id] = deadline_ns(core, run.timeout_s, std::max(0.0, ran_s));
    }
    end_refused_jobs(change);
    change.place_later();
    change.finish();
  }

  // What may be asked for changes with the version, so only here. Runs under way go on.
  static void end_refused_jobs(Change& change) {
    for (store::JobRow& job : store::list_waiting_jobs(change.db())) {
      const auto spec = parse_spec(nlohmann::json::parse(job.spec_resolved, nullptr, false));
      if (spec) continue;
      end_job(change, job, JobState::kFailed, std::nullopt,
              {Actor::kController, Reason::kSpecUnsupported,
               "this version refuses the spec: " + spec.error().message, std::nullopt});
    }
  }

  void clean(Change& change) {
    if (core.clock.monotonic_ns() < core.memory.next_cleaning_ns) return;
    core.memory.next_cleaning_ns = core.clock.monotonic_ns() + kCleaningNs;
    const auto before = [&change](double hours) {
      return change.now_us() - static_cast<std::int64_t>(hours * 3600e6);
    };
    store::bound_events(change.tx, settings.event_log_rows, before(24 * settings.event_log_days));
    store::forget_replies(change.tx, before(settings.idempotency_hours));
  }

  DatabaseLock lock;
  store::Database db;
  const Settings settings;
  const Notices notices;
  Core core;
};

Writer::Writer(const std::filesystem::path& database, const Clock& clock, Settings settings,
               Notices notices)
    : impl_(std::make_unique<Impl>(database, clock, settings, std::move(notices))) {}

Writer::~Writer() = default;

Result<protocol::JobView> Writer::submit(const Submission& submission) {
  return service::submit(impl_->core, submission);
}

Result<protocol::JobView> Writer::cancel(std::int64_t job_id, const std::string& who) {
  return service::cancel(impl_->core, job_id, who);
}

Result<protocol::JobView> Writer::rerun(std::int64_t job_id,
                                        const std::optional<Idempotency>& idempotency,
                                        const std::string& who) {
  return service::rerun(impl_->core, job_id, idempotency, who);
}

Result<protocol::GroupView> Writer::create_group(const protocol::NewGroup& group,
                                                 const std::optional<Idempotency>& idempotency,
                                                 const std::string& who) {
  return service::create_group(impl_->core, group, idempotency, who);
}

Result<protocol::GroupView> Writer::cancel_group(std::int64_t group_id, const std::string& who) {
  return service::cancel_group(impl_->core, group_id, who);
}

Result<protocol::EnrolmentToken> Writer::create_enrolment_token(std::int64_t valid_s,
                                                                const std::string& who) {
  return service::create_enrolment_token(impl_->core, valid_s, who);
}

Result<protocol::Enrolled> Writer::enrol(const protocol::Enrolment& enrolment) {
  return service::enrol(impl_->core, enrolment);
}

Result<protocol::AgentView> Writer::retire_agent(std::int64_t agent_id, const std::string& who) {
  return service::retire(impl_->core, agent_id, who);
}

Result<SyncReply> Writer::sync(std::int64_t agent_id, const protocol::SyncUp& up) {
  return service::sync(impl_->core, agent_id, up);
}

Result<protocol::SyncDown> Writer::sync_down(std::int64_t agent_id) {
  return service::sync_down(impl_->core, agent_id);
}

Result<protocol::EventReceipt> Writer::accept_events(std::int64_t agent_id,
                                                     const protocol::EventUpload& upload) {
  return service::accept_events(impl_->core, agent_id, upload);
}

void Writer::tick() {
  Change change(impl_->core);
  if (impl_->core.write_failed) store::write_something(change.tx);
  lose_silent_agents(change);
  end_overdue_runs(change);
  impl_->clean(change);
  change.finish();
  impl_->core.write_failed = false;
}

void Writer::checkpoint() { impl_->db.execute("PRAGMA wal_checkpoint(TRUNCATE)"); }

}  // namespace rackmark::service

#include "agent/runs/runner.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

#include <algorithm>

namespace rackmark::agent {

using protocol::SyncDown;

namespace {
constexpr int kTickMs = 50;
}

Runner::Runner(RunHost host, const Clock& clock, Spool& spool, const Lease& lease,
               std::function<void(News)> on_change)
    : host_(std::move(host)),
      clock_(clock),
      spool_(spool),
      lease_(lease),
      on_change_(std::move(on_change)),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  // Orphans of a run whose guard was killed come to us, so that we can reap them.
  ::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

Runner::~Runner() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake();
  if (thread_.joinable()) thread_.join();
}

void Runner::start() {
  for (const std::int64_t id : list_run_folders(host_.state / "runs")) {
    if (auto run = Run::recover(host_, clock_, spool_, id)) {
      runs_.emplace(id, std::move(*run));
    } else {
      RunFolder(host_.state / "runs", id).remove();
    }
  }
  publish();
  thread_ = std::thread([this] { loop(); });
}

void Runner::apply(const SyncDown& down) {
  {
    const std::lock_guard lock(mutex_);
    wishes_.push_back(down);
  }
  wake();
}

void Runner::end_all(std::string why) {
  {
    const std::lock_guard lock(mutex_);
    end_all_ = std::move(why);
  }
  wake();
}

void Runner::renew(RunHost host) {
  const std::lock_guard lock(mutex_);
  renewed_ = std::move(host);
}

std::vector<protocol::ObservedRun> Runner::observed() const {
  const std::lock_guard lock(mutex_);
  return snapshot_;
}

Runner::Relay Runner::relay() const {
  const std::lock_guard lock(mutex_);
  return relay_;
}

bool Runner::busy() const {
  const std::lock_guard lock(mutex_);
  return busy_;
}

void Runner::wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto n = ::write(wake_.get(), &one, sizeof one);
}

void Runner::loop() {
  while (true) {
    std::vector<pollfd> fds{{wake_.get(), POLLIN, 0}};
    for (const auto& [id, run] : runs_) run.add_to(fds);
    ::poll(fds.data(), fds.size(), kTickMs);
    std::uint64_t count = 0;
    [[maybe_unused]] const auto n = ::read(wake_.get(), &count, sizeof count);
    take_wishes();
    {
      const std::lock_guard lock(mutex_);
      if (stop_) return;
    }
    for (auto& [id, run] : runs_) run.service();
    fence();
    start_next();
    publish();
  }
}

void Runner::take_wishes() {
  std::vector<SyncDown> wishes;
  std::string end_all;
  {
    const std::lock_guard lock(mutex_);
    wishes.swap(wishes_);
    end_all = end_all_;
  }
  for (const auto& wish : wishes) take(wish);
  if (end_all.empty()) return;
  stopping_why_ = end_all;
  for (auto& [id, run] : runs_) run.request_stop(StopCause::kAgentStopping, end_all);
}

void Runner::take(const SyncDown& down) {
  for (const std::int64_t id : down.forget) forget(id);
  std::set<std::int64_t> wanted;
  for (const auto& run : down.wanted) {
    wanted.insert(run.run_id);
    if (runs_.contains(run.run_id) || forgotten_.contains(run.run_id) || !stopping_why_.empty())
      continue;
    runs_.emplace(run.run_id, Run(host_, clock_, spool_, run));
  }
  // The word of these never came here: they end as they were, and the controller hears of it.
  for (const std::int64_t id : down.cancel) {
    if (runs_.contains(id) || forgotten_.contains(id)) continue;
    protocol::WantedRun unknown;
    unknown.run_id = id;
    runs_.emplace(id, Run(host_, clock_, spool_, unknown));
  }
  for (auto& [id, run] : runs_) {
    const bool cancelled =
        std::find(down.cancel.begin(), down.cancel.end(), id) != down.cancel.end();
    if (cancelled) {
      run.request_stop(StopCause::kCancelled, "cancelled");
    } else if (!wanted.contains(id)) {
      run.request_stop(StopCause::kNotWanted, "the controller does not list this run any more");
    }
  }
  for (const auto& call : down.relay_calls) {
    if (const auto it = runs_.find(call.run_id); it != runs_.end())
      it->second.take_relay_call(call);
  }
  for (const auto& result : down.relay_results) {
    if (const auto it = runs_.find(result.run_id); it != runs_.end())
      it->second.take_relay_result(result);
  }
}

void Runner::forget(std::int64_t run_id) {
  const auto it = runs_.find(run_id);
  if (it == runs_.end() || !it->second.over()) return;
  it->second.remove_traces();
  runs_.erase(it);
  spool_.forget(run_id);
  forgotten_.insert(run_id);
  if (forgotten_.size() > 10000) forgotten_.erase(forgotten_.begin());  // ids only grow
}

void Runner::fence() {
  if (!lease_.must_fence(clock_.monotonic_ns())) return;
  for (auto& [id, run] : runs_) {
    if (run.waiting()) continue;  // it starts when the lease is fresh again, if it is still wanted
    run.request_stop(StopCause::kLeaseLost,
                     "no answer from the controller for 5/6 of the lease: the workers were ended");
  }
}

void Runner::start_next() {
  const bool taken = std::any_of(runs_.begin(), runs_.end(), [](const auto& entry) {
    return !entry.second.waiting() && !entry.second.over();
  });
  if (taken || lease_.must_fence(clock_.monotonic_ns())) return;
  for (auto& [id, run] : runs_) {
    if (!run.waiting()) continue;
    take_renewed_host();
    return run.start();
  }
}

// All runs refer to host_: called when nothing is on.
void Runner::take_renewed_host() {
  const std::lock_guard lock(mutex_);
  if (renewed_) host_ = std::move(*renewed_);
  renewed_.reset();
}

bool Runner::Published::same_state(const Published& other) const {
  return state == other.state && all_gone == other.all_gone && stalled == other.stalled &&
         relay_changes == other.relay_changes;
}

void Runner::publish() {
  std::vector<protocol::ObservedRun> now;
  Relay relay;
  std::map<std::int64_t, Published> published;
  bool busy = false;
  for (const auto& [id, run] : runs_) {
    const protocol::ObservedRun& seen = run.observed();
    now.push_back(seen);
    published[id] = {seen.state, seen.all_gone, seen.stall.has_value(), run.relay_changes(),
                     seen.last_seq};
    for (auto& call : run.relay_calls()) relay.calls.push_back(std::move(call));
    if (run.relay_result()) relay.results.push_back(*run.relay_result());
    busy = busy || !run.over();
  }
  const bool changed = !std::equal(published.begin(), published.end(), published_.begin(),
                                   published_.end(), [](const auto& a, const auto& b) {
                                     return a.first == b.first && a.second.same_state(b.second);
                                   });
  const bool events = std::any_of(published.begin(), published.end(), [this](const auto& entry) {
    const auto before = published_.find(entry.first);
    return before == published_.end() || before->second.last_seq != entry.second.last_seq;
  });
  published_ = std::move(published);
  {
    const std::lock_guard lock(mutex_);
    snapshot_ = std::move(now);
    relay_ = std::move(relay);
    busy_ = busy;
  }
  if ((changed || events) && on_change_) on_change_(changed ? News::kStates : News::kEvents);
}

}  // namespace rackmark::agent

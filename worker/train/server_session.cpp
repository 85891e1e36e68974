#include "worker/train/server_session.hpp"

#include <thread>
#include <utility>

#include "common/domain/ranks.hpp"
#include "worker/collective/post.hpp"
#include "worker/failure.hpp"
#include "worker/measure/telemetry.hpp"
#include "worker/models/registry.hpp"
#include "worker/train/batch_search.hpp"
#include "worker/train/rank_setup.hpp"

namespace rackmark::worker {

namespace {

constexpr std::int64_t kReportEveryNs = 1'000'000'000;

}  // namespace

ServerSession::ServerSession(SessionOptions options, Events& events, const Clock& clock,
                             const std::atomic<bool>& stop)
    : options_(std::move(options)), events_(events), clock_(clock), stop_(stop) {}

void ServerSession::connect() {
  ranks_ = find_ranks(options_.spec);
  agree_on_spec(*ranks_, options_.spec,
                {{"micro_batches", std::to_string(options_.micro_batches)}});
  ranks_->first_ranks(worker_count(options_.spec));  // of which this is none
}

void ServerSession::set_up() {
  const JobSpec& spec = options_.spec;
  const Net net =
      build_model(spec.model, static_cast<int>(spec.image_size), static_cast<int>(spec.classes));
  require_server_room(spec, net, options_.memory);
  protocol::HelloEvent hello = hello_of(spec, {.threads = 1}, net, *ranks_, false);
  hello.ranks = worker_count(spec);
  hello.variable_update = server_label(server_setup(spec));
  hello.notes["role"] = "dedicated parameter server";
  events_.hello(hello);
  events_.phase("setup");
  service_ = make_variable_service(*ranks_, server_setup(spec));
}

void ServerSession::check() const {
  if (stop_) throw Terminated();
  if (const std::string why = events_.lost(); !why.empty()) throw EventsLost(why);
}

void ServerSession::begin_window() {
  events_.phase("measuring", options_.spec.steps.measured);
  start_ns_ = clock_.monotonic_ns();
}

void ServerSession::follow_steps() {
  const std::int64_t steps = service_->steps(), warmup = options_.spec.steps.warmup;
  if (!start_ns_ && steps >= warmup) begin_window();
  const std::int64_t now_ns = clock_.monotonic_ns();
  if (now_ns - reported_ns_ < kReportEveryNs) return;
  reported_ns_ = now_ns;
  check();
  events_.progress(start_ns_ ? steps - warmup : steps);
}

void ServerSession::run() {
  events_.phase("warmup", options_.spec.steps.warmup);
  Backoff backoff;
  while (!service_->over()) {
    if (service_->turn()) {
      backoff.reset();
    } else {
      std::this_thread::sleep_for(backoff.next());
    }
    follow_steps();
  }
  if (!start_ns_) begin_window();  // it keeps no variable: its window is empty
  protocol::SummaryEvent summary;
  summary.start_ns = *start_ns_;
  summary.end_ns = clock_.monotonic_ns();
  events_.phase("collecting");
  summary.peak_rss_bytes = peak_rss_bytes();
  events_.summary(summary);
  service_.reset();
  ranks_->finish();
}

}  // namespace rackmark::worker

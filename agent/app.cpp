#include "agent/app.hpp"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/system/system_error.hpp>
#include <cstdio>

#include "agent/loops/session.hpp"
#include "agent/probe/inventory.hpp"
#include "agent/runs/host_facts.hpp"
#include "common/net/log.hpp"
#include "common/net/offload.hpp"
#include "common/net/task_group.hpp"

namespace rackmark::agent {

namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

int fail(const std::string& text, int status = 1) {
  std::fprintf(stderr, "rackmark-agent: %s\n", text.c_str());
  return status;
}

// Everything of a running agent; lives in run_agent().
class App {
 public:
  App(const AgentConfig& config, std::optional<Identity> identity)
      : config_(config),
        kind_(containment_kind_from(config.containment).value_or(detect_containment())),
        enrolled_(identity.has_value()),
        spool_(config.state / "spool", config.spool_bytes),
        client_(io_.get_executor(), config.controller),
        session_(io_, client_, clock_, lease_, spool_),
        supervisor_(io_.get_executor()),
        tasks_(io_.get_executor()),
        signals_(io_, SIGTERM, SIGINT) {
    if (identity) session_.identity = std::move(*identity);
    session_.incarnation = make_incarnation(clock_.wall_us(), ::getpid());
    session_.boot_id = read_boot_id();
    session_.labels = config.labels;
  }

  int run() {
    take(look_around());
    Runner runner(run_host(), clock_, spool_, lease_, [this](Runner::News news) { notify(news); });
    session_.runner = &runner;
    runner.start();
    arm_signals();
    supervisor_.spawn("agent", live());
    io_.run();
    // The runner's thread may post to io_ until it is joined here, before io_ goes.
    return session_.fatal.empty() ? 0 : fail(session_.fatal);
  }

 private:
  void notify(Runner::News news) {
    asio::post(io_, [this, news] {
      if (news == Runner::News::kStates) session_.states_changed.set();
      session_.more_events.set();
    });
  }

  // Any thread.
  protocol::Inventory look_around() const {
    auto seen = probe({config_.worker, config_.state, config_.data_roots, kind_});
    seen.network = config_.network;
    return seen;
  }

  void take(protocol::Inventory seen) {
    for (const std::string& note : seen.notes) {
      const auto& known = inventory_.notes;
      if (std::find(known.begin(), known.end(), note) == known.end()) log::warning("{}", note);
    }
    inventory_ = std::move(seen);
    session_.inventory = std::make_shared<const protocol::Inventory>(inventory_);
  }

  RunHost run_host() const {
    const auto openmpi = inventory_.versions.find("openmpi");
    return {.state = config_.state,
            .self = config_.self.string(),
            .worker = config_.worker,
            .data_roots = config_.data_roots,
            .mark = mark_of(config_.state.string()),
            .containment = kind_,
            .physical_cores = inventory_.cpu.physical_cores,
            .affinity_restricted = affinity_is_restricted(),
            .rank_ports = config_.rank_ports,
            .launch_ports = config_.launch_ports,
            .openmpi_version = openmpi == inventory_.versions.end() ? "" : openmpi->second,
            .slurm_job = inventory_.slurm ? inventory_.slurm->job_id : 0};
  }

  // A host changes under a running agent: a card is lost, Open MPI is upgraded, a network comes up.
  // Looking takes processor time, so it waits for a run to end.
  asio::awaitable<void> watch_host() {
    for (;;) {
      co_await net::sleep_for(config_.probe_every);
      while (session_.runner->busy()) co_await net::sleep_for(1s);
      auto look = [this] { return look_around(); };
      protocol::Inventory seen = co_await net::offload(looking_.get_executor(), std::move(look));
      if (!is_news(seen, inventory_)) continue;
      log::info("this host is not what it was; the controller is told");
      take(std::move(seen));
      session_.runner->renew(run_host());
      session_.states_changed.set();
    }
  }

  void arm_signals() {
    signals_.async_wait([this](const boost::system::error_code& error, int) {
      if (error) return;
      if (session_.stopping) ::_exit(1);  // asked twice: the guards end what is left
      session_.stopping = true;
      session_.ended.set();
      session_.states_changed.set();
      arm_signals();
    });
  }

  asio::awaitable<void> live() {
    if (enrolled_) {
      start_loops();
    } else {
      tasks_.spawn("enrol", guarded("enrol", enrol_first()));
    }
    while (!session_.stopping && session_.fatal.empty()) co_await session_.ended.wait(1h);
    log::info("stopping");
    co_await leave();
    signals_.cancel();
    co_await tasks_.stop(0ms, 1000ms);
  }

  // A loop that breaks ends the agent: one without its sync or its upload is of no use to anybody.
  asio::awaitable<void> guarded(std::string name, asio::awaitable<void> loop) {
    try {
      co_await std::move(loop);
    } catch (const boost::system::system_error& error) {
      if (error.code() != asio::error::operation_aborted) give_up(name, error.what());
    } catch (const std::exception& error) {
      give_up(name, error.what());
    }
  }

  void give_up(const std::string& name, const std::string& why) {
    session_.fatal = name + " broke: " + why;
    session_.ended.set();
  }

  asio::awaitable<void> enrol_first() {
    protocol::Enrolment request{.token = config_.enrol_token,
                                .name = config_.name,
                                .labels = config_.labels,
                                .device_class = config_.device_class,
                                .inventory = inventory_};
    co_await enrol(session_, std::move(request), config_.state / "identity.json");
    if (session_.identity.agent_id == 0) {
      session_.ended.set();
      co_return;
    }
    start_loops();
  }

  void start_loops() {
    client_.set_header("Authorization", "Bearer " + session_.identity.agent_token);
    log::info("agent {} of {}, containment {}", session_.identity.name, config_.controller.text(),
              inventory_.containment);
    if (inventory_.slurm)
      log::info("node {} of Slurm's job {}: runs over several of its nodes are started by srun",
                inventory_.slurm->node, inventory_.slurm->job_id);
    tasks_.spawn("sync", guarded("sync", sync_loop(session_)));
    tasks_.spawn("news", guarded("news", news_loop(session_)));
    tasks_.spawn("upload", guarded("upload", upload_loop(session_)));
    tasks_.spawn("host", guarded("host", watch_host()));
    loops_started_ = true;
  }

  // Ends the runs, hands in what is left, says good-bye: at most 6 + 1 + 1.5 seconds.
  asio::awaitable<void> leave() {
    session_.runner->end_all("the agent was stopped");
    co_await net::sleep_for(100ms);
    for (int i = 0; i < 120 && session_.runner->busy(); ++i) co_await net::sleep_for(50ms);
    if (!loops_started_ || !session_.fatal.empty()) co_return;
    for (int i = 0; i < 20 && spool_.has_pending(); ++i) co_await net::sleep_for(50ms);
    co_await sync_once(session_, false, true, 1500ms);
  }

  const AgentConfig& config_;
  const ContainmentKind kind_;
  const bool enrolled_;
  asio::io_context io_{1};
  BootClock clock_;
  Lease lease_;
  Spool spool_;
  net::HttpClient client_;
  Session session_;
  net::TaskGroup supervisor_, tasks_;  // the supervisor stops the tasks
  asio::signal_set signals_;
  protocol::Inventory inventory_;  // the last look
  bool loops_started_ = false;
  asio::thread_pool looking_{1};
};

}  // namespace

int run_agent(const AgentConfig& config) {
  // A guard's pipe, or our own standard error, may have lost its reader.
  ::signal(SIGPIPE, SIG_IGN);
  const auto lock = lock_state_folder(config.state);
  if (!lock) return fail(lock.error().message);
  auto identity = read_identity(config.state / "identity.json");
  if (!identity) return fail(identity.error().message);
  if (!*identity && config.enrol_token.empty()) {
    constexpr int kBadUsage = 2;  // a service need not try again before somebody brings a token
    const std::string what =
        config.token_problem.empty()
            ? ": give a token with --enrol-token-file or RACKMARK_ENROL_TOKEN (make one with: "
              "rackmark agents token)"
            : " and " + config.token_problem;
    return fail(config.name + " is not enrolled yet" + what, kBadUsage);
  }
  try {
    return App(config, std::move(*identity)).run();
  } catch (const std::exception& error) {
    return fail(error.what());
  }
}

}  // namespace rackmark::agent

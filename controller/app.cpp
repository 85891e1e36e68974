#include "controller/app.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/thread_pool.hpp>
#include <fstream>

#include "common/clock.hpp"
#include "common/net/offload.hpp"
#include "common/net/task_group.hpp"
#include "controller/api/context.hpp"
#include "controller/api/held_syncs.hpp"
#include "controller/api/metrics.hpp"
#include "controller/http/event_hub.hpp"
#include "controller/http/server.hpp"
#include "controller/service/reader.hpp"
#include "controller/service/writer.hpp"

namespace rackmark {
namespace asio = boost::asio;
namespace fs = std::filesystem;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds kTick{500};
constexpr std::int64_t kReplayRows = 500;

// Private: hashes of tokens are in it. Who holds it is settled by the lock of the database.
void make_state_folder(const fs::path& folder) {
  std::error_code ec;
  if (fs::create_directories(folder, ec)) fs::permissions(folder, fs::perms::owner_all, ec);
  if (ec) throw StartError("cannot use state folder " + folder.string() + ": " + ec.message());
}

// As many as the limit of open files leaves room for: each agent holds one.
std::size_t connection_limit() {
  constexpr rlim_t kOtherFiles = 256;  // databases, files of the web view, those that are told 503
  constexpr rlim_t kFewest = 16, kMost = 100'000;
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0) return http::ServerOptions{}.max_connections;
  return std::clamp(files.rlim_cur, kFewest + kOtherFiles, kMost + kOtherFiles) - kOtherFiles;
}

void write_port_file(const fs::path& file, std::uint16_t port) {
  const fs::path fresh = file.string() + ".new";
  std::ofstream stream(fresh, std::ios::trunc);
  stream << port << '\n';
  stream.close();
  std::error_code ec;
  if (stream) fs::rename(fresh, file, ec);
  if (!stream || ec) throw StartError("cannot write port file " + file.string());
}

void refuse_open_bind(const ControllerConfig& config) {
  if (asio::ip::make_address(config.address).is_loopback() || config.allow_remote) return;
  throw StartError("refused to listen on " + config.address +
                   ": other hosts would reach it without TLS and tokens; say --allow-remote to "
                   "accept that");
}

http::ServerOptions server_options(const ControllerConfig& config) {
  http::ServerOptions options;
  options.address = config.address;
  options.port = config.port;
  options.max_connections = connection_limit();
  options.hosts.names = config.host_names;
  options.hosts.any_address = !asio::ip::make_address(config.address).is_loopback();
  return options;
}

http::Frame to_frame(const service::EventLogEntry& entry) {
  const auto text = entry.data.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return http::make_frame(entry.id, entry.job_id, entry.event, text);
}

}  // namespace

struct ControllerApp::Impl {
  explicit Impl(ControllerConfig c) : config(std::move(c)) {}

  ControllerConfig config;
  SystemClock clock;
  asio::io_context network{1};
  asio::executor_work_guard<asio::io_context::executor_type> alive = asio::make_work_guard(network);
  std::unique_ptr<service::Writer> writer;
  std::unique_ptr<service::Reader> reader, agent_reader;
  std::unique_ptr<api::HeldSyncs> syncs;
  std::unique_ptr<http::EventHub> events;
  api::Metrics metrics;
  std::unique_ptr<api::Context> context;
  http::Router router;
  std::unique_ptr<http::Server> server;
  std::unique_ptr<net::TaskGroup> tasks;
  std::unique_ptr<asio::signal_set> signals;
  std::string tick_failure;  // last one that was logged
  bool stopping = false;
  // Last, so joined first: what runs there uses all of the above.
  asio::thread_pool writer_pool{1}, reader_pool{1}, agent_pool{1}, backup_pool{1};

  service::Notices notices();
  asio::awaitable<std::vector<http::Frame>> replay(std::int64_t after,
                                                   std::optional<std::int64_t> job);
  asio::awaitable<void> tick_loop();
  asio::awaitable<void> shut_down();
  void open_store();
  void serve();
  void wait_signal();
  void begin_stop();
};

// Called on the writer's thread after a commit; the network thread does the rest.
service::Notices ControllerApp::Impl::notices() {
  service::Notices notices;
  notices.event = [this](service::EventLogEntry entry) {
    asio::post(network, [this, entry = std::move(entry)] {
      if (events->subscribers() > 0) events->publish(to_frame(entry));
    });
  };
  notices.live = [this](service::LiveEvent live) {
    asio::post(network, [this, live = std::move(live)] {
      if (events->subscribers() == 0) return;
      const auto text = live.data.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
      events->publish(http::make_frame(std::nullopt, live.job_id, live.event, text));
    });
  };
  notices.wake_agent = [this](std::int64_t agent_id) {
    asio::post(network, [this, agent_id] { syncs->release(agent_id); });
  };
  return notices;
}

asio::awaitable<std::vector<http::Frame>> ControllerApp::Impl::replay(
    std::int64_t after, std::optional<std::int64_t> job) {
  auto read = [this, after, job] {
    std::vector<http::Frame> frames;
    for (const auto& entry : reader->events_after(after, job, kReplayRows)) {
      frames.push_back(to_frame(entry));
    }
    return frames;
  };
  auto frames = co_await net::offload(reader_pool.get_executor(), std::move(read));
  co_return frames;
}

// A disk that is full now may not be later: a tick that fails is told once, not twice a second.
asio::awaitable<void> ControllerApp::Impl::tick_loop() {
  for (;;) {
    auto work = [this]() -> std::string {
      try {
        writer->tick();
        return "";
      } catch (const std::exception& error) {
        return error.what();
      }
    };
    std::string failure = co_await net::offload(writer_pool.get_executor(), std::move(work));
    if (!failure.empty() && failure != tick_failure) log::error("scheduling: {}", failure);
    if (failure.empty() && !tick_failure.empty()) log::info("scheduling works again");
    tick_failure = std::move(failure);
    context->write_failure = tick_failure;
    metrics.set_failing(!tick_failure.empty());
    metrics.set_streams(events->subscribers(), syncs->size(), server->connections());
    co_await net::sleep_for(kTick);
  }
}

void ControllerApp::Impl::open_store() {
  service::Settings settings;
  settings.lease_s = config.lease_s;
  const fs::path database = config.state_dir / "rackmark.db";
  syncs = std::make_unique<api::HeldSyncs>(network.get_executor());
  auto read_log = [this](std::int64_t after, std::optional<std::int64_t> job) {
    return replay(after, job);
  };
  events = std::make_unique<http::EventHub>(network.get_executor(), std::move(read_log));
  writer = std::make_unique<service::Writer>(database, clock, settings, notices());
  reader = std::make_unique<service::Reader>(database, clock, settings);
  agent_reader = std::make_unique<service::Reader>(database, clock, settings);
}

void ControllerApp::Impl::serve() {
  context.reset(new api::Context{
      .network = network.get_executor(),
      .writer_thread = writer_pool.get_executor(),
      .reader_thread = reader_pool.get_executor(),
      .agent_thread = agent_pool.get_executor(),
      .backup_thread = backup_pool.get_executor(),
      .writer = *writer,
      .reader = *reader,
      .agent_reader = *agent_reader,
      .syncs = *syncs,
      .events = *events,
      .metrics = metrics,
      .started_at = rfc3339(clock.wall_us()),
      .web_dir = config.web_dir.string(),
  });
  api::add_all_routes(router, *context);
  server = std::make_unique<http::Server>(
      network.get_executor(), server_options(config), router,
      [this](const http::Observation& observation) { metrics.observe(observation); });
  try {
    server->start();
  } catch (const boost::system::system_error& error) {
    throw StartError("cannot listen on " + config.address + " port " + std::to_string(config.port) +
                     ": " + error.code().message());
  }
  tasks = std::make_unique<net::TaskGroup>(network.get_executor());
  tasks->spawn("tick", tick_loop());
}

// Refuse new work, answer what is held, let open requests end, write the log into the database.
asio::awaitable<void> ControllerApp::Impl::shut_down() {
  log::info("stopping");
  context->stopping = true;
  syncs->close();
  events->close();
  co_await server->stop(milliseconds(2500));
  co_await tasks->stop(milliseconds(0), milliseconds(500));
  auto checkpoint = [this] { writer->checkpoint(); };
  try {
    co_await net::offload(writer_pool.get_executor(), std::move(checkpoint));
  } catch (const std::exception& error) {
    log::warning("{}", error.what());  // nothing is lost: the next start reads the log
  }
}

void ControllerApp::Impl::wait_signal() {
  signals->async_wait([this](const boost::system::error_code& ec, int signal) {
    if (ec) return;
    if (stopping) ::_exit(128 + signal);
    begin_stop();
    wait_signal();
  });
}

void ControllerApp::Impl::begin_stop() {
  if (std::exchange(stopping, true)) return;
  asio::co_spawn(network, shut_down(), [this](const std::exception_ptr&) { network.stop(); });
}

ControllerApp::ControllerApp(ControllerConfig config)
    : impl_(std::make_unique<Impl>(std::move(config))) {}

ControllerApp::~ControllerApp() {
  impl_->writer_pool.join();
  impl_->reader_pool.join();
  impl_->agent_pool.join();
  impl_->backup_pool.join();
}

void ControllerApp::start() {
  refuse_open_bind(impl_->config);
  make_state_folder(impl_->config.state_dir);
  impl_->open_store();
  impl_->serve();
  if (!impl_->config.port_file.empty()) write_port_file(impl_->config.port_file, port());
  log::info("listening on {} port {}, state in {}", impl_->config.address, port(),
            impl_->config.state_dir.string());
}

std::uint16_t ControllerApp::port() const { return impl_->server->port(); }

void ControllerApp::stop_on_signals() {
  impl_->signals = std::make_unique<asio::signal_set>(impl_->network, SIGINT, SIGTERM);
  impl_->wait_signal();
}

void ControllerApp::run() { impl_->network.run(); }

void ControllerApp::stop() {
  asio::post(impl_->network, [impl = impl_.get()] { impl->begin_stop(); });
}

}  // namespace rackmark

#include "controller/config.hpp"

#include <CLI/CLI.hpp>
#include <boost/asio/ip/address.hpp>
#include <cstdlib>

#include "common/config_file.hpp"
#include "common/net/target.hpp"

namespace rackmark {
namespace fs = std::filesystem;

namespace {

fs::path default_state() {
  if (const char* systemd = std::getenv("STATE_DIRECTORY")) return systemd;
  if (const char* xdg = std::getenv("XDG_STATE_HOME")) return fs::path(xdg) / "rackmark";
  const char* home = std::getenv("HOME");
  return fs::path(home != nullptr ? home : "/var/lib") / ".local/state/rackmark";
}

fs::path default_web() {
  std::error_code ec;
  const fs::path self = fs::read_symlink("/proc/self/exe", ec);
  return (self.parent_path() / "../web").lexically_normal();
}

Error refused(std::string_view text) {
  return invalid("--listen", std::string(text), "ADDRESS:PORT, such as 127.0.0.1:8780 or [::1]:0",
                 "--listen is '" + std::string(text) +
                     "', allowed: ADDRESS:PORT, such as 127.0.0.1:8780 or [::1]:0");
}

}  // namespace

Result<void> parse_listen(std::string_view text, ControllerConfig& config) {
  auto parsed = net::parse_authority(text);
  if (!parsed || !parsed->port) return refused(text);
  if (parsed->host == "localhost") parsed->host = "127.0.0.1";
  boost::system::error_code ec;
  boost::asio::ip::make_address(parsed->host, ec);
  if (ec) return refused(text);
  config.address = std::move(parsed->host);
  config.port = *parsed->port;
  return {};
}

Result<ControllerConfig> read_config(int argc, char** argv, int& exit_status) {
  ControllerConfig config;
  config.state_dir = default_state();
  config.web_dir = default_web();
  std::string listen = "127.0.0.1:8780", level = "info";

  CLI::App app("Rackmark's controller: REST API, scheduler, store and web view.",
               "rackmark-controller");
  app.set_version_flag("--version", RACKMARK_VERSION);
  add_config_file(app);
  app.add_option("--listen", listen, "Address and port; port 0 takes a free one")
      ->capture_default_str();
  app.add_option("--port-file", config.port_file, "Write the port here once it listens");
  app.add_option("--state", config.state_dir, "Folder of the database")->capture_default_str();
  app.add_option("--web", config.web_dir, "Folder of the web view")->capture_default_str();
  app.add_option("--lease-s", config.lease_s,
                 "Seconds without a word after which an agent's run is given up")
      ->check(CLI::Range(2.0, 86400.0))
      ->capture_default_str();
  app.add_flag("--allow-remote", config.allow_remote,
               "Listen beyond loopback although there is no TLS and people need no token");
  app.add_option("--host-name", config.host_names,
                 "A name by which this controller is called (repeatable); others are refused");
  app.add_option("--log-level", level, "debug, info, warning or error")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}))
      ->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& wanted) {
    exit_status = app.exit(wanted);
    return Error{ErrorCode::kInvalid, "", {}};
  } catch (const CLI::ParseError& error) {
    exit_status = 2;
    return Error{ErrorCode::kInvalid, usage_problem(error), {}};
  }
  config.log_level = *log::level_from(level);
  if (auto parsed = parse_listen(listen, config); !parsed) {
    exit_status = 2;
    return parsed.error();
  }
  return config;
}

}  // namespace rackmark

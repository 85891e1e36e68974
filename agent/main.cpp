// rackmark-agent: reads its configuration and wires the parts together.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <limits.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <string>

#include "agent/app.hpp"
#include "agent/launch/slurm.hpp"
#include "agent/probe/inventory.hpp"
#include "agent/process/files.hpp"
#include "agent/process/guard.hpp"
#include "agent/process/remote_shell.hpp"
#include "agent/process/seat.hpp"
#include "common/config_file.hpp"
#include "common/json/described.hpp"
#include "common/net/log.hpp"

namespace fs = std::filesystem;
using namespace rackmark;
using namespace rackmark::agent;

namespace {

constexpr int kBadUsage = 2;

int refuse(const std::string& text) {
  std::fprintf(stderr, "rackmark-agent: %s\n", text.c_str());
  return kBadUsage;
}

fs::path own_program() {
  std::error_code error;
  return fs::read_symlink("/proc/self/exe", error);
}

std::string host_name() {
  std::array<char, HOST_NAME_MAX + 1> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 && name[0] != '\0' ? name.data() : "host";
}

std::string trimmed(std::string text) {
  const auto end = text.find_last_not_of(" \t\r\n");
  text.erase(end == std::string::npos ? 0 : end + 1);
  const auto begin = text.find_first_not_of(" \t\r\n");
  return begin == std::string::npos ? "" : text.substr(begin);
}

struct Options {
  std::string controller = "http://127.0.0.1:8780", state, name = host_name(), device_class;
  std::string worker, token_file, log_level = "info", containment;
  std::string network, rank_ports = "21000-21999", launch_ports = "22000-22015";
  std::vector<std::string> labels, data_roots;
  std::int64_t spool_mib = 256, probe_every_s = 300;
};

void declare(CLI::App& app, Options& o) {
  app.set_version_flag("--version", std::string("rackmark-agent ") + RACKMARK_VERSION);
  add_config_file(app);
  app.add_option("--controller", o.controller, "Address of the controller")->capture_default_str();
  app.add_option("--state", o.state, "Folder for identity, runs and spool (made if absent)")
      ->default_str("$XDG_STATE_HOME/rackmark-agent");
  app.add_option("--name", o.name, "Unique name of this agent")->capture_default_str();
  app.add_option("--label", o.labels, "key=value, may be given often");
  app.add_option("--device-class", o.device_class, "Instead of the one made from the inventory");
  app.add_option("--data-root", o.data_roots,
                 "Folder that jobs may read pictures from, repeatable");
  app.add_option("--worker", o.worker, "rackmark-worker; default: beside this program");
  app.add_option("--enrol-token-file", o.token_file,
                 "One-time token for the first start; or RACKMARK_ENROL_TOKEN");
  app.add_option("--containment", o.containment,
                 "cgroup_v2, pid_namespace or proc_sweep; default: the best that works");
  app.add_option("--network", o.network,
                 "CIDR on which this host meets others in runs over several agents, such as "
                 "10.0.0.0/24; default: the only one that they share");
  app.add_option("--rank-ports", o.rank_ports,
                 "TCP ports on which ranks listen for those of other hosts: FIRST-LAST or any")
      ->capture_default_str();
  app.add_option("--launch-ports", o.launch_ports,
                 "TCP ports on which mpirun listens for its daemons: FIRST-LAST or any")
      ->capture_default_str();
  app.add_option("--spool-mib", o.spool_mib, "Most disk space for events not handed in yet")
      ->capture_default_str();
  app.add_option("--probe-every-s", o.probe_every_s,
                 "Seconds after which an idle agent looks again at what this host is")
      ->capture_default_str();
  app.add_option("--log-level", o.log_level, "debug, info, warning or error")
      ->capture_default_str();
}

fs::path default_state() {
  if (const char* folder = std::getenv("XDG_STATE_HOME"); folder != nullptr && *folder == '/')
    return fs::path(folder) / "rackmark-agent";
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/')
    return fs::path(home) / ".local/state/rackmark-agent";
  return "/var/lib/rackmark-agent";
}

Result<std::map<std::string, std::string>> parse_labels(const std::vector<std::string>& texts) {
  std::map<std::string, std::string> labels;
  for (const auto& text : texts) {
    const auto at = text.find('=');
    if (at == 0 || at == std::string::npos)
      return invalid("--label", text, "key=value",
                     fmt::format("--label {} is not key=value, such as fleet=cpu", text));
    labels[text.substr(0, at)] = text.substr(at + 1);
  }
  return labels;
}

Result<std::vector<std::string>> check_data_roots(const std::vector<std::string>& texts) {
  std::vector<std::string> roots;
  for (const auto& text : texts) {
    std::error_code error;
    const fs::path real = fs::canonical(text, error);
    if (error || !fs::is_directory(real))
      return invalid("--data-root", text, "a folder",
                     fmt::format("--data-root {} is not a folder that can be read", text));
    roots.push_back(real.string());
  }
  return roots;
}

// The token, and into `problem` why a named file gave none: it matters only on the first start,
// since whoever started us may remove the file after enrolment.
std::string read_token(const std::string& file, std::string& problem) {
  const char* given = std::getenv("RACKMARK_ENROL_TOKEN");
  std::string token = given == nullptr ? "" : trimmed(given);
  // Not for what we start. In /proc/PID/environ, which only this user may read, it stays as it was.
  ::unsetenv("RACKMARK_ENROL_TOKEN");
  if (file.empty()) return token;
  if (const auto text = read_file(file, 4096)) return trimmed(*text);
  problem = fmt::format("--enrol-token-file {} cannot be read", file);
  return token;
}

// "FIRST-LAST" within 1 to 65535, or "" for "any".
Result<std::string> parse_ports(const char* option, const std::string& text) {
  if (text == "any") return std::string();
  const auto number = [](std::string_view digits) {
    int value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return error == std::errc{} && end == digits.data() + digits.size() ? value : 0;
  };
  const auto dash = text.find('-');
  const std::string_view all = text;
  const int first = dash == std::string::npos ? 0 : number(all.substr(0, dash));
  const int last = dash == std::string::npos ? 0 : number(all.substr(dash + 1));
  if (first < 1 || last < first || last > 65535)
    return invalid(
        option, text, "FIRST-LAST within 1 to 65535, or any",
        fmt::format("{} {} is neither FIRST-LAST within 1 to 65535 nor any", option, text));
  return fmt::format("{}-{}", first, last);
}

Result<std::string> parse_network(const std::string& text) {
  in_addr address{};
  const auto slash = text.find('/');
  int bits = -1;
  if (slash != std::string::npos) {
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data() + slash + 1, end, bits);
    if (error != std::errc{} || stop != end) bits = -1;
  }
  const bool good =
      bits >= 0 && bits <= 32 && ::inet_pton(AF_INET, text.substr(0, slash).c_str(), &address) == 1;
  if (text.empty() || good) return text;
  return invalid("--network", text, "an IPv4 CIDR such as 10.0.0.0/24",
                 fmt::format("--network {} is no IPv4 CIDR such as 10.0.0.0/24", text));
}

Result<AgentConfig> configure(const Options& o) {
  AgentConfig config;
  const auto controller = net::parse_base_url(o.controller);
  if (!controller) return controller.error();
  config.controller = *controller;
  config.state = fs::absolute(o.state.empty() ? default_state() : fs::path(o.state));
  config.self = own_program();
  config.worker =
      o.worker.empty() ? config.self.parent_path() / "rackmark-worker" : fs::absolute(o.worker);
  if (::access(config.worker.c_str(), X_OK) != 0)
    return invalid(
        "--worker", config.worker.string(), "a program",
        fmt::format("there is no worker at {}; say where with --worker", config.worker.string()));
  auto labels = parse_labels(o.labels);
  if (!labels) return labels.error();
  config.labels = std::move(*labels);
  auto roots = check_data_roots(o.data_roots);
  if (!roots) return roots.error();
  config.data_roots = std::move(*roots);
  if (o.name.empty() || o.name.size() > 100)
    return invalid("--name", o.name, "1 to 100 characters", "--name must have 1 to 100 characters");
  config.name = o.name;
  if (!o.device_class.empty()) config.device_class = o.device_class;
  if (!o.containment.empty() && !containment_kind_from(o.containment))
    return invalid("--containment", o.containment, "cgroup_v2, pid_namespace, proc_sweep",
                   fmt::format("--containment {} is none of cgroup_v2, pid_namespace, proc_sweep",
                               o.containment));
  config.containment = o.containment;
  auto network = parse_network(o.network);
  if (!network) return network.error();
  config.network = std::move(*network);
  auto rank_ports = parse_ports("--rank-ports", o.rank_ports);
  if (!rank_ports) return rank_ports.error();
  config.rank_ports = std::move(*rank_ports);
  auto launch_ports = parse_ports("--launch-ports", o.launch_ports);
  if (!launch_ports) return launch_ports.error();
  config.launch_ports = std::move(*launch_ports);
  if (o.spool_mib < 1 || o.spool_mib > 1 << 20)
    return invalid("--spool-mib", o.spool_mib, "1 to 1048576", "--spool-mib must be 1 to 1048576");
  config.spool_bytes = static_cast<std::uint64_t>(o.spool_mib) << 20;
  if (o.probe_every_s < 1 || o.probe_every_s > 86400)
    return invalid("--probe-every-s", o.probe_every_s, "1 to 86400",
                   fmt::format("--probe-every-s is {}, allowed: 1 to 86400", o.probe_every_s));
  config.probe_every = std::chrono::seconds(o.probe_every_s);
  config.enrol_token = read_token(o.token_file, config.token_problem);
  return config;
}

int print_inventory(const AgentConfig& config) {
  const auto kind = containment_kind_from(config.containment).value_or(detect_containment());
  const fs::path state = fs::exists(config.state) ? config.state : fs::path("/");
  const auto inventory = probe({config.worker, state, config.data_roots, kind});
  std::printf("%s\n", json::encode(inventory).dump(1).c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  // This program in other roles, which must not depend on any option of the agent: mpirun's remote
  // shell, by its name, the guard, and what stands around the ranks that Slurm starts.
  if (fs::path(argv[0]).filename() == kRemoteShellName) return remote_shell_main(argc, argv);
  if (argc == 3 && std::string_view(argv[1]) == "guard") return guard_main(argv[2]);
  if (argc == 2 && std::string_view(argv[1]) == kTakeSeat) return take_seat_main();
  if (argc == 3 && std::string_view(argv[1]) == kWatchSeats) return watch_seats_main(argv[2]);

  CLI::App app{
      "Runs Rackmark's benchmarks on this host for a controller, to which alone it talks."};
  Options options;
  declare(app, options);
  bool probe_only = false;
  app.add_subcommand("probe", "Print what this host is, as JSON, and exit")->callback([&] {
    probe_only = true;
  });
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& wanted) {
    return app.exit(wanted);
  } catch (const CLI::ParseError& error) {
    return refuse(usage_problem(error));
  }
  const auto level = log::level_from(options.log_level);
  if (!level)
    return refuse(
        fmt::format("--log-level {} is none of debug, info, warning, error", options.log_level));
  log::start("agent", *level);
  const auto config = configure(options);
  if (!config) return refuse(config.error().message);
  return probe_only ? print_inventory(*config) : run_agent(*config);
}

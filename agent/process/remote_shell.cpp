#include "agent/process/remote_shell.hpp"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "agent/process/spawn.hpp"
#include "agent/process/unique_fd.hpp"
#include "common/json/described.hpp"

namespace rackmark::agent {

namespace {

constexpr int kNotStarted = 126, kAgentGone = 255;
constexpr std::size_t kMaxAnswer = std::size_t{4} << 20;

int give_up(int status, const std::string& why) {
  std::fprintf(stderr, "%s: %s\n", kRemoteShellName, why.c_str());
  return status;
}

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

UniqueFd connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) return {};
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd || ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return {};
  return fd;
}

bool send_line(int fd, std::string line) {
  line += '\n';
  for (std::size_t done = 0; done < line.size();) {
    const ssize_t n = ::send(fd, line.data() + done, line.size() - done, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    done += static_cast<std::size_t>(n);
  }
  return true;
}

// Blocks until a whole line is there; nullopt: the agent is gone.
std::optional<std::string> receive_line(int fd) {
  std::string line;
  std::array<char, 65536> buffer{};
  while (line.find('\n') == std::string::npos && line.size() < kMaxAnswer) {
    const ssize_t n = ::read(fd, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return std::nullopt;
    line.append(buffer.data(), static_cast<std::size_t>(n));
  }
  return line.substr(0, line.find('\n'));
}

int become(const RelayStart& start) {
  const int error = replace_process(start.argv, start.environment);
  return give_up(kNotStarted,
                 std::string("cannot start the daemon of this host: ") + std::strerror(error));
}

}  // namespace

int remote_shell_main(int argc, char** argv) {
  if (argc < 3) return give_up(kNotStarted, "usage: rackmark-rsh HOST COMMAND...; for mpirun only");
  RelayRequest request{variable("RACKMARK_RUN_TOKEN"), argv[1], {argv + 2, argv + argc}};
  const UniqueFd agent = connect_to(variable("RACKMARK_RELAY"));
  if (!agent) return give_up(kNotStarted, "the agent of this host cannot be reached");
  const std::string text =
      json::encode(request).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (!send_line(agent.get(), text)) return give_up(kAgentGone, "the agent of this host went away");
  const auto line = receive_line(agent.get());
  if (!line) return give_up(kAgentGone, "the agent of this host went away");
  const auto parsed = json::parse(*line);
  if (!parsed) return give_up(kAgentGone, "the agent of this host answered nonsense");
  const auto answer = json::decode<RelayAnswer>(*parsed, json::Unknown::kIgnore);
  if (!answer) return give_up(kAgentGone, "the agent of this host answered nonsense");
  if (answer->start) return become(*answer->start);
  const int status = static_cast<int>(answer->exit_code);
  return answer->output.empty() ? status : give_up(status, answer->output);
}

}  // namespace rackmark::agent

#include "agent/runs/event_socket.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "agent/runs/unix_listener.hpp"

namespace rackmark::agent {

namespace {

pid_t peer_of(int fd) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? peer.pid : 0;
}

}  // namespace

EventSocket::EventSocket(const std::filesystem::path& path, std::size_t max_connections)
    : listener_(listen_unix(path)), max_connections_(max_connections) {}

void EventSocket::add_to(std::vector<pollfd>& fds) const {
  if (listener_) fds.push_back({listener_.get(), POLLIN, 0});
  for (const auto& connection : connections_) fds.push_back({connection.fd.get(), POLLIN, 0});
}

bool EventSocket::service(const OnLine& on_line,
                          const std::function<void(std::string)>& on_problem) {
  accept_all(on_problem);
  for (auto it = connections_.begin(); it != connections_.end();) {
    it = read_some(*it, on_line, on_problem) ? std::next(it) : connections_.erase(it);
  }
  return connections_.empty();
}

void EventSocket::accept_all(const std::function<void(std::string)>& on_problem) {
  while (listener_) {
    UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) return;
    if (connections_.size() >= max_connections_) {
      on_problem("a connection to the events socket was refused: there are too many");
      continue;
    }
    const pid_t peer = peer_of(fd.get());
    connections_.push_back({std::move(fd), peer, LineReader(kMaxEventLine)});
  }
}

bool EventSocket::read_some(Connection& connection, const OnLine& on_line,
                            const std::function<void(std::string)>& on_problem) {
  std::array<char, 65536> buffer{};
  bool overlong = false;
  auto take = [&](std::string_view line, bool cut) {
    overlong = overlong || cut;
    if (!overlong && !line.empty()) on_line(line, connection.peer);
  };
  // A share per turn, so that one rank cannot starve the others.
  for (int turn = 0; turn < 8; ++turn) {
    const ssize_t n = ::read(connection.fd.get(), buffer.data(), buffer.size());
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    if (n <= 0) {
      connection.lines.end(take);
      return false;
    }
    connection.lines.feed({buffer.data(), static_cast<std::size_t>(n)}, take);
    if (overlong || connection.lines.overflowed()) {
      on_problem("an event line passed 1 MiB: its connection was closed");
      return false;
    }
  }
  return true;
}

}  // namespace rackmark::agent

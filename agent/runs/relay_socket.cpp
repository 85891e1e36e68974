#include "agent/runs/relay_socket.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "agent/runs/unix_listener.hpp"
#include "common/json/described.hpp"

namespace rackmark::agent {

RelaySocket::RelaySocket(const std::filesystem::path& path, std::size_t max_connections)
    : listener_(listen_unix(path)), max_connections_(max_connections) {}

void RelaySocket::add_to(std::vector<pollfd>& fds) const {
  if (listener_) fds.push_back({listener_.get(), POLLIN, 0});
  for (const auto& [id, connection] : connections_) fds.push_back({connection.fd.get(), POLLIN, 0});
}

void RelaySocket::service(const std::function<void(std::int64_t, RelayRequest)>& on_request,
                          const std::function<void(std::int64_t)>& on_gone) {
  accept_all();
  std::vector<std::int64_t> ids;
  for (const auto& [id, connection] : connections_) ids.push_back(id);
  for (const std::int64_t id : ids) {
    const auto it = connections_.find(id);
    if (it == connections_.end() || read_some(id, it->second, on_request)) continue;
    // An answer given meanwhile has taken it out already.
    if (connections_.erase(id) != 0) on_gone(id);
  }
}

void RelaySocket::answer(std::int64_t id, const RelayAnswer& answer) {
  const auto it = connections_.find(id);
  if (it == connections_.end()) return;
  const std::string line =
      json::encode(answer).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  // Far below a socket's buffer, so that one send takes it.
  [[maybe_unused]] const auto n =
      ::send(it->second.fd.get(), line.data(), line.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  connections_.erase(it);
}

void RelaySocket::accept_all() {
  while (listener_) {
    UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) return;
    if (connections_.size() >= max_connections_) continue;
    connections_[++last_id_].fd = std::move(fd);
  }
}

bool RelaySocket::read_some(std::int64_t id, Connection& connection,
                            const std::function<void(std::int64_t, RelayRequest)>& on_request) {
  std::array<char, 65536> buffer{};
  std::string line;
  bool whole = false;
  const ssize_t n = ::read(connection.fd.get(), buffer.data(), buffer.size());
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (n <= 0) return false;
  connection.lines.feed({buffer.data(), static_cast<std::size_t>(n)},
                        [&](std::string_view text, bool cut) {
                          if (!whole && !cut) line = text;
                          whole = true;
                        });
  if (connection.lines.overflowed()) return false;
  if (!whole) return true;
  if (connection.asked) return false;  // one call a connection
  connection.asked = true;
  const auto parsed = json::parse(line);
  if (!parsed) return false;
  auto request = json::decode<RelayRequest>(*parsed, json::Unknown::kIgnore);
  if (!request) return false;
  on_request(id, std::move(*request));  // may answer, and with it end `connection`
  return true;
}

}  // namespace rackmark::agent

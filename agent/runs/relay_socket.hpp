// The Unix socket on which the head agent's remote shells hand in their calls, and wait. Bounded;
// never blocks.
#pragma once

#include <poll.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "agent/process/remote_shell.hpp"
#include "agent/process/unique_fd.hpp"
#include "agent/runs/line_reader.hpp"

namespace rackmark::agent {

class RelaySocket {
 public:
  RelaySocket() = default;
  // Mode 0600, in a folder that only we may enter. Throws std::system_error.
  RelaySocket(const std::filesystem::path& path, std::size_t max_connections);

  void add_to(std::vector<pollfd>& fds) const;
  // `on_request(id, request)`: a remote shell waits until answer(id). `on_gone(id)`: it did not.
  void service(const std::function<void(std::int64_t, RelayRequest)>& on_request,
               const std::function<void(std::int64_t)>& on_gone);
  void answer(std::int64_t id, const RelayAnswer& answer);  // nothing when it is gone

 private:
  struct Connection {
    UniqueFd fd;
    LineReader lines{std::size_t{1} << 20};
    bool asked = false;
  };
  void accept_all();
  // False: the connection is at its end.
  static bool read_some(std::int64_t id, Connection& connection,
                        const std::function<void(std::int64_t, RelayRequest)>& on_request);

  UniqueFd listener_;
  std::map<std::int64_t, Connection> connections_;  // by call id
  std::int64_t last_id_ = 0;
  std::size_t max_connections_ = 0;
};

}  // namespace rackmark::agent

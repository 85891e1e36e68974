// The Unix socket on which the ranks of one run write their events. Bounded: connections, bytes of
// a line. Never blocks.
#pragma once

#include <poll.h>
#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <list>
#include <string>
#include <string_view>
#include <vector>

#include "agent/process/unique_fd.hpp"
#include "agent/runs/line_reader.hpp"

namespace rackmark::agent {

inline constexpr std::size_t kMaxEventLine = std::size_t{1} << 20;

class EventSocket {
 public:
  EventSocket() = default;
  // Mode 0600, in a folder that only we may enter. Throws std::system_error.
  EventSocket(const std::filesystem::path& path, std::size_t max_connections);

  void add_to(std::vector<pollfd>& fds) const;
  // A whole line and the process that connected, by its number on this host.
  using OnLine = std::function<void(std::string_view line, pid_t peer)>;
  // Reads what is there. `on_line` gets whole lines; `on_problem` one sentence when a connection
  // was refused or dropped. Gives true when every connection is at its end.
  bool service(const OnLine& on_line, const std::function<void(std::string)>& on_problem);

 private:
  struct Connection {
    UniqueFd fd;
    pid_t peer = 0;
    LineReader lines{kMaxEventLine};
  };
  void accept_all(const std::function<void(std::string)>& on_problem);
  // False: the connection is at its end.
  static bool read_some(Connection& connection, const OnLine& on_line,
                        const std::function<void(std::string)>& on_problem);

  UniqueFd listener_;
  std::list<Connection> connections_;
  std::size_t max_connections_ = 0;
};

}  // namespace rackmark::agent

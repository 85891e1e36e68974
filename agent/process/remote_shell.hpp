// The remote-shell agent of mpirun: this program under the name rackmark-rsh, started once for each
// host of a run over several agents, as "rackmark-rsh HOST orted ARGUMENTS...". It hands the
// command to the agent of this host over a Unix socket, and lives as long as the daemon does:
// mpirun takes its end for the daemon's.
//
// One line of JSON each way: RelayRequest up; RelayAnswer down, at once when the daemon belongs on
// this very host (then this process becomes the daemon), else when it has ended.
#pragma once

#include <boost/describe.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace rackmark::agent {

inline constexpr const char* kRemoteShellName = "rackmark-rsh";

struct RelayRequest {
  std::string token;  // RACKMARK_RUN_TOKEN of mpirun's environment
  std::string host;
  std::vector<std::string> argv;  // as mpirun gave them: shell text in pieces
};
BOOST_DESCRIBE_STRUCT(RelayRequest, (), (token, host, argv))

struct RelayStart {
  std::vector<std::string> argv, environment;
};
BOOST_DESCRIBE_STRUCT(RelayStart, (), (argv, environment))

struct RelayAnswer {
  std::optional<RelayStart> start;  // become this
  std::int64_t exit_code = 0;       // or end with this, output on standard error
  std::string output;
};
BOOST_DESCRIBE_STRUCT(RelayAnswer, (), (start, exit_code, output))

// The whole program. Exit status: the daemon's (128 + n for signal n), 126 when it was not started,
// 255 when the agent went away.
int remote_shell_main(int argc, char** argv);

}  // namespace rackmark::agent

// What the owner of a controller can set: flags, or the same names in a --config file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "common/error.hpp"
#include "common/net/log.hpp"

namespace rackmark {

struct ControllerConfig {
  std::string address = "127.0.0.1";  // a literal address
  std::uint16_t port = 8780;          // 0: a free one, told in port_file
  std::filesystem::path state_dir;    // made 0700 when missing
  std::filesystem::path web_dir;
  std::filesystem::path port_file;  // "" = none
  double lease_s = 60;
  bool allow_remote = false;  // listen beyond loopback, without TLS and tokens
  std::vector<std::string> host_names;
  log::Level log_level = log::Level::kInfo;
};

// "127.0.0.1:8780", "[::1]:0", "localhost:8780" into address and port. kInvalid.
Result<void> parse_listen(std::string_view text, ControllerConfig& config);

// What the command line and its --config file say; prints help and errors itself. The exit status
// when the program should end now (0 after --help, 2 for bad usage).
Result<ControllerConfig> read_config(int argc, char** argv, int& exit_status);

}  // namespace rackmark

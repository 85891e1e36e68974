// The agent as one object: built from its configuration, runs until told to stop.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/net/target.hpp"

namespace rackmark::agent {

struct AgentConfig {
  net::BaseUrl controller;
  std::filesystem::path state, worker, self;
  std::string name, enrol_token;
  std::string token_problem;  // why there is no token though one was named
  std::map<std::string, std::string> labels;
  std::optional<std::string> device_class;
  std::vector<std::string> data_roots;
  std::string containment;                // "" = the best that works
  std::string network;                    // CIDR of runs over several agents; "" = found
  std::string rank_ports, launch_ports;   // "first-last"; "" = any
  std::chrono::seconds probe_every{300};  // between looks at what this host is
  std::uint64_t spool_bytes = std::uint64_t{256} << 20;
};

// Blocks until SIGTERM or SIGINT (0, within 10 s, nothing left running) or until the agent cannot
// go on (1, one line on standard error). Call on the main thread.
int run_agent(const AgentConfig& config);

}  // namespace rackmark::agent

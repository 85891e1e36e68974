// The environments of what is started for a run: made from nothing but a short list of names.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/error.hpp"

namespace rackmark::agent {

using Environment = std::map<std::string, std::string>;

// What every launcher and every rank gets of the agent's own.
Environment base_environment(const Environment& inherited);

// By which the processes of a run are found and ended; see RunMark.
void add_marks(Environment& environment, std::int64_t run_id, const std::string& agent_mark);

std::vector<std::string> texts(const Environment& environment);  // "NAME=value", sorted

// "21000-21999" -> the first port and how many there are; nullopt: any will do.
struct PortRange {
  int first = 0, count = 0;
};
std::optional<PortRange> port_range(const std::string& ports);

// Parameters of Open MPI for ranks that send and receive large messages at the same time, as every
// exchange of gradients does. By default (flags 314 in 4.1, 315 in 5) the receiver asks for a
// message's data, and that request waits behind all that the receiver itself is sending: both
// directions together then carry half of what the link could. Here: no such requests; eight pieces
// on their way instead of three. And few bytes in the kernel's queue, which grows to megabytes
// otherwise: there the next message's announcement and its answer wait behind all of them. `prrte`:
// for Open MPI 5.
std::map<std::string, std::string> two_way_transport(bool prrte);

// kInvalid when the kernel would cut the path of this socket; nullopt when it fits.
std::optional<Error> socket_problem(const char* what, const std::filesystem::path& path);

}  // namespace rackmark::agent

// Small facts of this process and this kernel.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace rackmark::agent {

std::map<std::string, std::string> own_environment();

// The interface of this host that has an address in this IPv4 network ("10.0.0.0/24"); "" = none.
std::string interface_in(const std::string& network);

// How often the kernel's memory killer has acted since boot (oom_kill in /proc/vmstat); 0 when it
// does not say.
std::int64_t memory_killer_count();

// True when this process may not run on every processor that is online.
bool affinity_is_restricted();

// Eight hex digits that stand for a state folder: the same for the same folder, always.
std::string mark_of(const std::string& state_folder);

}  // namespace rackmark::agent

// A listening Unix socket that only this user may reach.
#pragma once

#include <filesystem>

#include "agent/process/unique_fd.hpp"

namespace rackmark::agent {

// Mode 0600, non-blocking; replaces what is there. Throws std::system_error.
UniqueFd listen_unix(const std::filesystem::path& path);

}  // namespace rackmark::agent

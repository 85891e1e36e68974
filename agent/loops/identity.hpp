// Who this agent is to its controller, kept in its state folder (identity.json, mode 0600).
#pragma once

#include <boost/describe.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "agent/process/unique_fd.hpp"
#include "common/error.hpp"

namespace rackmark::agent {

struct Identity {
  std::int64_t agent_id = 0;
  std::string agent_token, controller_uuid, name;
};
BOOST_DESCRIBE_STRUCT(Identity, (), (agent_id, agent_token, controller_uuid, name))

// nullopt: not enrolled. kInvalid when the file is there but is not an identity.
Result<std::optional<Identity>> read_identity(const std::filesystem::path& file);
void write_identity(const std::filesystem::path& file, const Identity& identity);

// Makes the folder (0700) and holds it for this process. kUnavailable when another user made it or
// could write in it, kConflict naming the holder.
Result<UniqueFd> lock_state_folder(const std::filesystem::path& state);

// Sortable: milliseconds since 1970 and the pid, of fixed width.
std::string make_incarnation(std::int64_t wall_us, int pid);
std::string read_boot_id();

}  // namespace rackmark::agent

// "Start this daemon here", as another agent of the run sends it: what of it may be started. Pure.
//
// Open MPI's daemon takes parameters that load code or start programs (component paths, fork
// agents, launch agents), and the caller is another machine. So nothing passes but the daemon
// itself, with parameters whose names are listed here and whose values look as they must; no shell
// is involved anywhere.
#pragma once

#include <string>
#include <vector>

#include "common/error.hpp"

namespace rackmark::agent {

inline constexpr std::size_t kMaxCallWords = 1000;
inline constexpr std::size_t kMaxCallBytes = std::size_t{256} << 10;

// The words of what mpirun gives its remote-shell agent for a remote shell: quotes and backslashes
// are taken as sh would, the daemon's folder is left out. kInvalid where a shell would have had to
// do more: variables, commands, redirections, several commands. But for one thing: mpirun may say
// first where programs and libraries are, as "NAME=FOLDERS:$NAME; export NAME;" of a few known
// names. That is recognised and dropped, since the other host has its own; so is what makes sh read
// a profile.
Result<std::vector<std::string>> daemon_words(const std::vector<std::string>& argv);

// The argv to start, from the words of a caller. kInvalid naming the word that is not allowed.
// Parameters that would only make the daemon start further ones are dropped.
Result<std::vector<std::string>> admit_daemon(const std::vector<std::string>& words);

}  // namespace rackmark::agent

// Names the code that makes the numbers: part of every series' identity.
#pragma once

#include <string>

namespace rackmark::worker {

// 12 hex digits over the engine's sources, compiler and flags (cmake/engine_revision.cmake).
std::string engine_revision();

}  // namespace rackmark::worker

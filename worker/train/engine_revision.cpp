#include "worker/train/engine_revision.hpp"

#include "rackmark_engine_revision.hpp"  // made at build time

namespace rackmark::worker {

std::string engine_revision() { return RACKMARK_ENGINE_REVISION; }

}  // namespace rackmark::worker

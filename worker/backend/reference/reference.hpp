// The plain backend: readable loops in float or double. It is the oracle of all others, and is
// itself checked by finite differences. Slow on purpose: for small shapes.
#pragma once

#include <memory>

#include "worker/backend/backend.hpp"

namespace rackmark::worker {

std::unique_ptr<Backend> make_reference_backend();  // precisions fp32, fp64

}  // namespace rackmark::worker

// The CPU backend. In the worker it is the plug-in librackmark-backend-onednn.so; tests link it.
#pragma once

#include <memory>

#include "worker/backend/backend.hpp"

namespace rackmark::worker {

std::unique_ptr<Backend> make_onednn_backend();  // precision fp32; fusions: see onednn/plan.hpp

}  // namespace rackmark::worker

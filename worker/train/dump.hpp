// Parameters as a file, for comparing runs.
#pragma once

#include <string>

#include "worker/backend/backend.hpp"

namespace rackmark::worker {

// `path`: all trainable parameters, then all running statistics, float32 little endian, each in
// torchvision's order of elements. `path`.json: {"parameters": [...], "running": [...]} of
// {"name", "offset", "elements"}, offsets in elements. Throws std::runtime_error naming the file.
void dump_parameters(const TrainPlan& plan, const std::string& path);

}  // namespace rackmark::worker

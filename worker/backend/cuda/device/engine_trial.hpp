// The clock by which engines are chosen: several ways of doing the same work are run in turn.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "worker/backend/cuda/device/cuda_queue.hpp"

namespace rackmark::worker::cuda {

// Milliseconds of one run of each; nullopt: it failed, or there was no memory to try it in.
using TrialTimes = std::vector<std::optional<double>>;

// Runs each of `names` and keeps its shortest time. `work_of` makes the work at an index, with the
// memory that it alone needs. What the host spends on giving work is not in the times, nor is the
// low clock of a GPU that had nothing to do. Throws std::runtime_error naming `task` and the
// culprit when the device itself does not go on after a failure.
TrialTimes trial_times(CudaQueue& queue, const std::string& task,
                       const std::vector<std::string>& names,
                       const std::function<std::function<void()>(std::size_t)>& work_of);

// The rounds of it, without a device. `time_one` is told the best time so far; `failed` is told
// what it threw, and may throw itself.
TrialTimes compared_times(
    std::size_t count,
    const std::function<double(std::size_t, const std::optional<double>& best_ms)>& time_one,
    const std::function<void(std::size_t, const std::string& why)>& failed);

}  // namespace rackmark::worker::cuda

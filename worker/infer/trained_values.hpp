// The values that a run infers with.
#pragma once

#include <cstdint>
#include <optional>

#include "worker/backend/backend.hpp"
#include "worker/infer/picture_stream.hpp"

namespace rackmark::worker {

// Weights as training would start with them; running means 0, variances 1.
TrainedValues initial_values(const Net& net, std::int64_t seed);

// Sets the running statistics to those of a few training passes over pictures of the stream (taken
// in any case, so that what follows sees the same pictures). Throws as Backend::compile. Its plan
// is gone when it returns.
void settle_statistics(Backend& backend, const Net& net, int threads, PictureStream& pictures,
                       TrainedValues& values);
// What that plan takes meanwhile; null: this backend cannot say.
std::optional<std::int64_t> settling_bytes(Backend& backend, const Net& net, int threads);

}  // namespace rackmark::worker

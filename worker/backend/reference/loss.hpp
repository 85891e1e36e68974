#pragma once

#include <cstdint>
#include <span>

#include "worker/net/net.hpp"

namespace rackmark::worker::reference {

// Mean over the batch. logits: (batch, width); with sigmoid cross entropy width is 1 and labels
// are 0 or 1.
template <class T>
double mean_loss(LossKind kind, const T* logits, int width, std::span<const std::int32_t> labels);

// Adds weight x d mean_loss / d logits to dlogits.
template <class T>
void add_loss_gradient(LossKind kind, const T* logits, int width,
                       std::span<const std::int32_t> labels, double weight, T* dlogits);

}  // namespace rackmark::worker::reference

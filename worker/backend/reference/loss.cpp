#include "worker/backend/reference/loss.hpp"

#include <algorithm>
#include <cmath>

namespace rackmark::worker::reference {
namespace {

// log(sum(exp(z))), shifted by the largest so that nothing overflows.
template <class T>
double log_sum_exp(const T* z, int width) {
  const double largest = *std::max_element(z, z + width);
  double sum = 0;
  for (int c = 0; c < width; ++c) sum += std::exp(z[c] - largest);
  return largest + std::log(sum);
}

}  // namespace

template <class T>
double mean_loss(LossKind kind, const T* logits, int width, std::span<const std::int32_t> labels) {
  double sum = 0;
  for (std::size_t image = 0; image < labels.size(); ++image) {
    const T* z = logits + image * static_cast<std::size_t>(width);
    if (kind == LossKind::kSoftmaxCrossEntropy) {
      sum += log_sum_exp(z, width) - z[labels[image]];
    } else {  // -t log(sigmoid(z)) - (1 - t) log(1 - sigmoid(z)), rearranged against overflow
      const double logit = z[0];
      sum +=
          std::log1p(std::exp(-std::abs(logit))) + (logit > 0 ? logit : 0) - logit * labels[image];
    }
  }
  return sum / static_cast<double>(labels.size());
}

template <class T>
void add_loss_gradient(LossKind kind, const T* logits, int width,
                       std::span<const std::int32_t> labels, double weight, T* dlogits) {
  const double scale = weight / static_cast<double>(labels.size());
  for (std::size_t image = 0; image < labels.size(); ++image) {
    const T* z = logits + image * static_cast<std::size_t>(width);
    T* dz = dlogits + image * static_cast<std::size_t>(width);
    if (kind == LossKind::kSoftmaxCrossEntropy) {
      const double total = log_sum_exp(z, width);
      for (int c = 0; c < width; ++c) {
        const double target = c == labels[image] ? 1 : 0;
        dz[c] += static_cast<T>(scale * (std::exp(z[c] - total) - target));
      }
    } else {
      const double probability = 1 / (1 + std::exp(-static_cast<double>(z[0])));
      dz[0] += static_cast<T>(scale * (probability - labels[image]));
    }
  }
}

template double mean_loss(LossKind, const float*, int, std::span<const std::int32_t>);
template double mean_loss(LossKind, const double*, int, std::span<const std::int32_t>);
template void add_loss_gradient(LossKind, const float*, int, std::span<const std::int32_t>, double,
                                float*);
template void add_loss_gradient(LossKind, const double*, int, std::span<const std::int32_t>, double,
                                double*);

}  // namespace rackmark::worker::reference

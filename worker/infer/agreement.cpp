#include "worker/infer/agreement.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

namespace rackmark::worker {

namespace {

std::vector<double> means_over_pictures(std::span<const double> logits, std::size_t classes) {
  std::vector<double> means(classes, 0.0);
  for (std::size_t i = 0; i < logits.size(); ++i) means[i % classes] += logits[i];
  const double pictures = static_cast<double>(logits.size() / classes);
  for (double& mean : means) mean /= pictures;
  return means;
}

std::vector<double> less(std::span<const double> logits, const std::vector<double>& means) {
  std::vector<double> centred(logits.begin(), logits.end());
  for (std::size_t i = 0; i < centred.size(); ++i) centred[i] -= means[i % means.size()];
  return centred;
}

std::size_t first_class(const double* logits, std::size_t classes) {
  if (classes == 1) return logits[0] > 0 ? 1 : 0;
  return static_cast<std::size_t>(std::max_element(logits, logits + classes) - logits);
}

}  // namespace

protocol::Agreement compare_logits(std::span<const double> exact, std::span<const double> other,
                                   std::size_t classes) {
  if (exact.size() != other.size() || classes == 0 || exact.size() < 2 * classes ||
      exact.size() % classes != 0) {
    throw std::invalid_argument("logits to compare must be of the same two or more pictures");
  }
  const auto means = means_over_pictures(exact, classes);
  const auto a = less(exact, means), b = less(other, means);
  double product = 0, squares_a = 0, squares_b = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    product += a[i] * b[i];
    squares_a += a[i] * a[i];
    squares_b += b[i] * b[i];
  }
  protocol::Agreement agreement;
  const std::size_t pictures = exact.size() / classes;
  std::size_t same = 0;
  for (std::size_t p = 0; p < pictures; ++p) {
    const std::size_t at = p * classes;
    same += first_class(&a[at], classes) == first_class(&b[at], classes) ? 1 : 0;
  }
  agreement.pictures = static_cast<std::int64_t>(pictures);
  agreement.top1 = static_cast<double>(same) / static_cast<double>(pictures);
  const double norms = std::sqrt(squares_a) * std::sqrt(squares_b);
  agreement.cosine = norms > 0 ? product / norms : 0;
  agreement.cosine_floor = kCosineFloor;
  return agreement;
}

// Not finite is not enough.
bool is_enough(const protocol::Agreement& agreement) {
  return agreement.cosine >= agreement.cosine_floor;
}

}  // namespace rackmark::worker

// Bodies and launchers of the loss. One block a row, however many classes: the largest logit first,
// so that nothing overflows, then the sum of exponentials, then the gradient.
#pragma once

#include "worker/backend/cuda/kernels/checks.hpp"
#include "worker/backend/cuda/kernels/sums.hpp"

namespace rackmark::worker::cuda::bodies {

constexpr int kBlockSteps = 8;  // of a tree over all threads of a block
static_assert(kThreads == 1 << kBlockSteps);

template <class T>
struct SoftmaxLoss {
  static constexpr int kBlocksPerProcessor = 4;
  struct Shared {
    float largest[kThreads];
    double sum[kThreads];
    float target;  // the logit of the label
  };

  explicit SoftmaxLoss(const CrossEntropy& given)
      : k(given),
        gradient(given.d_logits),
        columns(gradient.data != nullptr ? given.d_logits.channels : 0),
        share(static_cast<float>(given.weight / static_cast<double>(given.rows))) {}

  // 0: largest of a thread's classes; then the tree; then the sum likewise; then the results.
  RM_DEVICE int phases() const { return 2 * (1 + kBlockSteps) + 1; }
  RM_DEVICE void phase(int phase, int row, int thread, Shared& shared) const {
    constexpr int kSum = 1 + kBlockSteps, kResult = 2 * kSum;
    const float* z = k.logits + std::int64_t{row} * k.classes;
    if (phase == 0) {
      find_largest(z, k.labels[row], thread, shared);
    } else if (phase < kSum) {
      const int away = partner_distance(kThreads, phase - 1, thread);
      if (away > 0) take_larger(shared.largest[thread], shared.largest[thread + away]);
    } else if (phase == kSum) {
      shared.sum[thread] = sum_exponentials(z, thread, shared.largest[0]);
    } else if (phase < kResult) {
      const int away = partner_distance(kThreads, phase - kSum - 1, thread);
      if (away > 0) shared.sum[thread] += shared.sum[thread + away];
    } else {
      write(z, row, thread, shared);
    }
  }

  CrossEntropy k;
  View<T> gradient;
  int columns;
  float share;

 private:
  static RM_DEVICE void take_larger(float& to, float x) {
    if (x > to) to = x;  // a NaN is not taken; it makes the sum NaN
  }
  RM_DEVICE void find_largest(const float* z, int label, int thread, Shared& shared) const {
    float largest = -HUGE_VALF;
    for (int c = thread; c < k.classes; c += kThreads) {
      take_larger(largest, z[c]);
      if (c == label) shared.target = z[c];
    }
    // A label that is no class: the loss is NaN, nothing outside of the row is read.
    if (thread == 0 && (label < 0 || label >= k.classes)) shared.target = float_of(0x7FC00000U);
    shared.largest[thread] = largest;
  }
  RM_DEVICE double sum_exponentials(const float* z, int thread, float largest) const {
    double sum = 0;
    for (int c = thread; c < k.classes; c += kThreads) sum += expf(z[c] - largest);
    return sum;
  }
  RM_DEVICE void write(const float* z, int row, int thread, const Shared& shared) const {
    const float largest = shared.largest[0];
    const double sum = shared.sum[0];
    if (thread == 0) {
      const double loss = log(sum) - (static_cast<double>(shared.target) - largest);
      k.row_loss[row] = static_cast<float>(share * loss);
    }
    if (columns == 0) return;
    const auto inverse = static_cast<float>(1 / sum);
    const float scale = share * k.state->loss_scale;
    const int label = k.labels[row];
    for (int c = thread; c < columns; c += kThreads) {
      const float probability = c < k.classes ? expf(z[c] - largest) * inverse : 0.0F;
      put(*gradient.at(static_cast<unsigned>(row), c), scale * (probability - (c == label)));
    }
  }
};

// One logit a row, labels 0 or 1: -t log(sigmoid(z)) - (1 - t) log(1 - sigmoid(z)), rearranged
// against overflow.
template <class T>
struct SigmoidLossBody {
  using Access = Singles<T>;
  static constexpr int kInFlight = 1;

  explicit SigmoidLossBody(const CrossEntropy& given)
      : k(given),
        gradient(given.d_logits),
        columns(gradient.data != nullptr ? given.d_logits.channels : 0),
        share(static_cast<float>(given.weight / static_cast<double>(given.rows))) {}
  RM_DEVICE Nothing begin(Span) const { return {}; }
  RM_DEVICE Nothing load(Nothing, Span, unsigned) const { return {}; }
  RM_DEVICE void finish(Nothing, Span, unsigned row, Nothing) const {
    const float z = k.logits[row];
    const auto target = static_cast<float>(k.labels[row]);
    const float loss = log1pf(expf(-fabsf(z))) + (z > 0 ? z : 0.0F) - z * target;
    k.row_loss[row] = share * loss;
    if (columns == 0) return;
    put(*gradient.at(row, 0), share * k.state->loss_scale * (1 / (1 + expf(-z)) - target));
    for (int c = 1; c < columns; ++c) put(*gradient.at(row, c), 0);
  }

  CrossEntropy k;
  View<T> gradient;
  int columns;
  float share;
};

struct LossSumBody {
  static constexpr int kBlocksPerProcessor = 1;
  struct Shared {
    double sum[kThreads];
  };
  LossSum k;

  RM_DEVICE int phases() const { return 2 + kBlockSteps; }
  RM_DEVICE void phase(int phase, int, int thread, Shared& shared) const {
    if (phase == 0) {
      double sum = 0;
      for (std::int64_t i = thread; i < k.count; i += kThreads) sum += k.row_loss[i];
      shared.sum[thread] = sum;
    } else if (phase <= kBlockSteps) {
      const int away = partner_distance(kThreads, phase - 1, thread);
      if (away > 0) shared.sum[thread] += shared.sum[thread + away];
    } else if (thread == 0) {
      k.state->loss = shared.sum[0];
    }
  }
};

template <class T, class Runner>
void cross_entropy(Queue queue, const CrossEntropy& k) {
  const char* name = "cross_entropy";
  require(k.logits != nullptr && k.labels != nullptr && k.row_loss != nullptr, name,
          "logits, labels or row_loss is null");
  require(k.classes > 0 && k.rows >= 0 && k.rows < 1LL << 31, name,
          "needs classes > 0, 0 <= rows < 2^31");
  if (k.d_logits.data != nullptr) {
    require_counts(name, k.d_logits);
    require(k.state != nullptr, name, "a gradient needs the state's loss scale");
    require(k.d_logits.rows == k.rows && k.d_logits.channels >= k.classes, name,
            "d_logits has other rows or fewer channels than logits");
  }
  if (k.form == LossForm::kSoftmax) {
    return Runner::phases(queue, name, SoftmaxLoss<T>(k), static_cast<int>(k.rows));
  }
  require(k.classes == 1, name, "a sigmoid has one logit");
  Runner::rows(queue, name, SigmoidLossBody<T>(k), k.rows, 1);
}
template <class Runner>
void loss_sum(Queue queue, const LossSum& k) {
  Runner::phases(queue, "loss_sum", LossSumBody{k}, 1);
}

template <class T, class Runner>
void add_loss_kernels(Kernels& kernels) {
  kernels.cross_entropy = cross_entropy<T, Runner>;
  kernels.loss_sum = loss_sum<Runner>;
}

}  // namespace rackmark::worker::cuda::bodies

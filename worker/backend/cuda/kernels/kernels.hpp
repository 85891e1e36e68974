// The engine's own GPU kernels: everything of a step that is neither a convolution nor a matrix
// product. One table of functions for each type of stored value.
//
// The body of each kernel is written once (headers of this folder) and compiled twice: by nvcc for
// the device, and as plain loops for the host, so that machines without a GPU run the very same
// code under tests and sanitizers. `Queue` is a cudaStream_t in the device's tables; the host's
// ignore it and have finished when they return.
//
// Values are stored as T (float, half or bfloat); sums, statistics, weights, their gradients and
// losses are float. Integers of 8 bits, which int8 inference knows, are values too, in units of
// their own: to the nearest, of two equally near ones the even, at most -128 and 127. Their table
// has only what inference needs of them: kernels that say so. Pictures are NHWC. All kernels give
// the same bits for the same inputs: sums are made in a fixed order, nothing is added atomically.
#pragma once

#include <cstdint>

namespace rackmark::worker {
struct PictureWindow;  // worker/net/pictures.hpp
}

namespace rackmark::worker::cuda {

enum class Type : std::uint8_t { kFloat, kHalf, kBfloat, kInteger };
constexpr std::int64_t width(Type type) {  // bytes
  return type == Type::kFloat ? 4 : type == Type::kInteger ? 1 : 2;
}

using Queue = void*;

// `rows` rows of `channels` values of type T; a row begins `stride` values after the one before. A
// batch of pictures is one row a pixel. `stride` is larger than `channels` where a value lies
// inside a concat. Null data: absent, where a kernel says that it may be.
struct Matrix {
  void* data = nullptr;
  std::int64_t rows = 0;
  int channels = 0;
  std::int64_t stride = 0;
};

struct Picture {  // `pixels.rows` is images x height x width
  Matrix pixels;
  int images = 0, height = 0, width = 0;
};

// One bit an element, row by row, each row padded to whole bytes: byte row *
// mask_row_bytes(channels)
// + channel / 8, bit channel % 8. Set where ReLU let the value through.
constexpr std::int64_t mask_row_bytes(int channels) { return (channels + 7) / 8; }
constexpr std::int64_t mask_bytes(std::int64_t rows, int channels) {
  return rows * mask_row_bytes(channels);
}

// --- input ---------------------------------------------------------------------------------------

// Also integers. NCHW floats to NHWC; channels from `channels` to y's are zero.
struct LoadPictures {
  const float* images = nullptr;
  int channels = 3;
  Picture y;
  float factor = 1;  // of every value
};
// Also integers. The windows of pictures of side x side RGB bytes, normalised as
// worker/net/pictures.hpp does, bit for bit; channels from 3 to y's are zero. y's pictures are
// square. Windows lie inside.
struct LoadRawPictures {
  const std::uint8_t* pixels = nullptr;
  const PictureWindow* windows = nullptr;  // a picture
  int side = 0;
  Picture y;
  float factor = 1;  // of every normalised value
};

// --- batch norm ----------------------------------------------------------------------------------
// y = (x - mean) * inverse_deviation * weight + bias, statistics over all rows of a channel.

// How many blocks a kernel that sums over rows uses; `partial` has room for that many.
int sum_blocks(std::int64_t rows, int channels);

struct NormSums {  // partial[block][0..1][channel]: sums of d and of d * d, d = x - x's first row
  Matrix x;
  float* partial = nullptr;
};
struct NormStatistics {  // from those sums; all arrays by channel
  const float* partial = nullptr;
  // The convolution before has summed up already: partial[0..1][channel] are the sums of x and of
  // x * x over all rows.
  bool summed = false;
  Matrix x;  // as given to NormSums
  const float *weight = nullptr, *bias = nullptr;
  float *running_mean = nullptr, *running_variance = nullptr;  // updated; the variance unbiased
  double momentum = 0.1, epsilon = 1e-5;
  float *mean = nullptr, *inverse_deviation = nullptr;
  float *scale = nullptr, *shift = nullptr;  // y = x * scale + shift
  void *narrow_scale = nullptr,
       *narrow_shift = nullptr;  // the same in the stored type; may be null
};
struct NormFromRunning {  // the same scale and shift for evaluation
  int channels = 0;
  const float *weight = nullptr, *bias = nullptr;
  const float *running_mean = nullptr, *running_variance = nullptr;
  double epsilon = 1e-5;
  float *scale = nullptr, *shift = nullptr;
  void *narrow_scale = nullptr, *narrow_shift = nullptr;  // as NormStatistics'
};
struct NormApply {  // y = relu?(x * scale + shift + residual'), residual' = residual [* scale +
                    // shift]
  Matrix x, y;
  const float *scale = nullptr, *shift = nullptr;
  Matrix residual;                                                   // may be absent
  const float *residual_scale = nullptr, *residual_shift = nullptr;  // null: the residual as it is
  bool relu = false;
  std::uint8_t* mask = nullptr;  // written where ReLU is on and a mask is wanted
};
// g = dy where the mask is set (everywhere without a mask). Sums of g and of g * (x - mean), and of
// g * (residual_x - residual_mean) where the residual is a batch norm's input:
// partial[block][0..1 or 0..2][channel].
struct NormBackwardSums {
  Matrix dy, x;
  const std::uint8_t* mask = nullptr;
  const float* mean = nullptr;
  Matrix residual_x;                     // may be absent
  const float* residual_mean = nullptr;  // with residual_x
  Matrix masked;                         // may be absent: g is written there; may be dy itself
  float* partial = nullptr;
};
struct NormBackwardStatistics {  // dx = g * a + (x - mean) * b + c
  const float* partial = nullptr;
  int sums = 2, sum = 1;  // how many sums a block has in `partial`, and which one is g * (x - mean)
  std::int64_t rows = 0;
  int channels = 0;
  const float *weight = nullptr, *inverse_deviation = nullptr;
  float *weight_gradient = nullptr, *bias_gradient = nullptr;
  float *a = nullptr, *b = nullptr, *c = nullptr;
  // The convolution after has summed up already, over all rows: partial[0][channel] are the sums of
  // g, partial[1][channel] those of g * (x - mean) * inverse_deviation.
  bool summed = false;
};
struct NormBackwardApply {
  Matrix dy, x, dx;                    // dx may be dy
  const std::uint8_t* mask = nullptr;  // as in NormBackwardSums; null when dy is masked already
  const float *mean = nullptr, *a = nullptr, *b = nullptr, *c = nullptr;
};

// --- elementwise ---------------------------------------------------------------------------------

struct Rectify {  // y = max(x, 0); y may be x
  Matrix x, y;
  std::uint8_t* mask = nullptr;  // may be null
};
struct RectifyBackward {  // dx [+]= dy where the mask is set; dx may be dy
  Matrix dy, dx;
  const std::uint8_t* mask = nullptr;
  bool accumulate = false;
};
struct Sum {  // y = a + b, relu where wanted; y may be a or b
  Matrix a, b, y;
  bool relu = false;
  std::uint8_t* mask = nullptr;
};
struct Copy {  // to [+]= from * factor; also integers
  Matrix from, to;
  float factor = 1;
  bool accumulate = false;
};
struct AddBias {  // y = relu?(x + bias); y may be x
  Matrix x, y;
  const float* bias = nullptr;  // by channel
  bool relu = false;
  std::uint8_t* mask = nullptr;
};
struct BiasSums {  // partial[block][channel] of dy
  Matrix dy;
  float* partial = nullptr;
};
struct BiasGradient {
  const float* partial = nullptr;
  std::int64_t rows = 0;  // of dy
  int channels = 0;
  float* gradient = nullptr;
};
// y [+]= x / (1 - probability) where kept, 0 elsewhere. Element e is kept when the e-th draw of
// splitmix64 under key splitmix64(seed + *pass) says so, so backward makes the same mask again.
struct Dropout {
  Matrix x, y;  // dense
  double probability = 0.5;
  std::uint64_t seed = 0;
  const std::int64_t* pass = nullptr;  // DropoutMasks::number(), in the device's memory
  bool accumulate = false;
};

// --- neighbourhoods ------------------------------------------------------------------------------

struct Windows {  // where pooling looks; an output's window starts at out * stride - pad
  int kernel = 2, stride = 2, pad = 0;
  bool adaptive = false;  // start = floor(o * in / outs), end = ceil((o + 1) * in / outs) instead
};
struct MaxPool {  // also integers
  Picture x, y;
  Windows windows;
  std::uint8_t* winner =
      nullptr;  // of each output, dense NHWC: its place in the window; null: not kept
};
struct MaxPoolBackward {
  Picture dy, dx;
  Windows windows;
  const std::uint8_t* winner = nullptr;
  bool accumulate = false;
};
struct AveragePool {  // also integers; padding counts as zeros; adaptive windows have none
  Picture x, y;
  Windows windows;
};
struct AveragePoolBackward {
  Picture dy, dx;
  Windows windows;
  bool accumulate = false;
};
// y = the largest max(x * scale + shift, 0) of a window. Batch norm, ReLU and pool in one reading.
constexpr std::uint8_t kNoWinner = 255;
struct NormMaxPool {
  Picture x, y;
  Windows windows;
  const float *scale = nullptr, *shift = nullptr;
  std::uint8_t* winner =
      nullptr;  // as MaxPool's, kNoWinner where y is not positive; null: not kept
};
// Its way back: g of an input is the sum of dy over the windows that it won. As NormBackwardSums,
// with these g.
struct NormMaxPoolBackwardSums {
  Picture dy, x;
  Windows windows;
  const std::uint8_t* winner = nullptr;
  const float* mean = nullptr;
  float* partial = nullptr;
};
struct NormMaxPoolBackwardApply {  // as NormBackwardApply, with these g
  Picture dy, x, dx;
  Windows windows;
  const std::uint8_t* winner = nullptr;
  const float *mean = nullptr, *a = nullptr, *b = nullptr, *c = nullptr;
};
// y = x * s^-beta, s = k + alpha / size * sum of x^2 over `size` channels around.
struct ResponseNorm {
  Matrix x, y;
  int size = 5;
  double alpha = 1e-4, beta = 0.75, k = 1;
};
struct ResponseNormBackward {
  Matrix dy, x, dx;
  int size = 5;
  double alpha = 1e-4, beta = 0.75, k = 1;
  bool accumulate = false;
};

// --- loss and optimizer --------------------------------------------------------------------------

// What the device itself keeps of 16-bit training, and what the host says of the step. One struct
// in the device's memory.
struct StepState {
  // Written by the host before a step.
  std::int64_t pass = 0;  // DropoutMasks::number() of the last forward pass
  float learning_rate = 0, momentum = 0, weight_decay = 0;
  // Kept by the device.
  float loss_scale = 1;         // what gradients of values are multiplied with
  float gradient_scale = 1;     // what those of parameters are when sgd reads them
  std::int32_t overflow = 0;    // gradients of this step are not finite: it changes nothing
  std::int32_t good_steps = 0;  // since the scale changed
  std::int64_t skipped = 0;     // steps that changed nothing
  double loss = 0;              // of the last forward pass
};

enum class LossForm : std::uint8_t { kSoftmax, kSigmoid };
// row_loss[row] = weight / rows * cross entropy of the row; d_logits (may be absent) = its gradient
// times the loss scale. Logits are floats whatever T is, their gradient is T.
struct CrossEntropy {
  LossForm form = LossForm::kSoftmax;
  const float* logits = nullptr;  // rows x classes
  std::int64_t rows = 0;
  int classes = 0;
  const std::int32_t* labels = nullptr;
  double weight = 1;
  const StepState* state = nullptr;
  Matrix d_logits;
  float* row_loss = nullptr;
};
struct LossSum {  // state->loss = sum of all row losses
  const float* row_loss = nullptr;
  std::int64_t count = 0;
  StepState* state = nullptr;
};
struct Unscale {  // gradients /= loss scale
  float* gradients = nullptr;
  std::int64_t count = 0;
  const StepState* state = nullptr;
};
// state->overflow = whether some gradient is not finite; state->gradient_scale = the loss scale, or
// 1 where the gradients were unscaled.
struct FindOverflow {
  const float* gradients = nullptr;
  std::int64_t count = 0;
  StepState* state = nullptr;
  bool scaled = false;
};
// g = gradient / state->gradient_scale + weight_decay * w; v = momentum * v + g; w -= learning_rate
// * v; narrow = T(w). Nothing of it when state->overflow is set.
struct Sgd {
  float *weights = nullptr, *velocities = nullptr;
  const float* gradients = nullptr;
  void* narrow = nullptr;  // may be null
  std::int64_t count = 0;
  const StepState* state = nullptr;
};
// After an overflow: half the scale (at least 1), clear the flag, count the step as skipped. After
// 2000 steps without: twice the scale (at most 65536 * 256). A fixed scale stays as it is.
struct AdjustScale {
  StepState* state = nullptr;
  bool fixed = false;
};
struct Narrow {  // to = T(from); also integers
  const float* from = nullptr;
  void* to = nullptr;
  std::int64_t count = 0;
};
struct Widen {  // to = float(from); also integers
  const void* from = nullptr;
  float* to = nullptr;
  std::int64_t count = 0;
};

struct ToIntegers {  // to = integer(from * factor)
  Matrix from, to;
  float factor = 1;
};

template <class Arguments>
using Kernel = void (*)(Queue, const Arguments&);

struct Kernels {
  Kernel<LoadPictures> load_pictures;
  Kernel<LoadRawPictures> load_raw_pictures;
  Kernel<NormSums> norm_sums;
  Kernel<NormStatistics> norm_statistics;
  Kernel<NormFromRunning> norm_from_running;
  Kernel<NormApply> norm_apply;
  Kernel<NormBackwardSums> norm_backward_sums;
  Kernel<NormBackwardStatistics> norm_backward_statistics;
  Kernel<NormBackwardApply> norm_backward_apply;
  Kernel<Rectify> rectify;
  Kernel<RectifyBackward> rectify_backward;
  Kernel<Sum> sum;
  Kernel<Copy> copy;
  Kernel<AddBias> add_bias;
  Kernel<BiasSums> bias_sums;
  Kernel<BiasGradient> bias_gradient;
  Kernel<Dropout> dropout;
  Kernel<MaxPool> max_pool;
  Kernel<MaxPoolBackward> max_pool_backward;
  Kernel<AveragePool> average_pool;
  Kernel<AveragePoolBackward> average_pool_backward;
  Kernel<NormMaxPool> norm_max_pool;
  Kernel<NormMaxPoolBackwardSums> norm_max_pool_backward_sums;
  Kernel<NormMaxPoolBackwardApply> norm_max_pool_backward_apply;
  Kernel<ResponseNorm> response_norm;
  Kernel<ResponseNormBackward> response_norm_backward;
  Kernel<CrossEntropy> cross_entropy;
  Kernel<LossSum> loss_sum;
  Kernel<Unscale> unscale;
  Kernel<FindOverflow> find_overflow;
  Kernel<Sgd> sgd;
  Kernel<AdjustScale> adjust_scale;
  Kernel<Narrow> narrow;
  Kernel<Widen> widen;
  Kernel<ToIntegers> to_integers;
};

const Kernels& host_kernels(Type type);
const Kernels& device_kernels(Type type);  // only where nvcc compiled them

}  // namespace rackmark::worker::cuda

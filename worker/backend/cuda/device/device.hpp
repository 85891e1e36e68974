// What a plan needs of a GPU: memory, one queue of work, convolutions and matrix products, own
// kernels, recordings. The engine has one implementation for CUDA; tests have one that computes on
// the host, so that everything above this interface is checked on machines without a GPU.
//
// Work that is given to a device runs in the order in which it was given (one queue); calls return
// before it has run unless they say otherwise. One thread. Errors are exceptions naming library,
// call and code; running out of memory is OutOfMemory.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "worker/backend/cuda/kernels/kernels.hpp"

namespace rackmark::worker::cuda {

// How products are made of stored values. kFloat values are multiplied in float32 (kFull) or in
// TF32 on tensor cores (kTensor); 16-bit values always on tensor cores with float32 sums, integers
// with sums of 32 bits.
enum class Arithmetic : std::uint8_t { kFull, kTensor };

// For errors, logs and the keys under which choices are kept.
inline const char* arithmetic_name(Type type, Arithmetic arithmetic) {
  if (type == Type::kHalf) return "half";
  if (type == Type::kBfloat) return "bfloat";
  if (type == Type::kInteger) return "int8";
  return arithmetic == Arithmetic::kTensor ? "tf32" : "float";
}

// No engine that wants more room is used where another one serves. Float products without tensor
// cores are made in NCHW inside: copies of both pictures.
constexpr std::int64_t workspace_limit(Type type, Arithmetic arithmetic) {
  const bool full = type == Type::kFloat && arithmetic == Arithmetic::kFull;
  return full ? std::int64_t{2} << 30 : std::int64_t{256} << 20;
}

enum class ConvolutionPass : std::uint8_t { kForward, kBackwardData, kBackwardWeights };

// x is images x height x width x channels, y the output, w is (out, kernel_h, kernel_w, channels).
struct ConvolutionTask {
  ConvolutionPass pass = ConvolutionPass::kForward;
  Type type = Type::kFloat;
  Arithmetic arithmetic = Arithmetic::kFull;
  int images = 0, channels = 0, height = 0, width = 0;
  int out = 0, kernel_h = 1, kernel_w = 1, stride = 1, pad_h = 0, pad_w = 0;
  std::int64_t x_stride = 0, y_stride = 0;  // values from one pixel to the next; 0: dense
  // kForward: y = relu?(conv(x, w) + bias + residual). kBackwardData: dx is added to what is there.
  // kForward of 16-bit values also, with `statistics`: sums of y and of y * y by output channel.
  bool bias = false, residual = false, relu = false, accumulate = false, statistics = false;
  // Of 16-bit values, where the input is a batch norm's with ReLU. `normed`, kForward and
  // kBackwardWeights: x is the batch norm's own input, and relu(x * x_scale + x_shift) is what is
  // convolved (padding is still of zeros). `norm_sums`, kBackwardData: of dx only what that ReLU
  // lets through is written, and the sums of the batch norm's way back are made.
  bool normed = false, norm_sums = false;
  // Of integers, kForward alone: w are integers too, and y = relu?(conv(x, w) * scale + bias +
  // residual * residual_scale), with a bias always. y and the residual are of these types, and the
  // residual lies as it says.
  Type y_type = Type::kInteger, residual_type = Type::kInteger;
  std::int64_t residual_stride = 0;
  bool is_integer() const { return type == Type::kInteger; }
  bool is_merged() const { return statistics || normed || norm_sums; }  // with a batch norm's work
  Type stored_y() const { return is_integer() ? y_type : type; }
  Type stored_residual() const { return is_integer() ? residual_type : type; }
  std::int64_t stored_residual_stride() const {
    const std::int64_t stride = is_integer() ? residual_stride : y_stride;
    return stride > 0 ? stride : out;
  }
  bool has_dense_y() const { return y_stride == 0 || y_stride == out; }
  int out_height() const { return (height + 2 * pad_h - kernel_h) / stride + 1; }
  int out_width() const { return (width + 2 * pad_w - kernel_w) / stride + 1; }
  double flop() const {  // a multiply-add is 2
    return 2.0 * images * out_height() * out_width() * out * channels * kernel_h * kernel_w;
  }
  auto operator<=>(const ConvolutionTask&) const = default;
};
// The batch norm before a convolution: arrays by channel of its input.
struct NormOperands {
  static constexpr int kSums = 5;
  const void* x = nullptr;  // its input, as the convolution's x lies
  const float *mean = nullptr, *inverse_deviation = nullptr, *weight = nullptr, *bias = nullptr;
  // [kSums][channels]: of dx, of dx * (x - mean) * inverse_deviation; the rest is the library's
  // own.
  float* sums = nullptr;
};
// In the device's memory. kForward reads x, w, bias, residual and writes y; kBackwardData reads w,
// y (as dy) and writes x (as dx); kBackwardWeights reads x, y (as dy) and writes gradient (float).
struct ConvolutionOperands {
  void* x = nullptr;
  const void* w = nullptr;  // stored type
  void* y = nullptr;
  const float* bias = nullptr;
  const float* scale = nullptr;           // of integers, by output channel
  const float* residual_scale = nullptr;  // of integers, one number
  const void* narrow_bias = nullptr;      // the same in the stored type, where it is at hand
  const void* residual = nullptr;         // as y; of integers, as the task says
  float* gradient = nullptr;              // of w, same order of elements
  float* sums = nullptr;                  // [2][out]
  const void *x_scale = nullptr, *x_shift = nullptr;  // normed: stored type, by channel of x
  NormOperands norm = {};                             // norm_sums
};

// c = a * b: a is rows x inner, b is inner x columns, all row major after the transposition that is
// stated. a and b are of `type`, c too unless `float_result`.
struct ProductTask {
  Type type = Type::kFloat;
  Arithmetic arithmetic = Arithmetic::kFull;
  std::int64_t rows = 0, columns = 0, inner = 0;
  bool transpose_a = false, transpose_b = false;  // stored as inner x rows, columns x inner
  bool float_result = false;
  // Products of integers of 8 bits are integers of 32: of a transposed b and an a that is not.
  bool is_integer() const { return type == Type::kInteger; }
  std::int64_t result_bytes() const {
    return rows * columns * (float_result || is_integer() ? 4 : width(type));
  }
  double flop() const {
    return 2.0 * static_cast<double>(rows) * static_cast<double>(columns) *
           static_cast<double>(inner);
  }
  auto operator<=>(const ProductTask&) const = default;
};

// An operation of a library, chosen and built once for its shapes.
template <class Operands>
class Prepared {
 public:
  virtual ~Prepared() = default;
  virtual std::int64_t workspace_bytes() const = 0;
  virtual std::string implementation() const = 0;  // the engine's name, for profiles
  virtual std::optional<double> ms() const { return std::nullopt; }  // of a run, where it was timed
  virtual void run(const Operands& operands, void* workspace) = 0;
};
using Convolution = Prepared<ConvolutionOperands>;
struct ProductOperands {
  const void *a = nullptr, *b = nullptr;
  void* c = nullptr;
};
using Product = Prepared<ProductOperands>;

struct NoEngine : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Work that was recorded once and is given to the queue as a whole (a CUDA graph).
class Recording {
 public:
  virtual ~Recording() = default;
  virtual void replay() = 0;
};

// A point in the queue.
class Mark {
 public:
  virtual ~Mark() = default;
  virtual void set() = 0;   // here
  virtual void wait() = 0;  // until the queue has come past the last set()
  virtual double ms_since(const Mark& earlier) const = 0;  // both past; of the same device
};

// Brings batches into the device's memory beside what the queue is at work on: bytes are copied
// once, into memory of the host that the device reads on its own, and travel from there.
class Inlet {
 public:
  virtual ~Inlet() = default;
  struct Piece {
    void* to;  // in the device's memory
    const void* from;
    std::int64_t bytes;
  };
  // Starts bringing one batch and returns when it has been read from `from`; what the queue is
  // given afterwards waits for it. Throws std::invalid_argument for more bytes than the inlet has
  // room for.
  virtual void bring(const std::vector<Piece>& pieces) = 0;
  // What the queue has been given up to here is the last that reads the batch: the next one
  // overwrites it as soon as that has run. Without it the next one waits for all the queue has.
  virtual void release() = 0;
};

// Devices that exchange values among themselves, one a rank. All ranks call the same in the same
// order.
class Collective {
 public:
  virtual ~Collective() = default;
  virtual std::string library() const = 0;  // "nccl 2.28.3"
  // Memory in which means will be made, before the first of them: a library may then let other
  // devices at it. It stays until the collective is gone.
  virtual void offer(float* /*values*/, std::int64_t /*count*/) {}
  // Replaces every value by its mean over the ranks. Begins when what the queue was given before
  // has run, and runs beside what it is given afterwards.
  virtual void mean(float* values, std::int64_t count) = 0;
  virtual void join() = 0;  // the queue goes on when all means have been made
};

struct DeviceFacts {
  std::string name;                              // "NVIDIA H200"
  std::string architecture;                      // "sm_90"
  std::map<std::string, std::string> libraries;  // "cuda", "cudnn", "cublas" -> version
  std::int64_t memory_bytes = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual DeviceFacts facts() const = 0;
  virtual std::int64_t free_bytes() const = 0;

  // Zeroed; freed with the device's last allocation handle. Throws OutOfMemory.
  virtual std::shared_ptr<std::byte> allocate(std::int64_t bytes) = 0;
  // Memory of the host that the device reads and writes without the host's help.
  virtual std::shared_ptr<std::byte> allocate_host(std::int64_t bytes) = 0;

  // All in the queue's order. `from` of upload may be reused when it returns unless it is memory
  // of allocate_host(), which must stay as it is until the copy has run. download returns when it
  // has; fetch, into memory of allocate_host(), at once.
  virtual void upload(void* to, const void* from, std::int64_t bytes) = 0;
  virtual void download(void* to, const void* from, std::int64_t bytes) = 0;
  virtual void fetch(void* to, const void* from, std::int64_t bytes) = 0;
  virtual void clear(void* at, std::int64_t bytes) = 0;
  virtual void wait() = 0;  // until all work has run

  virtual Queue queue() = 0;
  virtual const Kernels& kernels(Type type) const = 0;
  // Throws NoEngine naming the task when none serves it.
  virtual std::unique_ptr<Convolution> prepare(const ConvolutionTask& task) = 0;
  virtual std::unique_ptr<Product> prepare(const ProductTask& task) = 0;
  // Milliseconds of what `make_work()` gives to the queue, timed as engines are and remembered by
  // name; it is not made where the answer is known. Nullopt: there was no memory for it.
  using Work = std::function<void()>;
  virtual std::optional<double> kernel_ms(const std::string& name,
                                          const std::function<Work()>& make_work) = 0;
  // What `work` gives to the queue is kept instead of run; it must not wait, allocate or download.
  virtual std::unique_ptr<Recording> record(const std::function<void()>& work) = 0;
  virtual std::unique_ptr<Mark> make_mark() = 0;
  // For batches of up to so many bytes.
  virtual std::unique_ptr<Inlet> make_inlet(std::int64_t bytes) = 0;

  // Groups of ranks whose devices exchange with each other: one makes a name, all join it.
  virtual bool joins_groups() const = 0;
  virtual std::string new_group() = 0;
  virtual std::unique_ptr<Collective> join_group(const std::string& name, int rank, int size) = 0;
};

// The first GPU that this process may use (CUDA_VISIBLE_DEVICES). Throws std::runtime_error.
std::unique_ptr<Device> open_cuda_device();
// What is missing, "" when there is a GPU that this build serves.
std::string why_no_cuda_device();

}  // namespace rackmark::worker::cuda

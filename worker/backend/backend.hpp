// What a backend does: compile a net for a batch into a plan that trains (and evaluates) it.
//
// A plan owns its memory: parameters, gradients, momentum, running statistics, activations. It is
// used by one thread; it may use its own threads inside. Two plans, of the same or of different
// backends, can live side by side. Errors of a library are exceptions with library, call and code
// in the text.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "worker/backend/ceilings.hpp"
#include "worker/backend/memory_limit.hpp"
#include "worker/net/file_decoder.hpp"
#include "worker/net/net.hpp"
#include "worker/net/pictures.hpp"

namespace rackmark::worker {

// Thrown by Backend::compile before anything large is allocated, and by a failed allocation.
struct OutOfMemory : std::runtime_error {
  OutOfMemory(std::int64_t wanted, const MemoryLimit& limit)
      : std::runtime_error("out of memory: " + std::to_string(wanted) + " bytes wanted, " +
                           std::to_string(limit.free_bytes) + " free (" + limit.set_by + ")"),
        bytes_wanted(wanted),
        bytes_free(limit.free_bytes),
        limited_by(limit.set_by) {}
  std::int64_t bytes_wanted, bytes_free;
  std::string limited_by;  // MemoryLimit::set_by
};

struct Batch {
  std::span<const float> images;  // batch x 3 x size x size, NCHW, alive until the call returns
  std::span<const std::int32_t> labels;  // batch
  // Not 0: batches with this number have this content, so that a device need not be sent it twice.
  std::uint64_t identity = 0;
  RawPictures raw;  // instead of images, where the plan was compiled for them (raw_side)
};

struct SgdStep {  // g += weight_decay * w; v = momentum * v + g (v = g at first); w -=
                  // learning_rate * v
  double learning_rate = 0.01, momentum = 0.9, weight_decay = 1e-4;
};

// Deliberate mistakes, so that tests can show that verification sees them. Empty in every real run.
struct Faults {
  std::string negate_gradient;            // of this parameter, after every backward pass
  bool negate_residual_gradient = false;  // every Add passes -dy to its residual branch
};

// What dropout's masks of a training pass follow from: the seed, the shard of the data set whose
// batch the pass sees, and how many batches of that shard came before. So it makes no difference
// whether the shards of a step are those of several plans or of one that sees them in turn.
struct DropoutMasks {
  std::int64_t seed = 1;
  std::int64_t first_shard = 0, shards = 1;  // that the plan sees
  // Another one for every batch of every shard; `pass` counts the plan's training passes from 0.
  std::int64_t number(std::int64_t pass) const {
    return ((first_shard + pass % shards) << 32) + pass / shards + 1;
  }
};

struct PlanOptions {
  int batch = 1;
  int threads = 0;                 // 0: all of this process's CPUs
  std::string precision = "fp32";  // what the backend lists in precisions()
  std::string fusion;              // "": the backend's best
  bool dropout = true;             // false: every dropout passes all through, as verification needs
  bool training = true;            // false: only evaluate() will be called
  DropoutMasks masks;
  int raw_side = 0;                  // not 0: batches come as RawPictures of this side
  std::optional<double> loss_scale;  // fp16 only; none: the backend finds the largest that fits
  Faults faults;
};

struct PlanFacts {
  std::string backend, isa, fusion;
  std::map<std::string, std::string> libraries;  // "onednn" -> "2.6.3"
  std::int64_t arena_bytes = 0;                  // all device memory that the plan holds
  int threads = 0;
  std::map<std::string, std::string> notes;  // what a reader of a result should know, in words
};

struct OpTime {  // one row of --profile
  // pass: load (of the batch), forward, backward_data, backward_weights, update
  std::string node, pass, implementation;
  double ms = 0, gflop = 0, bytes = 0;
};

class TrainPlan {
 public:
  virtual ~TrainPlan() = default;
  virtual const Net& net() const = 0;
  virtual PlanFacts facts() const = 0;

  // Forward pass in training mode; returns the total loss (mean over the batch). Updates running
  // statistics. Gradients are untouched. Calls needed(parameter index) before the first operation
  // that reads that parameter (from the calling thread), so that an exchange can still be bringing
  // the parameters of later layers.
  using ParameterNeeded = std::function<void(int parameter)>;
  virtual double forward(const Batch& batch, const ParameterNeeded& needed = {}) = 0;

  // Backward pass of the last forward; overwrites all gradients. Calls ready(parameter index) as
  // soon as that gradient is final (any order, each once, from the calling thread), so that an
  // exchange can start.
  using GradientReady = std::function<void(int parameter)>;
  virtual void backward(const GradientReady& ready = {}) = 0;

  // One optimiser step with the current gradients; first call starts momentum.
  virtual void update(const SgdStep& step) = 0;

  // A whole step, alone or with the group that was joined. A device may still be at work on the
  // rest of the step when its loss is returned.
  struct StepOutcome {
    double loss = 0;
    // While the device only waited for the group; of the step before, whose end is known.
    double exposed_communication_ms = 0;
  };
  virtual StepOutcome step(const Batch& batch, const SgdStep& sgd) {
    const double loss = forward(batch);
    backward();
    update(sgd);
    return {.loss = loss};
  }
  virtual void finish() {}  // returns when all steps have ended
  // Steps so far that changed nothing as their gradients overflowed; nothing where gradients have
  // no loss scale. Waits for steps that have not ended.
  virtual std::optional<std::int64_t> skipped_steps() const { return std::nullopt; }

  // Forward in evaluation mode (running statistics, no dropout, no auxiliary heads); fills
  // logits().
  virtual void evaluate(const Batch& batch) = 0;
  virtual std::vector<double> logits()
      const = 0;  // batch x classes of the main head, last pass, row major

  // In torchvision's order of elements (OIHW, (out, in)), whatever the plan's own layout is.
  virtual void write_parameter(int parameter, std::span<const float> values) = 0;
  virtual std::vector<double> read_parameter(int parameter) const = 0;
  virtual std::vector<double> read_gradient(int parameter) const = 0;
  virtual std::vector<double> read_running(int statistic) const = 0;
  virtual void write_running(int statistic, std::span<const float> values) = 0;

  // Exchange works on raw storage in the plan's own layout: one flat block in which gradients lie
  // in the order in which backward() finishes them, so that a bucket is one contiguous range. Ranks
  // may exchange only when their layout_key() is equal. Empty for a plan that cannot exchange
  // (double). A device's plan gives copies on the host, and keeps them up from the first call on:
  // it is made before the first step, by the plan's own thread.
  struct Extent {
    std::int64_t offset = 0, count = 0;  // in floats; count includes the layout's padding
  };
  virtual std::span<float> gradient_block() = 0;
  virtual std::span<float> parameter_block() = 0;  // same extents
  virtual Extent extent(int parameter) const = 0;
  virtual std::string layout_key() const = 0;

  // Ranks whose devices exchange gradients among themselves, where joins_groups(). One rank makes a
  // new group's name, all of them join it; then step() replaces every gradient by its mean over the
  // ranks before the update.
  struct RankGroup {
    std::string name;
    int rank = 0, size = 1;
    std::vector<Extent> buckets;  // of the gradient block, in its order: each is sent as a whole
    bool overlap = true;          // false: nothing is sent before backward has ended
  };
  virtual bool joins_groups() const { return false; }
  virtual std::string new_group() { throw std::logic_error("this plan makes no groups"); }
  // Collective. Returns the library that exchanges, with its version.
  virtual std::string join_group(const RankGroup& group) {
    throw std::logic_error("this plan cannot join group " + group.name);
  }

  // Times of every operation of one training step, in a separate, labelled pass.
  virtual std::vector<OpTime> profile(const Batch& batch) = 0;
};

// What training leaves behind, by index of Net::parameters() and Net::running_statistics(), in
// torchvision's order of elements.
struct TrainedValues {
  std::vector<std::vector<float>> parameters, running;
};

struct InferOptions {
  int batch = 1;
  int threads = 0;                 // 0: all of this process's CPUs
  std::string precision = "fp32";  // what the backend lists in inference_precisions()
  std::string fusion;              // "": the backend's best
  int raw_side = 0;                // as in PlanOptions
  // int8 only, at least one: batches of `batch` pictures (NCHW) from which ranges are taken.
  std::vector<std::vector<float>> calibration;
};

// Gives a batch that is valid until the next call.
using NextBatch = std::function<Batch()>;

// A net that only answers: running statistics, no dropout, no auxiliary heads. Owns its memory;
// used by one thread.
class InferPlan {
 public:
  virtual ~InferPlan() = default;
  virtual const Net& net() const = 0;
  virtual PlanFacts facts() const = 0;
  // Needs no labels. Throws std::invalid_argument for pictures of another size or sort than the
  // plan was compiled for.
  virtual void run(const Batch& batch) = 0;
  // Answers the batch that the call before has brought (the first one: that `next` gives) and,
  // while a device is at it, brings the one that `next` gives. Returns the milliseconds in which
  // the device had nothing to do but to wait for `next`. Without a device of its own: run(next()).
  virtual double run_and_bring(const NextBatch& next) {
    const auto start = std::chrono::steady_clock::now();
    const Batch batch = next();
    const auto waited = std::chrono::steady_clock::now() - start;
    run(batch);
    return std::chrono::duration<double, std::milli>(waited).count();
  }
  virtual std::vector<double> logits() const = 0;  // of the last run: batch x classes, row major
  // Times of every operation of one run, in a separate pass.
  virtual std::vector<OpTime> profile(const Batch& batch) = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string name() const = 0;                     // "reference", "onednn", "cuda"
  virtual std::vector<std::string> precisions() const = 0;  // reference: fp32, bf16, fp64
  virtual std::map<std::string, std::string> libraries() const {
    return {};
  }                                                          // "onednn" -> "2.6.3"
  virtual bool usable(std::string* why_not) const = 0;       // this host has what it needs
  virtual bool takes_raw_pictures() const { return false; }  // raw_side of options may be set
  // What decodes pictures beside the CPU, for any number of threads. Throws std::runtime_error
  // saying what is missing.
  virtual std::shared_ptr<FileDecoder> open_file_decoder() {
    throw std::runtime_error("backend " + name() + " decodes no pictures");
  }
  // Memory of the device that plans lie in, where that is not the host's; null: it is.
  virtual std::optional<MemoryLimit> device_memory() { return std::nullopt; }
  // Throws OutOfMemory when what the plan is predicted to take is not free: in the device's memory
  // where plans lie in one, else in this process's.
  virtual std::unique_ptr<TrainPlan> compile(const Net& net, const PlanOptions& options) = 0;
  // Bytes that compile() would take for the same arguments, planned without taking them; null: this
  // backend cannot say. Throws as compile() for arguments that it refuses.
  virtual std::optional<std::int64_t> predict_bytes(const Net& /*net*/,
                                                    const PlanOptions& /*options*/) {
    return std::nullopt;
  }

  // What this device can do with `threads` threads (0: all of this process's CPUs), measured now.
  // A backend without an answer gives nothing.
  virtual std::vector<Ceiling> ceilings(int /*threads*/) { return {}; }  // some seconds
  // GFLOP/s of the fastest matrix product found in about `seconds`: the peak of MFU. Nothing where
  // plans of this precision compute in another one.
  virtual std::optional<double> matrix_peak(const std::string& /*precision*/, int /*threads*/,
                                            double /*seconds*/) {
    return std::nullopt;
  }
  // Takes batch, threads and precision of `options`. `training` false: forward passes only. Throws
  // OutOfMemory. Null: this backend has none.
  virtual std::unique_ptr<BoundMeter> convolution_bound(const Net& /*net*/,
                                                        const PlanOptions& /*options*/,
                                                        bool /*training*/) {
    return nullptr;
  }

  virtual std::vector<std::string> inference_precisions() const { return {}; }
  // Bytes that the plan of compile_inference() would hold, planned without taking them; options
  // need no calibration. Null: this backend cannot say.
  virtual std::optional<std::int64_t> predict_inference_bytes(const Net& /*net*/,
                                                              const InferOptions& /*options*/,
                                                              const TrainedValues& /*values*/) {
    return std::nullopt;
  }
  // `values` is only read during the call. Throws as compile(), and std::invalid_argument for a
  // precision that this backend or this host does not have.
  virtual std::unique_ptr<InferPlan> compile_inference(const Net& /*net*/,
                                                       const InferOptions& /*options*/,
                                                       const TrainedValues& /*values*/) {
    throw std::invalid_argument("backend " + name() + " has no inference");
  }
};

// Backends are plug-ins (librackmark-backend-<name>.so beside the worker) with one entry point:
//   extern "C" rackmark::worker::Backend* rackmark_make_backend();   // caller owns it
// "reference" is linked in.
std::vector<std::string> backend_names();  // those whose plug-in is present, best first
std::unique_ptr<Backend> load_backend(const std::string& name);  // throws naming what is missing
std::unique_ptr<Backend> best_backend();                         // first usable one
// What a spec's resources.device asks for: "gpu" is cuda and nothing else, "cpu" the first usable
// one of the others. Throws std::runtime_error saying why there is none.
std::unique_ptr<Backend> backend_for(const std::string& device);

}  // namespace rackmark::worker

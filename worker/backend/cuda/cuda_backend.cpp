#include "worker/backend/cuda/cuda_backend.hpp"

#include <algorithm>
#include <utility>

#include "worker/backend/cuda/device/ceilings.hpp"
#include "worker/backend/cuda/plan/convolution_bound.hpp"
#include "worker/backend/cuda/plan/inference_plan.hpp"
#include "worker/backend/cuda/plan/train_plan.hpp"

namespace rackmark::worker {
namespace cuda {
namespace {

// What drivers and libraries take after memory was counted: kernels when they are used for the
// first time, recordings, NCCL's buffers.
std::int64_t reserve_of(std::int64_t free_bytes) {
  return std::min(std::int64_t{1} << 30, free_bytes / 8);
}

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(DeviceSource source) : source_(std::move(source)) {}
  std::string name() const override { return "cuda"; }
  std::vector<std::string> precisions() const override { return precision_names(); }
  std::map<std::string, std::string> libraries() const override {
    return device_ ? device_->facts().libraries : std::map<std::string, std::string>{};
  }
  bool usable(std::string* why_not) const override {
    const std::string why = source_.why_none();
    if (why_not != nullptr) *why_not = why;
    return why.empty();
  }
  bool takes_raw_pictures() const override { return true; }
  std::shared_ptr<FileDecoder> open_file_decoder() override { return source_.open_file_decoder(); }
  std::optional<MemoryLimit> device_memory() override {
    const std::int64_t free = device()->free_bytes();
    return MemoryLimit{.free_bytes = free - reserve_of(free),
                       .set_by = std::string(kGpuMemory) + ", " +
                                 std::to_string(reserve_of(free) >> 20) +
                                 " MiB kept for kernels and graphs"};
  }
  std::vector<Ceiling> ceilings(int /*threads*/) override {
    constexpr double kSecondsEach = 0.5;
    std::vector<Ceiling> all;
    for (const std::string& name : inference_precision_names()) {
      all.push_back(products(name, kSecondsEach));
    }
    constexpr std::int64_t kCopied = std::int64_t{1} << 30;
    Ceiling memory{.kind = "memory", .what = "copy of 1 GiB", .unit = "GB/s"};
    put(copy_rate(*device(), kCopied, kSecondsEach), memory);
    memory.implementation = "copy";
    all.push_back(std::move(memory));
    return all;
  }
  std::unique_ptr<BoundMeter> convolution_bound(const Net& net, const PlanOptions& options,
                                                bool training) override {
    const Precision precision = parse_inference_precision(options.precision);
    if (precision.integers) return nullptr;  // their engines exist with a whole epilogue alone
    return make_convolution_bound(device(), net, options.batch, precision, training);
  }
  std::optional<double> matrix_peak(const std::string& precision, int /*threads*/,
                                    double seconds) override {
    try {
      return products(precision, seconds).best;
    } catch (const OutOfMemory&) {  // others have the memory: no peak, and no reason to fail
      return std::nullopt;
    }
  }
  std::unique_ptr<TrainPlan> compile(const Net& net, const PlanOptions& options) override {
    return std::make_unique<Plan>(device(), net, options);
  }
  std::optional<std::int64_t> predict_bytes(const Net& net, const PlanOptions& options) override {
    return Plan::predict_bytes(net, options);
  }
  std::vector<std::string> inference_precisions() const override {
    return inference_precision_names();
  }
  std::optional<std::int64_t> predict_inference_bytes(const Net& net, const InferOptions& options,
                                                      const TrainedValues& values) override {
    return InferencePlan::predict_bytes(net, options, values);
  }
  std::unique_ptr<InferPlan> compile_inference(const Net& net, const InferOptions& options,
                                               const TrainedValues& values) override {
    return std::make_unique<InferencePlan>(device(), net, options, values);
  }

 private:
  Ceiling products(const std::string& name, double seconds) {
    const Precision precision = parse_inference_precision(name);
    Ceiling ceiling{
        .kind = "matrix", .precision = name, .unit = precision.integers ? "GOP/s" : "GFLOP/s"};
    try {
      const ProductRate rate =
          fastest_product(*device(), precision.integers ? Type::kInteger : precision.type,
                          precision.arithmetic, seconds);
      ceiling.what = rate.what;
      put(rate.gflops, ceiling);
      ceiling.implementation = rate.implementation;
    } catch (const OutOfMemory&) {
      throw;
    } catch (const std::runtime_error& error) {
      // Runs multiply no matrices of integers: what cannot measure a peak of them fails no run.
      if (!precision.integers) throw;
      ceiling.why_not = error.what();
    }
    return ceiling;
  }
  static void put(const Rates& rates, Ceiling& ceiling) {
    ceiling.best = rates.best;
    ceiling.median = rates.median;
    ceiling.spread = (rates.best - rates.worst) / rates.median;
    ceiling.runs = rates.runs;
  }
  std::shared_ptr<Device> device() {
    if (!device_) device_ = source_.open();
    return device_;
  }

  DeviceSource source_;
  std::shared_ptr<Device> device_;
};

}  // namespace
}  // namespace cuda

std::unique_ptr<Backend> make_cuda_backend(DeviceSource source) {
  return std::make_unique<cuda::CudaBackend>(std::move(source));
}

}  // namespace rackmark::worker

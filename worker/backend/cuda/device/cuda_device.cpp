// Device on CUDA: memory, one stream, cuDNN and cuBLASLt on it.
#include <cstdlib>
#include <map>

#include "worker/backend/cuda/device/cublas_product.hpp"
#include "worker/backend/cuda/device/cuda_inlet.hpp"
#include "worker/backend/cuda/device/cuda_memory.hpp"
#include "worker/backend/cuda/device/cuda_queue.hpp"
#include "worker/backend/cuda/device/cudnn_convolution.hpp"
#include "worker/backend/cuda/device/device.hpp"
#include "worker/backend/cuda/device/errors.hpp"
#include "worker/backend/cuda/device/nccl_group.hpp"

namespace rackmark::worker::cuda {
namespace {

constexpr int kDevice = 0;  // of those that CUDA_VISIBLE_DEVICES leaves

class CudnnHandle {
 public:
  explicit CudnnHandle(cudaStream_t stream) {
    RM_CUDNN(cudnnCreate(&raw_));
    RM_CUDNN(cudnnSetStream(raw_, stream));
  }
  CudnnHandle(const CudnnHandle&) = delete;
  CudnnHandle& operator=(const CudnnHandle&) = delete;
  ~CudnnHandle() { cudnnDestroy(raw_); }
  cudnnHandle_t raw() const { return raw_; }

 private:
  cudnnHandle_t raw_ = nullptr;
};

class CublasHandle {
 public:
  CublasHandle() { RM_CUBLAS(cublasLtCreate(&raw_)); }
  CublasHandle(const CublasHandle&) = delete;
  CublasHandle& operator=(const CublasHandle&) = delete;
  ~CublasHandle() { cublasLtDestroy(raw_); }
  cublasLtHandle_t raw() const { return raw_; }

 private:
  cublasLtHandle_t raw_ = nullptr;
};

cudaDeviceProp device_properties() {
  cudaDeviceProp properties{};
  RM_CUDA(cudaGetDeviceProperties(&properties, kDevice));
  return properties;
}

std::string driver_version() {
  int version = 0;
  RM_CUDA(cudaDriverGetVersion(&version));
  return cuda_version_text(version);
}
std::string runtime_version() {
  int version = 0;
  RM_CUDA(cudaRuntimeGetVersion(&version));
  return cuda_version_text(version);
}

DeviceFacts gather_facts() {
  const auto properties = device_properties();
  return {
      .name = properties.name,
      .architecture = "sm_" + std::to_string(properties.major) + std::to_string(properties.minor),
      .libraries = {{"cuda", runtime_version()},
                    {"cuda driver", driver_version()},
                    {"cudnn", library_version_text(cudnnGetVersion())},
                    {"cublas", library_version_text(cublasLtGetVersion())}},
      .memory_bytes = static_cast<std::int64_t>(properties.totalGlobalMem)};
}

// What timings hold for. Raised with every change of how engines are struck, timed or chosen, and
// of own kernels that are timed beside them (plan/norm_times).
constexpr int kRules = 4;
std::string cache_name(const DeviceFacts& facts) {
  return facts.name + " " + facts.architecture + " cudnn " + facts.libraries.at("cudnn") +
         " cublas " + facts.libraries.at("cublas") + " rules " + std::to_string(kRules);
}

// The kernels are built for this compute capability (10 major + minor) and, as PTX, for newer ones.
std::string too_old(const cudaDeviceProp& properties) {
  const int capability = properties.major * 10 + properties.minor;
  if (capability >= RACKMARK_CUDA_LEAST_ARCHITECTURE) return "";
  return std::string(properties.name) + " is sm_" + std::to_string(capability) +
         "; this build serves sm_" + std::to_string(RACKMARK_CUDA_LEAST_ARCHITECTURE) +
         " and newer";
}

class CudaDevice final : public Device {
 public:
  CudaDevice()
      : facts_(gather_facts()),
        cudnn_(queue_.stream()),
        cache_(plan_cache_folder(), cache_name(facts_)),
        setting_{.handle = cudnn_.raw(), .queue = queue_.stream(), .kernels = device_kernels},
        target_(EngineTarget::live(cudnn_.raw())),
        planner_(target_, cache_, convolution_clock(setting_, queue_)) {}
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  DeviceFacts facts() const override { return facts_; }
  std::int64_t free_bytes() const override {
    std::size_t free = 0, total = 0;
    RM_CUDA(cudaMemGetInfo(&free, &total));
    return static_cast<std::int64_t>(free);
  }

  std::shared_ptr<std::byte> allocate(std::int64_t bytes) override {
    auto memory = device_memory(bytes);
    clear(memory.get(), bytes);
    return memory;
  }
  std::shared_ptr<std::byte> allocate_host(std::int64_t bytes) override {
    return pinned_memory(bytes);
  }

  void upload(void* to, const void* from, std::int64_t bytes) override {
    copy(to, from, bytes, cudaMemcpyHostToDevice);
  }
  void download(void* to, const void* from, std::int64_t bytes) override {
    copy(to, from, bytes, cudaMemcpyDeviceToHost);
    wait();
  }
  void fetch(void* to, const void* from, std::int64_t bytes) override {
    copy(to, from, bytes, cudaMemcpyDeviceToHost);
  }
  void clear(void* at, std::int64_t bytes) override {
    RM_CUDA(cudaMemsetAsync(at, 0, static_cast<std::size_t>(bytes), queue_.stream()));
  }
  void wait() override { queue_.wait(); }

  Queue queue() override { return queue_.stream(); }
  const Kernels& kernels(Type type) const override { return device_kernels(type); }

  std::unique_ptr<Convolution> prepare(const ConvolutionTask& task) override {
    return make_convolution(setting_, task, planner_.choose(task));
  }
  std::unique_ptr<Product> prepare(const ProductTask& task) override {
    return make_product(cublas_.raw(), queue_, cache_, task);
  }
  std::optional<double> kernel_ms(const std::string& name,
                                  const std::function<Work()>& make_work) override {
    if (const auto known = cache_.find(name)) return known->ms;
    const auto ms = trial_times(queue_, name, {name}, [&](std::size_t) { return make_work(); })[0];
    if (ms) cache_.put(name, {.form = "kernel", .ms = *ms});
    return ms;
  }
  // Plans record when they are first run: preparing is over then.
  std::unique_ptr<Recording> record(const std::function<void()>& work) override {
    cache_.save();
    return queue_.record(work);
  }
  std::unique_ptr<Mark> make_mark() override { return queue_.make_mark(); }
  std::unique_ptr<Inlet> make_inlet(std::int64_t bytes) override {
    return std::make_unique<CudaInlet>(bytes, queue_.stream());
  }

  bool joins_groups() const override { return has_nccl(); }
  std::string new_group() override { return new_nccl_group(); }
  std::unique_ptr<Collective> join_group(const std::string& name, int rank, int size) override {
    return join_nccl_group(name, rank, size, queue_.stream());
  }

 private:
  void copy(void* to, const void* from, std::int64_t bytes, cudaMemcpyKind kind) {
    RM_CUDA(cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), kind, queue_.stream()));
  }

  DeviceFacts facts_;
  CudaQueue queue_;
  CudnnHandle cudnn_;
  CublasHandle cublas_;
  PlanCache cache_;
  ConvolutionSetting setting_;
  EngineTarget target_;
  ConvolutionPlanner planner_;
};

}  // namespace

std::string why_no_cuda_device() {
  try {
    int count = 0;
    RM_CUDA(cudaGetDeviceCount(&count));
    if (count == 0) return "CUDA: no device (CUDA_VISIBLE_DEVICES?)";
    return too_old(device_properties());
  } catch (const std::runtime_error& error) {
    return error.what();
  }
}

std::unique_ptr<Device> open_cuda_device() {
  if (const std::string why_not = why_no_cuda_device(); !why_not.empty()) {
    throw std::runtime_error(why_not);
  }
  RM_CUDA(cudaSetDevice(kDevice));
  return std::make_unique<CudaDevice>();
}

}  // namespace rackmark::worker::cuda

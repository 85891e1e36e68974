#include "worker/backend/cuda/device/nvjpeg_decoder.hpp"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <array>
#include <mutex>
#include <stdexcept>
#include <utility>
#include <vector>

#include "worker/backend/cuda/device/cuda_memory.hpp"
#include "worker/backend/cuda/device/errors.hpp"

namespace rackmark::worker::cuda {
namespace {

constexpr std::int64_t kMostPixels = 16'000'000;
constexpr int kFirstGpu = 0;  // of those that CUDA_VISIBLE_DEVICES leaves

// Of nvjpeg.h, as of nvJPEG 11 to 13: what is used here
// (https://docs.nvidia.com/cuda/nvjpeg/index.html).
constexpr int kSuccess = 0, kExecutionFailed = 6;
constexpr int kInterleavedRgb = 5;
constexpr std::size_t kComponents = 4;
using Handle = void*;
using State = void*;
struct Image {
  std::array<unsigned char*, kComponents> channel{};
  std::array<std::size_t, kComponents> pitch{};
};

class Library {
 public:
  Library() {
    std::string tried;
    for (const char* name : {"libnvjpeg.so.13", "libnvjpeg.so.12", "libnvjpeg.so.11"}) {
      library_ = dlopen(name, RTLD_NOW | RTLD_LOCAL);
      if (library_ != nullptr) break;
      tried += (tried.empty() ? "" : ", ") + std::string(name);
    }
    if (library_ == nullptr) throw std::runtime_error("no nvJPEG here; looked for " + tried);
    find("nvjpegGetProperty", get_property);
    find("nvjpegCreateSimple", create);
    find("nvjpegDestroy", destroy);
    find("nvjpegJpegStateCreate", create_state);
    find("nvjpegJpegStateDestroy", destroy_state);
    find("nvjpegGetImageInfo", get_image_info);
    find("nvjpegDecode", decode);
  }
  std::string version() const {
    std::string text;
    for (const int part : {0, 1, 2}) {  // major, minor, patch
      int value = 0;
      get_property(part, &value);
      text += (text.empty() ? "" : ".") + std::to_string(value);
    }
    return text;
  }

  int (*get_property)(int property, int* value) = nullptr;
  int (*create)(Handle* handle) = nullptr;
  int (*destroy)(Handle handle) = nullptr;
  int (*create_state)(Handle handle, State* state) = nullptr;
  int (*destroy_state)(State state) = nullptr;
  int (*get_image_info)(Handle handle, const unsigned char* data, std::size_t bytes,
                        int* components, int* subsampling, int* widths, int* heights) = nullptr;
  int (*decode)(Handle handle, State state, const unsigned char* data, std::size_t bytes,
                int output_format, Image* image, cudaStream_t stream) = nullptr;

 private:
  template <class Function>
  void find(const char* name, Function& function) {
    void* found = dlsym(library_, name);
    if (found == nullptr) throw std::runtime_error(std::string("nvJPEG has no ") + name);
    function = reinterpret_cast<Function>(found);
  }
  void* library_ = nullptr;  // stays loaded, as its threads may
};

void check(int code, const char* call) {
  if (code == kSuccess) return;
  throw std::runtime_error("nvJPEG: " + std::string(call) + ": " + std::to_string(code));
}

// What one thread decodes with.
class Lane {
 public:
  Lane(const Library& library, Handle handle) : library_(library), handle_(handle) {
    RM_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    // Threads that wait sleep: others decode meanwhile.
    RM_CUDA(cudaEventCreateWithFlags(&done_, cudaEventBlockingSync | cudaEventDisableTiming));
    check(library_.create_state(handle_, &state_), "nvjpegJpegStateCreate");
  }
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;
  ~Lane() {
    if (state_ != nullptr) library_.destroy_state(state_);
    if (done_ != nullptr) cudaEventDestroy(done_);
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }

  bool decode(std::span<const std::uint8_t> file, const FileDecoder::Use& use) {
    int components = 0, subsampling = 0;
    std::array<int, kComponents> widths{}, heights{};
    if (library_.get_image_info(handle_, file.data(), file.size(), &components, &subsampling,
                                widths.data(), heights.data()) != kSuccess) {
      return false;
    }
    const std::int64_t width = widths[0], height = heights[0];
    const bool has_colours = components == 1 || components == 3;
    if (!has_colours || width < 1 || height < 1 || width * height > kMostPixels) return false;
    const std::int64_t bytes = 3 * width * height;
    grow(bytes);
    Image image;
    image.channel[0] = reinterpret_cast<unsigned char*>(device_.get());
    image.pitch[0] = static_cast<std::size_t>(3 * width);
    const int code = library_.decode(handle_, state_, file.data(), file.size(), kInterleavedRgb,
                                     &image, stream_);
    if (code != kSuccess) {
      start_anew(code);
      return false;
    }
    RM_CUDA(cudaMemcpyAsync(host_.get(), device_.get(), static_cast<std::size_t>(bytes),
                            cudaMemcpyDeviceToHost, stream_));
    wait();
    use({width,
         height,
         {reinterpret_cast<const std::uint8_t*>(host_.get()), static_cast<std::size_t>(bytes)}});
    return true;
  }

 private:
  void grow(std::int64_t bytes) {
    if (bytes <= bytes_) return;
    bytes_ = 0;
    device_ = nullptr;
    host_ = nullptr;
    device_ = device_memory(bytes);
    host_ = pinned_memory(bytes);
    bytes_ = bytes;
  }
  void wait() {
    RM_CUDA(cudaEventRecord(done_, stream_));
    RM_CUDA(cudaEventSynchronize(done_));
  }
  // After a picture that it could not decode nothing is said of the state. A device that is broken
  // fails the wait.
  void start_anew(int code) {
    wait();
    library_.destroy_state(std::exchange(state_, nullptr));
    check(library_.create_state(handle_, &state_), "nvjpegJpegStateCreate");
    if (code == kExecutionFailed) RM_CUDA(cudaGetLastError());
  }

  const Library& library_;
  Handle handle_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t done_ = nullptr;
  State state_ = nullptr;
  std::int64_t bytes_ = 0;
  std::shared_ptr<std::byte> device_, host_;
};

class NvjpegDecoder final : public FileDecoder {
 public:
  NvjpegDecoder() {
    RM_CUDA(cudaSetDevice(kFirstGpu));
    check(library_.create(&handle_), "nvjpegCreateSimple");
  }
  NvjpegDecoder(const NvjpegDecoder&) = delete;
  NvjpegDecoder& operator=(const NvjpegDecoder&) = delete;
  ~NvjpegDecoder() override {
    lanes_.clear();
    library_.destroy(handle_);
  }
  std::string name() const override { return "nvJPEG " + library_.version(); }

  bool decode(std::span<const std::uint8_t> file, const Use& use) override {
    RM_CUDA(cudaSetDevice(kFirstGpu));  // of this thread
    auto lane = take();
    const bool decoded = lane->decode(file, use);
    const std::lock_guard lock(mutex_);
    lanes_.push_back(std::move(lane));  // one that threw is not used again
    return decoded;
  }

 private:
  std::unique_ptr<Lane> take() {
    {
      const std::lock_guard lock(mutex_);
      if (!lanes_.empty()) {
        auto lane = std::move(lanes_.back());
        lanes_.pop_back();
        return lane;
      }
    }
    return std::make_unique<Lane>(library_, handle_);
  }

  Library library_;
  Handle handle_ = nullptr;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Lane>> lanes_;  // that no thread uses
};

}  // namespace

std::shared_ptr<FileDecoder> open_nvjpeg() { return std::make_shared<NvjpegDecoder>(); }

}  // namespace rackmark::worker::cuda

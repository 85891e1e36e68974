#include "worker/backend/cuda/device/nvjpeg_decoder.hpp"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <stdexcept>
#include <utility>
#include <vector>

#include "worker/backend/backend.hpp"
#include "worker/backend/cuda/device/cuda_handles.hpp"
#include "worker/backend/cuda/device/cuda_memory.hpp"
#include "worker/backend/cuda/device/errors.hpp"

namespace rackmark::worker::cuda {
namespace {

constexpr std::int64_t kMostPixels = 16'000'000;
constexpr int kFirstGpu = 0;  // of those that CUDA_VISIBLE_DEVICES leaves

// Of nvjpeg.h, as of nvJPEG 12 and 13: what is used here
// (https://docs.nvidia.com/cuda/nvjpeg/index.html).
constexpr int kSuccess = 0;
constexpr std::array kRefusals{3, 4, 9, 10};  // bad, not supported (also so built), incomplete
constexpr int kInterleavedRgb = 5;
constexpr int kDefaultBackend = 0;
constexpr unsigned kStrict = 4;         // what breaks the specification is an error, not a guess
constexpr unsigned kInterpolated = 32;  // colours are upsampled as libjpeg does; since 12.1
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
    for (const char* name : {"libnvjpeg.so.13", "libnvjpeg.so.12"}) {
      library_ = dlopen(name, RTLD_NOW | RTLD_LOCAL);
      if (library_ != nullptr) break;
      tried += (tried.empty() ? "" : ", ") + std::string(name);
    }
    if (library_ == nullptr) throw std::runtime_error("no nvJPEG here; looked for " + tried);
    find("nvjpegGetProperty", get_property);
    find("nvjpegCreateEx", create);
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
  int (*create)(int backend, void* device_allocator, void* pinned_allocator, unsigned flags,
                Handle* handle) = nullptr;
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

// Threads that wait for it sleep: others decode meanwhile.
Event make_sleeping_event() {
  cudaEvent_t event = nullptr;
  RM_CUDA(cudaEventCreateWithFlags(&event, cudaEventBlockingSync | cudaEventDisableTiming));
  return Event(event);
}

// What one thread decodes with.
class Lane {
 public:
  Lane(const Library& library, Handle handle)
      : library_(library), handle_(handle), stream_(make_stream()), done_(make_sleeping_event()) {
    check(library_.create_state(handle_, &state_), "nvjpegJpegStateCreate");
  }
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;
  ~Lane() {
    if (state_ != nullptr) library_.destroy_state(state_);
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
    if (!has_room(bytes)) return false;
    Image image;
    image.channel[0] = reinterpret_cast<unsigned char*>(device_.get());
    image.pitch[0] = static_cast<std::size_t>(3 * width);
    const int code = library_.decode(handle_, state_, file.data(), file.size(), kInterleavedRgb,
                                     &image, stream_.get());
    if (code != kSuccess) {
      if (std::find(kRefusals.begin(), kRefusals.end(), code) == kRefusals.end()) start_anew();
      return false;
    }
    RM_CUDA(cudaMemcpyAsync(host_.get(), device_.get(), static_cast<std::size_t>(bytes),
                            cudaMemcpyDeviceToHost, stream_.get()));
    wait();
    use({width,
         height,
         {reinterpret_cast<const std::uint8_t*>(host_.get()), static_cast<std::size_t>(bytes)}});
    return true;
  }

 private:
  // Where a plan has taken the memory the CPU decodes.
  bool has_room(std::int64_t bytes) try {
    if (bytes <= bytes_) return true;
    bytes_ = 0;
    device_ = nullptr;
    host_ = nullptr;
    device_ = device_memory(bytes);
    host_ = pinned_memory(bytes);
    bytes_ = bytes;
    return true;
  } catch (const OutOfMemory&) {
    return false;
  }
  void wait() {
    RM_CUDA(cudaEventRecord(done_.get(), stream_.get()));
    RM_CUDA(cudaEventSynchronize(done_.get()));
  }
  // After a failure on the device nothing is said of the state. A device that is broken fails the
  // wait.
  void start_anew() {
    wait();
    library_.destroy_state(std::exchange(state_, nullptr));
    check(library_.create_state(handle_, &state_), "nvjpegJpegStateCreate");
  }

  const Library& library_;
  Handle handle_;
  Stream stream_;
  Event done_;
  State state_ = nullptr;
  std::int64_t bytes_ = 0;
  std::shared_ptr<std::byte> device_, host_;
};

class NvjpegDecoder final : public FileDecoder {
 public:
  NvjpegDecoder() {
    RM_CUDA(cudaSetDevice(kFirstGpu));
    check(library_.create(kDefaultBackend, nullptr, nullptr, kStrict | kInterpolated, &handle_),
          "nvjpegCreateEx");
  }
  NvjpegDecoder(const NvjpegDecoder&) = delete;
  NvjpegDecoder& operator=(const NvjpegDecoder&) = delete;
  ~NvjpegDecoder() override {
    lanes_.clear();
    library_.destroy(handle_);
  }
  std::string library() const override { return "nvjpeg"; }
  std::string version() const override { return library_.version(); }

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

#include "worker/backend/cuda/device/nccl_group.hpp"

#include <dlfcn.h>
#include <nccl.h>

#include <cstdio>
#include <cstring>

#include "worker/backend/cuda/device/cuda_handles.hpp"

namespace rackmark::worker::cuda {
namespace {

// The functions that are used, from the library of this host.
struct Nccl {
  decltype(&ncclGetVersion) get_version = nullptr;
  decltype(&ncclGetUniqueId) get_unique_id = nullptr;
  decltype(&ncclCommInitRank) init_rank = nullptr;
  decltype(&ncclAllReduce) all_reduce = nullptr;
  decltype(&ncclCommGetAsyncError) get_async_error = nullptr;
  decltype(&ncclCommAbort) abort = nullptr;
  decltype(&ncclGetErrorString) get_error_string = nullptr;
  decltype(&ncclCommRegister) register_buffer = nullptr;  // 2.19 and newer
};

template <class Function>
bool find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

// Null where there is none, or one that lacks a function. Never closed.
const Nccl* nccl() {
  static const Nccl* const loaded = []() -> const Nccl* {
    void* library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return nullptr;
    static Nccl functions;
    const bool whole = find(library, "ncclGetVersion", functions.get_version) &&
                       find(library, "ncclGetUniqueId", functions.get_unique_id) &&
                       find(library, "ncclCommInitRank", functions.init_rank) &&
                       find(library, "ncclAllReduce", functions.all_reduce) &&
                       find(library, "ncclCommGetAsyncError", functions.get_async_error) &&
                       find(library, "ncclCommAbort", functions.abort) &&
                       find(library, "ncclGetErrorString", functions.get_error_string);
    find(library, "ncclCommRegister", functions.register_buffer);
    return whole ? &functions : nullptr;
  }();
  return loaded;
}

void check(ncclResult_t code, const char* call) {
  if (code == ncclSuccess) return;
  throw std::runtime_error(std::string("NCCL: ") + call + ": " + nccl()->get_error_string(code) +
                           " (" + std::to_string(code) + ")");
}

std::string version_text() {
  int version = 0;
  check(nccl()->get_version(&version), "ncclGetVersion");
  return "nccl " + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) +
         "." + std::to_string(version % 100);
}

std::string to_hex(const ncclUniqueId& id) {
  std::string text;
  for (const char c : id.internal) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(c));
    text += digits;
  }
  return text;
}

ncclUniqueId from_hex(const std::string& text) {
  ncclUniqueId id;
  if (text.size() != 2 * sizeof id.internal ||
      text.find_first_not_of("0123456789abcdef") != std::string::npos) {
    throw std::runtime_error("NCCL: the name of a group has " +
                             std::to_string(2 * sizeof id.internal) + " hex digits, not '" + text +
                             "'");
  }
  for (std::size_t i = 0; i < sizeof id.internal; ++i) {
    id.internal[i] = static_cast<char>(std::stoi(text.substr(2 * i, 2), nullptr, 16));
  }
  return id;
}

int greatest_priority() {
  int least = 0, greatest = 0;
  RM_CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));
  return greatest;
}

// Means run on a stream of their own, of high priority: small work that the rest waits for.
class NcclCollective final : public Collective {
 public:
  NcclCollective(const std::string& name, int rank, int size, cudaStream_t queue)
      : queue_(queue), stream_(make_stream(greatest_priority())), reached_(make_event()) {
    check(nccl()->init_rank(&group_, size, from_hex(name), rank), "ncclCommInitRank");
  }
  NcclCollective(const NcclCollective&) = delete;
  NcclCollective& operator=(const NcclCollective&) = delete;
  // Not an orderly end, which would wait for ranks that may be gone.
  ~NcclCollective() override {
    if (group_ != nullptr) nccl()->abort(group_);
  }

  std::string library() const override {
    return version_text() + (registered_ ? ", buffer offered" : "");
  }

  // Whether a transport makes use of it NCCL does not say; what it cannot use it leaves as it is.
  void offer(float* values, std::int64_t count) override {
    if (nccl()->register_buffer == nullptr) return;
    void* handle = nullptr;  // given back with the group
    registered_ = nccl()->register_buffer(group_, values, 4 * static_cast<std::size_t>(count),
                                          &handle) == ncclSuccess;
  }

  void mean(float* values, std::int64_t count) override {
    follow(stream_.get(), queue_);
    check(nccl()->all_reduce(values, values, static_cast<std::size_t>(count), ncclFloat, ncclAvg,
                             group_, stream_.get()),
          "ncclAllReduce");
  }

  void join() override {
    ncclResult_t state = ncclSuccess;
    check(nccl()->get_async_error(group_, &state), "ncclCommGetAsyncError");
    check(state, "an exchange before this one");
    follow(queue_, stream_.get());
  }

 private:
  // What `later` is given from now on waits for what `earlier` has been given.
  void follow(cudaStream_t later, cudaStream_t earlier) {
    RM_CUDA(cudaEventRecord(reached_.get(), earlier));
    RM_CUDA(cudaStreamWaitEvent(later, reached_.get(), 0));
  }

  cudaStream_t queue_;
  Stream stream_;
  Event reached_;
  ncclComm_t group_ = nullptr;
  bool registered_ = false;
};

}  // namespace

bool has_nccl() { return nccl() != nullptr; }

std::string new_nccl_group() {
  ncclUniqueId id;
  check(nccl()->get_unique_id(&id), "ncclGetUniqueId");
  return to_hex(id);
}

std::unique_ptr<Collective> join_nccl_group(const std::string& name, int rank, int size,
                                            cudaStream_t queue) {
  if (nccl() == nullptr) throw std::runtime_error("NCCL: libnccl.so.2 cannot be loaded");
  return std::make_unique<NcclCollective>(name, rank, size, queue);
}

}  // namespace rackmark::worker::cuda

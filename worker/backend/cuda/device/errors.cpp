#include "worker/backend/cuda/device/errors.hpp"

#include <array>

namespace rackmark::worker::cuda {
namespace {

// The call without its arguments.
std::string call_name(const std::string& call) { return call.substr(0, call.find('(')); }

std::string failure_text(const char* library, const std::string& call, int code,
                         const std::string& meaning) {
  return std::string(library) + ": " + call_name(call) + ": " + std::to_string(code) + " (" +
         meaning + ")";
}

// What cuDNN kept of its last refusal; it clears it when it is read.
std::string last_cudnn_text() {
  std::array<char, 2048> text{};
  cudnnGetLastErrorString(text.data(), text.size());
  std::string line(text.data());
  for (char& c : line) {
    if (c == '\n') c = ' ';
  }
  return line;
}

}  // namespace

void check_cuda(cudaError_t code, const char* call) {
  if (code == cudaSuccess) return;
  cudaGetLastError();  // a code that is not sticky must not fail the next call
  throw std::runtime_error(failure_text("CUDA", call, code, cudaGetErrorString(code)));
}

void check_cublas(cublasStatus_t code, const char* call) {
  if (code == CUBLAS_STATUS_SUCCESS) return;
  throw std::runtime_error(failure_text("cuBLASLt", call, code, cublasLtGetStatusName(code)));
}

void check_cudnn(cudnnStatus_t code, const std::string& call) {
  if (code == CUDNN_STATUS_SUCCESS) return;
  std::string text = failure_text("cuDNN", call, code, cudnnGetErrorString(code));
  if (const std::string why = last_cudnn_text(); !why.empty()) text += ": " + why;
  const int category = static_cast<int>(code) / 1000;
  if (category == static_cast<int>(CUDNN_STATUS_NOT_SUPPORTED) / 1000) throw Unsupported(text);
  throw std::runtime_error(text);
}

std::string cuda_version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string library_version_text(std::size_t version) {
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

}  // namespace rackmark::worker::cuda

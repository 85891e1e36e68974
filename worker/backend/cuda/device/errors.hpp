// Codes of CUDA's libraries as exceptions with library, call and code in the text: one checker a
// library. A call is named where it is made, by the text of the expression.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

#include <stdexcept>
#include <string>

namespace rackmark::worker::cuda {

// What cuDNN does not serve, as opposed to what went wrong.
struct Unsupported : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void check_cuda(cudaError_t code, const char* call);
void check_cublas(cublasStatus_t code, const char* call);
// Throws Unsupported for every code of that kind. Both carry cuDNN's own explanation.
void check_cudnn(cudnnStatus_t code, const std::string& call);

std::string cuda_version_text(int version);             // "13.0" of 13000
std::string library_version_text(std::size_t version);  // cuDNN, cuBLAS: "9.19.0" of 91900

}  // namespace rackmark::worker::cuda

#define RM_CUDA(call) ::rackmark::worker::cuda::check_cuda((call), #call)
#define RM_CUBLAS(call) ::rackmark::worker::cuda::check_cublas((call), #call)
#define RM_CUDNN(call) ::rackmark::worker::cuda::check_cudnn((call), #call)

#include "worker/backend/cuda/device/cuda_queue.hpp"

#include "worker/backend/cuda/device/errors.hpp"

namespace rackmark::worker::cuda {
namespace {

class CudaRecording final : public Recording {
 public:
  CudaRecording(cudaGraph_t graph, cudaStream_t stream) : stream_(stream) {
    RM_CUDA(cudaGraphInstantiate(&runnable_, graph, 0));
  }
  CudaRecording(const CudaRecording&) = delete;
  CudaRecording& operator=(const CudaRecording&) = delete;
  ~CudaRecording() override { cudaGraphExecDestroy(runnable_); }
  void replay() override { RM_CUDA(cudaGraphLaunch(runnable_, stream_)); }

 private:
  cudaGraphExec_t runnable_ = nullptr;
  cudaStream_t stream_;
};

class CudaMark final : public Mark {
 public:
  explicit CudaMark(cudaStream_t stream) : stream_(stream) { RM_CUDA(cudaEventCreate(&event_)); }
  CudaMark(const CudaMark&) = delete;
  CudaMark& operator=(const CudaMark&) = delete;
  ~CudaMark() override { cudaEventDestroy(event_); }
  void set() override { RM_CUDA(cudaEventRecord(event_, stream_)); }
  void wait() override { RM_CUDA(cudaEventSynchronize(event_)); }
  double ms_since(const Mark& earlier) const override {
    float ms = 0;
    RM_CUDA(cudaEventElapsedTime(&ms, dynamic_cast<const CudaMark&>(earlier).event_, event_));
    return ms;
  }

 private:
  cudaStream_t stream_;
  cudaEvent_t event_ = nullptr;
};

using GraphOwner = std::unique_ptr<CUgraph_st, cudaError_t (*)(cudaGraph_t)>;

GraphOwner captured(cudaStream_t stream, const std::function<void()>& work) {
  // Relaxed: what libraries do when a kernel is used for the first time (loading it) is allowed.
  RM_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
  cudaGraph_t graph = nullptr;
  try {
    work();
  } catch (...) {
    cudaStreamEndCapture(stream, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();
    throw;
  }
  RM_CUDA(cudaStreamEndCapture(stream, &graph));
  return {graph, cudaGraphDestroy};
}

}  // namespace

CudaQueue::CudaQueue() { RM_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }

CudaQueue::~CudaQueue() { cudaStreamDestroy(stream_); }

void CudaQueue::wait() { RM_CUDA(cudaStreamSynchronize(stream_)); }

std::unique_ptr<Recording> CudaQueue::record(const std::function<void()>& work) {
  const GraphOwner graph = captured(stream_, work);
  return std::make_unique<CudaRecording>(graph.get(), stream_);
}

std::unique_ptr<Mark> CudaQueue::make_mark() { return std::make_unique<CudaMark>(stream_); }

}  // namespace rackmark::worker::cuda

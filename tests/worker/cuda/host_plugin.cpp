// The GPU backend on the host device, as a plug-in that the worker loads as it loads any other.
#include "host_device.hpp"
#include "tests/worker/input/whole_decoder.hpp"
#include "worker/backend/cuda/cuda_backend.hpp"

namespace rackmark::worker {
namespace {

// Without ceilings: a product of the size that a GPU needs takes plain loops minutes.
class BackendOnHost final : public Backend {
 public:
  std::string name() const override { return inner_->name(); }
  std::vector<std::string> precisions() const override { return inner_->precisions(); }
  std::map<std::string, std::string> libraries() const override { return inner_->libraries(); }
  bool usable(std::string* why_not) const override { return inner_->usable(why_not); }
  bool takes_raw_pictures() const override { return inner_->takes_raw_pictures(); }
  std::shared_ptr<FileDecoder> open_file_decoder() override { return inner_->open_file_decoder(); }
  std::optional<MemoryLimit> device_memory() override { return inner_->device_memory(); }
  std::unique_ptr<TrainPlan> compile(const Net& net, const PlanOptions& options) override {
    return inner_->compile(net, options);
  }
  std::optional<std::int64_t> predict_bytes(const Net& net, const PlanOptions& options) override {
    return inner_->predict_bytes(net, options);
  }
  std::unique_ptr<BoundMeter> convolution_bound(const Net& net, const PlanOptions& options,
                                                bool training) override {
    return inner_->convolution_bound(net, options, training);
  }
  std::vector<std::string> inference_precisions() const override {
    return inner_->inference_precisions();
  }
  std::optional<std::int64_t> predict_inference_bytes(const Net& net, const InferOptions& options,
                                                      const TrainedValues& values) override {
    return inner_->predict_inference_bytes(net, options, values);
  }
  std::unique_ptr<InferPlan> compile_inference(const Net& net, const InferOptions& options,
                                               const TrainedValues& values) override {
    return inner_->compile_inference(net, options, values);
  }

 private:
  std::unique_ptr<Backend> inner_ = make_cuda_backend(
      {[] { return std::string(); },
       [] { return cuda::test::make_host_device({.memory_bytes = std::int64_t{16} << 30}); },
       [] { return std::make_shared<testing::WholeDecoder>(); }});
};

}  // namespace
}  // namespace rackmark::worker

extern "C" rackmark::worker::Backend* rackmark_make_backend() {
  return new rackmark::worker::BackendOnHost;
}

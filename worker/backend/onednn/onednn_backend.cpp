#include "worker/backend/onednn/onednn_backend.hpp"

#include <stdexcept>

#include "worker/backend/onednn/ceilings.hpp"
#include "worker/backend/onednn/convolution_bound.hpp"
#include "worker/backend/onednn/dnnl_bridge.hpp"
#include "worker/backend/onednn/inference/inference_plan.hpp"
#include "worker/backend/onednn/plan.hpp"

namespace rackmark::worker {
namespace onednn {

constexpr const char* kDefaultFusion = "bn-relu-add+recompute+winograd";

Fusion parse_fusion(const std::string& text) {
  Fusion fusion;
  std::string rest = text.empty() ? kDefaultFusion : text;
  if (rest == "none") return fusion;
  for (bool more = true; more;) {
    const auto plus = rest.find('+');
    const std::string part = rest.substr(0, plus);
    if (part == "bn-relu-add") {
      fusion.norm = true;
    } else if (part == "recompute") {
      fusion.recompute = true;
    } else if (part == "winograd") {
      fusion.winograd = true;
    } else {
      throw std::invalid_argument(
          "onednn: unknown fusion '" + text +
          "', known: none, or bn-relu-add, recompute and winograd joined by +");
    }
    more = plus != std::string::npos;
    if (more) rest.erase(0, plus + 1);
  }
  return fusion;
}

std::string fusion_text(const Fusion& fusion) {
  std::string text;
  const auto add = [&text](bool on, const char* part) {
    if (on) text += (text.empty() ? "" : "+") + std::string(part);
  };
  add(fusion.norm, "bn-relu-add");
  add(fusion.recompute, "recompute");
  add(fusion.winograd, "winograd");
  return text.empty() ? "none" : text;
}

namespace {

class OnednnBackend final : public Backend {
 public:
  std::string name() const override { return "onednn"; }
  std::vector<std::string> precisions() const override { return {"fp32", "bf16"}; }
  std::map<std::string, std::string> libraries() const override {
    return {{"onednn", library_version()}};
  }
  bool usable(std::string*) const override { return true; }  // has kernels for every CPU

  std::unique_ptr<TrainPlan> compile(const Net& net, const PlanOptions& options) override {
    check(options);
    return std::make_unique<Plan>(net, options);
  }
  std::optional<std::int64_t> predict_bytes(const Net& net, const PlanOptions& options) override {
    check(options);
    return Plan::predict_bytes(net, options);
  }

  std::vector<Ceiling> ceilings(int threads) override { return measure_ceilings(threads); }
  std::optional<double> matrix_peak(const std::string& precision, int threads,
                                    double seconds) override {
    return measure_matrix_peak(precision, threads, seconds);
  }
  std::unique_ptr<BoundMeter> convolution_bound(const Net& net, const PlanOptions& options,
                                                bool training) override {
    if (options.precision != "fp32") return nullptr;
    return make_convolution_bound(net, options, training);
  }

  std::vector<std::string> inference_precisions() const override {
    return onednn::inference_precisions();
  }
  std::optional<std::int64_t> predict_inference_bytes(const Net& net, const InferOptions& options,
                                                      const TrainedValues& values) override {
    return InferencePlan::predict_bytes(net, options, values);
  }
  std::unique_ptr<InferPlan> compile_inference(const Net& net, const InferOptions& options,
                                               const TrainedValues& values) override {
    return std::make_unique<InferencePlan>(net, options, values);
  }

 private:
  static void check(const PlanOptions& options) {
    if (options.precision == "fp32" || options.precision == "bf16") return;
    throw std::invalid_argument("onednn: precision '" + options.precision +
                                "' is not known; known: fp32, bf16");
  }
};

}  // namespace
}  // namespace onednn

std::unique_ptr<Backend> make_onednn_backend() { return std::make_unique<onednn::OnednnBackend>(); }

}  // namespace rackmark::worker

// Which of cuDNN's fused training patterns that plans do not use (convolution_survey has the
// others) have engines on a device that is only described: for the shapes of ResNet-50 at batch
// 256. What is offered and whether a plan can be built, nothing is run.
//   fusion_survey DEVICE.json
// Engines that are compiled at run time need libcuda.so.1; its stand-in (tests/support) is enough
// to see them compile.
#include <cstdio>
#include <fstream>
#include <functional>
#include <sstream>
#include <stdexcept>

#include "worker/backend/cuda/device/cudnn_graph.hpp"
#include "worker/backend/cuda/device/errors.hpp"

namespace {

using namespace rackmark::worker::cuda;

struct Layer {
  int channels, out, size, kernel, stride;
  int out_size() const { return (size + stride - 1) / stride; }
};
constexpr int kBatch = 256;
constexpr cudnnBackendNormMode_t kBatchNorm = CUDNN_BATCH_NORM;

// The tensors of one pattern, with ids given in order of appearance.
class Pattern {
 public:
  explicit Pattern(cudnnDataType_t type) : type_(type) {}
  GraphBuilder graph;

  const Descriptor& picture(int channels, int size, bool is_virtual = false) {
    return value(channels, size, is_virtual, is_virtual ? CUDNN_DATA_FLOAT : type_);
  }
  const Descriptor& narrow_picture(int channels, int size, bool is_virtual) {
    return value(channels, size, is_virtual, type_);
  }
  const Descriptor& mask(int channels, int size) {
    return graph.tensor(channels_last(next_++, CUDNN_DATA_BOOLEAN, kBatch, channels, size, size));
  }
  const Descriptor& by_channel(int channels, cudnnDataType_t type = CUDNN_DATA_FLOAT) {
    return graph.tensor(channels_last(next_++, type, 1, channels, 1, 1));
  }
  const Descriptor& narrow_by_channel(int channels) { return by_channel(channels, type_); }
  const Descriptor& weights(const Layer& l) {
    return graph.tensor(channels_last(next_++, type_, l.out, l.channels, l.kernel, l.kernel));
  }
  const Descriptor& number() {
    TensorSpec spec = channels_last(next_++, CUDNN_DATA_FLOAT, 1, 1, 1, 1);
    spec.is_by_value = true;
    return graph.tensor(spec);
  }
  const Descriptor& geometry(const Layer& l) {
    Descriptor shape(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    const std::int64_t pad = l.kernel / 2;
    shape.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT)
        .set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_CROSS_CORRELATION)
        .set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, std::int64_t{2})
        .set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, std::vector<std::int64_t>{l.stride, l.stride})
        .set(CUDNN_ATTR_CONVOLUTION_DILATIONS, std::vector<std::int64_t>{1, 1})
        .set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, std::vector<std::int64_t>{pad, pad})
        .set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, std::vector<std::int64_t>{pad, pad})
        .finalize();
    return graph.keep(std::move(shape));
  }
  // relu(x * scale + bias), all virtual.
  const Descriptor& normalised(const Descriptor& x, int channels, int size) {
    const Descriptor& scaled = picture(channels, size, true);
    const Descriptor& shifted = picture(channels, size, true);
    const Descriptor& active = picture(channels, size, true);
    graph.pointwise(CUDNN_POINTWISE_MUL, x, &narrow_by_channel(channels), scaled);
    graph.pointwise(CUDNN_POINTWISE_ADD, scaled, &narrow_by_channel(channels), shifted);
    graph.pointwise(CUDNN_POINTWISE_RELU_FWD, shifted, nullptr, active);
    return active;
  }
  void forward(const Layer& l, const Descriptor& x, const Descriptor& y) {
    Descriptor op(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    op.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, geometry(l))
        .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x)
        .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, weights(l))
        .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y)
        .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, 1.0F)
        .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, 0.0F);
    graph.operation(std::move(op));
  }

 private:
  const Descriptor& value(int channels, int size, bool is_virtual, cudnnDataType_t type) {
    TensorSpec spec = channels_last(next_++, type, kBatch, channels, size, size);
    spec.is_virtual = is_virtual;
    return graph.tensor(spec);
  }
  cudnnDataType_t type_;
  std::int64_t next_ = 1;
};

void normalised_conv(Pattern& p, const Layer& l) {
  const Descriptor& y = p.picture(l.out, l.out_size());
  p.forward(l, p.normalised(p.picture(l.channels, l.size), l.channels, l.size), y);
}

// Of the layer's output: batch norm in training, [+ a residual], ReLU, [mask].
void norm_forward(Pattern& p, const Layer& l, bool add, bool with_mask) {
  const int size = l.out_size(), channels = l.out;
  const Descriptor& normed = p.picture(channels, size, true);
  Descriptor op(CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR);
  const auto phase = CUDNN_NORM_FWD_TRAINING;
  op.put(CUDNN_ATTR_OPERATION_NORM_FWD_MODE, CUDNN_TYPE_NORM_MODE, 1, &kBatchNorm)
      .put(CUDNN_ATTR_OPERATION_NORM_FWD_PHASE, CUDNN_TYPE_NORM_FWD_PHASE, 1, &phase)
      .set(CUDNN_ATTR_OPERATION_NORM_FWD_XDESC, p.picture(channels, size))
      .set(CUDNN_ATTR_OPERATION_NORM_FWD_MEAN_DESC, p.by_channel(channels))
      .set(CUDNN_ATTR_OPERATION_NORM_FWD_INV_VARIANCE_DESC, p.by_channel(channels))
      .set(CUDNN_ATTR_OPERATION_NORM_FWD_SCALE_DESC, p.by_channel(channels))
      .set(CUDNN_ATTR_OPERATION_NORM_FWD_BIAS_DESC, p.by_channel(channels))
      .set(CUDNN_ATTR_OPERATION_NORM_FWD_EPSILON_DESC, p.number())
      .set(CUDNN_ATTR_OPERATION_NORM_FWD_EXP_AVG_FACTOR_DESC, p.number())
      .set(CUDNN_ATTR_OPERATION_NORM_FWD_INPUT_RUNNING_MEAN_DESC, p.by_channel(channels))
      .set(CUDNN_ATTR_OPERATION_NORM_FWD_INPUT_RUNNING_VAR_DESC, p.by_channel(channels))
      .set(CUDNN_ATTR_OPERATION_NORM_FWD_OUTPUT_RUNNING_MEAN_DESC, p.by_channel(channels))
      .set(CUDNN_ATTR_OPERATION_NORM_FWD_OUTPUT_RUNNING_VAR_DESC, p.by_channel(channels))
      .set(CUDNN_ATTR_OPERATION_NORM_FWD_YDESC, normed);
  p.graph.operation(std::move(op));
  const Descriptor* value = &normed;
  if (add) {
    const Descriptor& sum = p.picture(channels, size, true);
    p.graph.pointwise(CUDNN_POINTWISE_ADD, *value, &p.picture(channels, size), sum);
    value = &sum;
  }
  const Descriptor& y = p.picture(channels, size);
  p.graph.pointwise(CUDNN_POINTWISE_RELU_FWD, *value, nullptr, y);
  if (with_mask) p.graph.pointwise(CUDNN_POINTWISE_CMP_GT, y, &p.number(), p.mask(channels, size));
}

// dx of batch norm from dy * mask, which is written out where a residual branch wants it.
void norm_backward(Pattern& p, const Layer& l, bool fork) {
  const int size = l.out_size(), channels = l.out;
  const Descriptor& masked = p.narrow_picture(channels, size, !fork);
  p.graph.pointwise(CUDNN_POINTWISE_MUL, p.picture(channels, size), &p.mask(channels, size),
                    masked);
  Descriptor op(CUDNN_BACKEND_OPERATION_NORM_BACKWARD_DESCRIPTOR);
  op.put(CUDNN_ATTR_OPERATION_NORM_BWD_MODE, CUDNN_TYPE_NORM_MODE, 1, &kBatchNorm)
      .set(CUDNN_ATTR_OPERATION_NORM_BWD_XDESC, p.picture(channels, size))
      .set(CUDNN_ATTR_OPERATION_NORM_BWD_MEAN_DESC, p.by_channel(channels))
      .set(CUDNN_ATTR_OPERATION_NORM_BWD_INV_VARIANCE_DESC, p.by_channel(channels))
      .set(CUDNN_ATTR_OPERATION_NORM_BWD_DYDESC, masked)
      .set(CUDNN_ATTR_OPERATION_NORM_BWD_SCALE_DESC, p.by_channel(channels))
      .set(CUDNN_ATTR_OPERATION_NORM_BWD_DSCALE_DESC, p.by_channel(channels))
      .set(CUDNN_ATTR_OPERATION_NORM_BWD_DBIAS_DESC, p.by_channel(channels))
      .set(CUDNN_ATTR_OPERATION_NORM_BWD_DXDESC, p.picture(channels, size));
  p.graph.operation(std::move(op));
}

std::string proof(const Graph& graph, const EngineTarget& target, const EngineOffer& offer) {
  try {
    const EnginePlan plan(graph, target, offer.choice);
    return "plan, workspace " + std::to_string(plan.workspace_bytes() >> 20) + " MiB";
  } catch (const std::runtime_error& error) {
    return std::string(error.what()).substr(0, 160);
  }
}

void survey(const char* name, const char* type_name, cudnnDataType_t type, const Layer& l,
            const EngineTarget& target, const std::function<void(Pattern&, const Layer&)>& make) {
  std::printf("%s %s %dx%dx%d -> %d k%d s%d: ", name, type_name, l.channels, l.size, l.size, l.out,
              l.kernel, l.stride);
  try {
    Pattern pattern(type);
    make(pattern, l);
    const Graph graph(std::move(pattern.graph), target);
    std::string refusal;
    auto offers = offered_engines(graph, target, CUDNN_HEUR_MODE_A, 100, refusal);
    if (offers.empty()) {
      offers = offered_engines(graph, target, CUDNN_HEUR_MODE_FALLBACK, 100, refusal);
    }
    std::printf("%zu offers", offers.size());
    std::string seen;
    for (const auto& offer : offers) {
      const std::string engine = " " + std::to_string(offer.choice.engine) + ",";
      if (seen.find(engine) != std::string::npos) continue;
      seen += engine;
      std::printf("; engine %ld%s%s %s", static_cast<long>(offer.choice.engine),
                  offer.has(CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION) ? " (compiled)" : "",
                  offer.has(CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) ? " (nondeterministic)" : "",
                  proof(graph, target, offer).c_str());
    }
    std::puts("");
  } catch (const std::runtime_error& error) {
    std::printf("%s\n", error.what());
  }
  std::fflush(stdout);
}

}  // namespace

int main(int count, char** words) {
  std::ostringstream json;
  json << std::ifstream(count > 1 ? words[1] : "").rdbuf();
  const auto target = EngineTarget::described(json.str());
  const Layer layers[] = {{64, 64, 56, 1, 1},   {64, 64, 56, 3, 1},   {64, 256, 56, 1, 1},
                          {256, 128, 56, 1, 1}, {128, 128, 56, 3, 2}, {128, 512, 28, 1, 1},
                          {256, 512, 56, 1, 2}, {256, 256, 14, 3, 1}, {1024, 256, 14, 1, 1},
                          {512, 2048, 7, 1, 1}};
  const std::pair<const char*, cudnnDataType_t> types[] = {{"half", CUDNN_DATA_HALF},
                                                           {"bfloat", CUDNN_DATA_BFLOAT16}};
  for (const auto& [type_name, type] : types) {
    for (const auto& l : layers) {
      survey("norm+relu+conv", type_name, type, l, target, normalised_conv);
      for (const bool add : {false, true}) {
        survey(add ? "norm+add+relu+mask" : "norm+relu+mask", type_name, type, l, target,
               [add](Pattern& p, const Layer& layer) { norm_forward(p, layer, add, true); });
        survey(add ? "drelu+fork+norm backward" : "drelu+norm backward", type_name, type, l, target,
               [add](Pattern& p, const Layer& layer) { norm_backward(p, layer, add); });
      }
    }
  }
}

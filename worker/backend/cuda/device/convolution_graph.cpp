#include "worker/backend/cuda/device/convolution_graph.hpp"

#include <initializer_list>

namespace rackmark::worker::cuda {
namespace {

constexpr std::int64_t kFirstOfX = kFirstVirtual + 50;  // virtual tensors on x's side

cudnnDataType_t stored_type(Type type) {
  switch (type) {
    case Type::kFloat:
      return CUDNN_DATA_FLOAT;
    case Type::kHalf:
      return CUDNN_DATA_HALF;
    case Type::kBfloat:
      return CUDNN_DATA_BFLOAT16;
    case Type::kInteger:
      return CUDNN_DATA_INT8;
  }
  return CUDNN_DATA_FLOAT;
}

TensorSpec x_spec(const ConvolutionTask& t) {
  return channels_last(kTensorX, stored_type(t.type), t.images, t.channels, t.height, t.width,
                       t.x_stride);
}
TensorSpec w_spec(const ConvolutionTask& t) {
  return channels_last(kTensorW, stored_type(t.type), t.out, t.channels, t.kernel_h, t.kernel_w);
}
TensorSpec y_spec(const ConvolutionTask& t) {
  return channels_last(kTensorY, stored_type(t.stored_y()), t.images, t.out, t.out_height(),
                       t.out_width(), t.y_stride);
}
TensorSpec bias_spec(const ConvolutionTask& t, ConvolutionForm form) {
  const bool narrow = form == ConvolutionForm::kNarrowBias;
  return channels_last(kTensorBias, narrow ? stored_type(t.type) : CUDNN_DATA_FLOAT, 1, t.out, 1,
                       1);
}
TensorSpec by_channel(const ConvolutionTask& t, std::int64_t id) {
  return channels_last(id, CUDNN_DATA_FLOAT, 1, t.out, 1, 1);
}
TensorSpec by_channel_of_x(const ConvolutionTask& t, std::int64_t id,
                           cudnnDataType_t type = CUDNN_DATA_FLOAT) {
  return channels_last(id, type, 1, t.channels, 1, 1);
}
// Between two operations values stay as they were summed.
TensorSpec virtual_like(TensorSpec spec, std::int64_t id) {
  spec.id = id;
  spec.type = CUDNN_DATA_FLOAT;
  spec.is_virtual = true;
  return spec;
}
TensorSpec renamed(TensorSpec spec, std::int64_t id) {
  spec.id = id;
  return spec;
}

const Descriptor& geometry(GraphBuilder& graph, const ConvolutionTask& t,
                           cudnnDataType_t sums = CUDNN_DATA_FLOAT) {
  Descriptor shape(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  const std::vector<std::int64_t> padding{t.pad_h, t.pad_w};
  shape.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, sums)
      .set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_CROSS_CORRELATION)
      .set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, std::int64_t{2})
      .set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, std::vector<std::int64_t>{t.stride, t.stride})
      .set(CUDNN_ATTR_CONVOLUTION_DILATIONS, std::vector<std::int64_t>{1, 1})
      .set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, padding)
      .set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, padding)
      .finalize();
  return graph.keep(std::move(shape));
}

// x as it is convolved: relu(x * scale + shift) where the task says so.
const Descriptor& convolved(GraphBuilder& graph, const ConvolutionTask& t) {
  const Descriptor& x = graph.tensor(x_spec(t));
  if (!t.normed) return x;
  const auto between = [&](std::int64_t step) -> const Descriptor& {
    return graph.tensor(virtual_like(x_spec(t), kFirstOfX + step));
  };
  const Descriptor &scaled = between(0), &shifted = between(1), &active = between(2);
  const auto type = stored_type(t.type);
  graph.pointwise(CUDNN_POINTWISE_MUL, x, &graph.tensor(by_channel_of_x(t, kTensorNormScale, type)),
                  scaled);
  graph.pointwise(CUDNN_POINTWISE_ADD, scaled,
                  &graph.tensor(by_channel_of_x(t, kTensorNormShift, type)), shifted);
  graph.pointwise(CUDNN_POINTWISE_RELU_FWD, shifted, nullptr, active);
  return active;
}

// y = conv(x, w), summed up in this type.
void add_product(GraphBuilder& graph, const ConvolutionTask& t, cudnnDataType_t sums,
                 const Descriptor& y) {
  Descriptor convolution(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
  convolution.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, geometry(graph, t, sums))
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, convolved(graph, t))
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, graph.tensor(w_spec(t)))
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y)
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, 1.0F)
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, 0.0F);
  graph.operation(std::move(convolution));
}

void add_statistics(GraphBuilder& graph, const ConvolutionTask& t, const Descriptor& y) {
  Descriptor sums(CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR);
  sums.set(CUDNN_ATTR_OPERATION_GENSTATS_MODE, CUDNN_GENSTATS_SUM_SQSUM)
      .set(CUDNN_ATTR_OPERATION_GENSTATS_MATH_PREC, CUDNN_DATA_FLOAT)
      .set(CUDNN_ATTR_OPERATION_GENSTATS_XDESC, y)
      .set(CUDNN_ATTR_OPERATION_GENSTATS_SUMDESC, graph.tensor(by_channel(t, kTensorSum)))
      .set(CUDNN_ATTR_OPERATION_GENSTATS_SQSUMDESC, graph.tensor(by_channel(t, kTensorSquareSum)));
  graph.operation(std::move(sums));
}

// y = conv(x, w), then residual, bias and ReLU in this order: the one that ready-made engines know.
Graph forward_graph(const ConvolutionTask& t, ConvolutionForm form, const EngineTarget& target) {
  GraphBuilder graph;
  const bool epilogue = form != ConvolutionForm::kBareForward;
  std::vector<TensorSpec> results;  // of each operation in turn
  const int steps = 1 + (epilogue ? t.residual + t.bias + t.relu : 0);
  for (int i = 1; i < steps; ++i) results.push_back(virtual_like(y_spec(t), kFirstVirtual + i));
  results.push_back(y_spec(t));

  auto next = results.begin();
  const Descriptor* value = &graph.tensor(*next++);
  add_product(graph, t, CUDNN_DATA_FLOAT, *value);
  const auto then = [&](cudnnPointwiseMode_t mode, const Descriptor* other) {
    const Descriptor& result = graph.tensor(*next++);
    graph.pointwise(mode, *value, other, result);
    value = &result;
  };
  if (epilogue && t.residual) {
    then(CUDNN_POINTWISE_ADD, &graph.tensor(renamed(y_spec(t), kTensorResidual)));
  }
  if (epilogue && t.bias) then(CUDNN_POINTWISE_ADD, &graph.tensor(bias_spec(t, form)));
  if (epilogue && t.relu) then(CUDNN_POINTWISE_RELU_FWD, nullptr);
  if (t.statistics) add_statistics(graph, t, *value);
  return Graph(std::move(graph), target);
}

// y = relu?(conv(x, w) * scale + bias + residual * residual scale), in float32 from the sums on.
Graph integer_graph(ConvolutionTask t, ConvolutionForm form, const EngineTarget& target) {
  if (form == ConvolutionForm::kCopiedResult) t.y_stride = t.out;
  GraphBuilder graph;
  std::int64_t id = kFirstVirtual;
  const auto between = [&](cudnnDataType_t type) -> const Descriptor& {
    TensorSpec spec = virtual_like(y_spec(t), id++);
    spec.type = type;
    return graph.tensor(spec);
  };
  int left = 2 + (t.residual ? 1 : 0) + (t.relu ? 1 : 0);  // operations up to y
  const auto then = [&](cudnnPointwiseMode_t mode, const Descriptor& value,
                        const Descriptor* other) -> const Descriptor& {
    const Descriptor& result = --left == 0 ? graph.tensor(y_spec(t)) : between(CUDNN_DATA_FLOAT);
    graph.pointwise(mode, value, other, result);
    return result;
  };

  const Descriptor& sums = between(CUDNN_DATA_INT32);
  add_product(graph, t, CUDNN_DATA_INT32, sums);
  const Descriptor& scale = graph.tensor(by_channel(t, kTensorScale));
  const Descriptor& bias = graph.tensor(by_channel(t, kTensorBias));
  const Descriptor* value = &then(CUDNN_POINTWISE_MUL, sums, &scale);
  value = &then(CUDNN_POINTWISE_ADD, *value, &bias);
  if (t.residual) {
    const TensorSpec spec =
        channels_last(kTensorResidual, stored_type(t.stored_residual()), t.images, t.out,
                      t.out_height(), t.out_width(), t.stored_residual_stride());
    const Descriptor& factor =
        graph.tensor(channels_last(kTensorResidualScale, CUDNN_DATA_FLOAT, 1, 1, 1, 1));
    const Descriptor& residual = between(CUDNN_DATA_FLOAT);
    graph.pointwise(CUDNN_POINTWISE_MUL, graph.tensor(spec), &factor, residual);
    value = &then(CUDNN_POINTWISE_ADD, *value, &residual);
  }
  if (t.relu) then(CUDNN_POINTWISE_RELU_FWD, *value, nullptr);
  return Graph(std::move(graph), target);
}

// What the ReLU after a batch norm lets through of dx, and that batch norm's sums. Engines know it
// said in this order: subtracting the mean by an addition, say, is another pattern.
void add_norm_sums(GraphBuilder& graph, const ConvolutionTask& t, const Descriptor& dx) {
  const Descriptor& x = graph.tensor(renamed(x_spec(t), kTensorNormX));
  const auto array = [&](std::int64_t id) -> const Descriptor& {
    return graph.tensor(by_channel_of_x(t, id));
  };
  const Descriptor &mean = array(kTensorNormMean), &inverse = array(kTensorNormInverseDeviation),
                   &weight = array(kTensorNormWeight), &bias = array(kTensorNormBias);
  const Descriptor* value = &x;
  std::int64_t id = kFirstOfX;
  const auto then = [&](cudnnPointwiseMode_t mode, const Descriptor& by) {
    const Descriptor& result = graph.tensor(virtual_like(x_spec(t), id++));
    graph.pointwise(mode, *value, &by, result);
    value = &result;
  };
  then(CUDNN_POINTWISE_SUB, mean);
  then(CUDNN_POINTWISE_MUL, inverse);
  then(CUDNN_POINTWISE_MUL, weight);
  then(CUDNN_POINTWISE_ADD, bias);
  const Descriptor& masked = graph.tensor(x_spec(t));
  graph.pointwise_backward(CUDNN_POINTWISE_RELU_BWD, *value, dx, masked);

  Descriptor sums(CUDNN_BACKEND_OPERATION_BN_BWD_WEIGHTS_DESCRIPTOR);
  sums.set(CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_MATH_PREC, CUDNN_DATA_FLOAT)
      .set(CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_X_DESC, x)
      .set(CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_MEAN_DESC, mean)
      .set(CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_INVSTD_DESC, inverse)
      .set(CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_BN_SCALE_DESC, weight)
      .set(CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_DY_DESC, masked);
  constexpr cudnnBackendAttributeName_t kResults[NormOperands::kSums] = {
      CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_DBN_BIAS_DESC,
      CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_DBN_SCALE_DESC,
      CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_EQ_DY_SCALE_DESC,
      CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_EQ_X_SCALE_DESC,
      CUDNN_ATTR_OPERATION_BN_BWD_WEIGHTS_EQ_BIAS};
  for (int i = 0; i < NormOperands::kSums; ++i) sums.set(kResults[i], array(kTensorNormSums + i));
  graph.operation(std::move(sums));
}

Graph backward_data_graph(const ConvolutionTask& t, ConvolutionForm form,
                          const EngineTarget& target) {
  GraphBuilder graph;
  const bool added = form == ConvolutionForm::kAddedAfter;
  TensorSpec result = added || t.norm_sums ? virtual_like(x_spec(t), kFirstVirtual) : x_spec(t);
  if (form == ConvolutionForm::kSeparateSum) {
    result = channels_last(kTensorX, result.type, t.images, t.channels, t.height, t.width);
  }
  const Descriptor& dx = graph.tensor(result);
  const float beta = t.accumulate && form == ConvolutionForm::kWhole ? 1.0F : 0.0F;
  Descriptor convolution(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR);
  convolution.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, geometry(graph, t))
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, graph.tensor(w_spec(t)))
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, graph.tensor(y_spec(t)))
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, dx)
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, 1.0F)
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, beta);
  graph.operation(std::move(convolution));
  if (t.norm_sums) add_norm_sums(graph, t, dx);
  if (added) {
    const Descriptor& before = graph.tensor(renamed(x_spec(t), kTensorResidual));
    graph.pointwise(CUDNN_POINTWISE_ADD, dx, &before, graph.tensor(x_spec(t)));
  }
  return Graph(std::move(graph), target);
}

Graph backward_weights_graph(const ConvolutionTask& t, ConvolutionForm form,
                             const EngineTarget& target) {
  GraphBuilder graph;
  const bool converted = form == ConvolutionForm::kConvertedGradient;
  TensorSpec gradient = renamed(w_spec(t), kTensorGradient);
  if (form != ConvolutionForm::kNarrowGradient) gradient.type = CUDNN_DATA_FLOAT;
  const Descriptor& dw = graph.tensor(converted ? virtual_like(gradient, kFirstVirtual) : gradient);
  Descriptor convolution(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR);
  convolution.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, geometry(graph, t))
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, convolved(graph, t))
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, graph.tensor(y_spec(t)))
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, dw)
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, 1.0F)
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, 0.0F);
  graph.operation(std::move(convolution));
  if (converted) {
    graph.pointwise(CUDNN_POINTWISE_IDENTITY, dw, nullptr, graph.tensor(gradient));
  }
  return Graph(std::move(graph), target);
}

const char* pass_name(ConvolutionPass pass) {
  switch (pass) {
    case ConvolutionPass::kForward:
      return "forward";
    case ConvolutionPass::kBackwardData:
      return "backward_data";
    case ConvolutionPass::kBackwardWeights:
      return "backward_weights";
  }
  return "?";
}

std::string type_name(Type type) { return arithmetic_name(type, Arithmetic::kFull); }

std::string epilogue_text(const ConvolutionTask& t) {
  std::string text;
  if (t.residual) text += " +residual";
  if (t.residual && t.is_integer()) {
    text += " of " + type_name(t.residual_type) + ":" + std::to_string(t.residual_stride);
  }
  if (t.bias) text += " +bias";
  if (t.relu) text += " +relu";
  if (t.accumulate) text += " +accumulate";
  if (t.statistics) text += " +statistics";
  if (t.normed) text += " +normed";
  if (t.norm_sums) text += " +norm_sums";
  if (t.stored_y() != t.type) text += " as " + type_name(t.y_type);
  return text;
}

}  // namespace

const char* form_name(ConvolutionForm form) {
  switch (form) {
    case ConvolutionForm::kWhole:
      return "whole";
    case ConvolutionForm::kNarrowBias:
      return "narrow_bias";
    case ConvolutionForm::kBareForward:
      return "bare_forward";
    case ConvolutionForm::kAddedAfter:
      return "added_after";
    case ConvolutionForm::kSeparateSum:
      return "separate_sum";
    case ConvolutionForm::kConvertedGradient:
      return "converted_gradient";
    case ConvolutionForm::kNarrowGradient:
      return "narrow_gradient";
    case ConvolutionForm::kCopiedResult:
      return "copied_result";
  }
  return "?";
}

// In front those with ready-made engines; asking for the others costs heuristics a fifth of a
// second.
std::vector<ConvolutionForm> forms_of(const ConvolutionTask& task) {
  using enum ConvolutionForm;
  const bool narrow = task.type != Type::kFloat;
  switch (task.pass) {
    case ConvolutionPass::kForward:
      if (task.is_integer() && !task.has_dense_y()) return {kWhole, kCopiedResult};
      if (task.is_integer()) return {kWhole};  // what is left of it would cost more than it gives
      if (task.statistics) return {kWhole};    // no kernel of ours would make the sums afterwards
      if (task.bias && narrow) return {kNarrowBias, kBareForward, kWhole};
      if (task.bias) return {kWhole, kBareForward};
      if (task.residual || task.relu) return {kBareForward, kWhole};
      return {kWhole};
    case ConvolutionPass::kBackwardData:
      if (task.accumulate) return {kWhole, kSeparateSum, kAddedAfter};
      return {kWhole};
    case ConvolutionPass::kBackwardWeights:
      if (task.normed) return {kNarrowGradient};  // the one that is served
      if (narrow) return {kNarrowGradient, kConvertedGradient, kWhole};
      return {kWhole};
  }
  return {};
}

Graph convolution_graph(const ConvolutionTask& task, ConvolutionForm form,
                        const EngineTarget& target) {
  switch (task.pass) {
    case ConvolutionPass::kForward:
      if (task.is_integer()) return integer_graph(task, form, target);
      return forward_graph(task, form, target);
    case ConvolutionPass::kBackwardData:
      return backward_data_graph(task, form, target);
    case ConvolutionPass::kBackwardWeights:
      break;
  }
  return backward_weights_graph(task, form, target);
}

std::string task_text(const ConvolutionTask& t) {
  const auto numbers = [](std::initializer_list<std::int64_t> values, const char* between) {
    std::string text;
    for (const auto value : values) text += (text.empty() ? "" : between) + std::to_string(value);
    return text;
  };
  return std::string("conv ") + pass_name(t.pass) + " " + arithmetic_name(t.type, t.arithmetic) +
         " " + numbers({t.images, t.channels, t.height, t.width}, "x") + ":" +
         std::to_string(t.x_stride) + " -> " + std::to_string(t.out) + ":" +
         std::to_string(t.y_stride) + " k" + numbers({t.kernel_h, t.kernel_w}, "x") + " s" +
         std::to_string(t.stride) + " p" + numbers({t.pad_h, t.pad_w}, ",") + epilogue_text(t);
}

}  // namespace rackmark::worker::cuda

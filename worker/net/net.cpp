#include "worker/net/net.hpp"

#include <cmath>
#include <limits>
#include <stdexcept>

#include "worker/net/text_hash.hpp"

namespace rackmark::worker {
namespace {

std::string text(const Shape& s) {
  return std::to_string(s.channels) + "x" + std::to_string(s.height) + "x" +
         std::to_string(s.width);
}

[[noreturn]] void does_not_fit(const std::string& node, const std::string& why) {
  throw std::invalid_argument("node '" + node + "': " + why);
}

// Windows of a convolution or pool along one axis. In ceil mode the last window may hang over the
// end, but must start inside the input or its left padding.
int windows(const std::string& node, const Shape& in, int extent, int kernel, int stride, int pad,
            bool ceil_mode = false) {
  if (kernel < 1 || stride < 1 || pad < 0) {
    does_not_fit(node, "kernel " + std::to_string(kernel) + ", stride " + std::to_string(stride) +
                           " and pad " + std::to_string(pad) + " must be at least 1, 1 and 0");
  }
  const int room = extent + 2 * pad - kernel;
  if (room < 0) {
    does_not_fit(node, "kernel " + std::to_string(kernel) + " does not fit into input " + text(in) +
                           " with padding " + std::to_string(pad));
  }
  int out = (room + (ceil_mode ? stride - 1 : 0)) / stride + 1;
  if (ceil_mode && (out - 1) * stride >= extent + pad) --out;
  return out;
}

// A pool's padding is at most half its kernel, so that every window sees at least one real element.
void check_pool_pad(const std::string& node, int kernel, int pad) {
  if (2 * pad > kernel) {
    does_not_fit(node, "padding " + std::to_string(pad) + " is more than half of kernel " +
                           std::to_string(kernel));
  }
}

std::int64_t fan_in(const Parameter& parameter) {
  return parameter.elements() / parameter.dims.front();
}

}  // namespace

std::int64_t Parameter::elements() const {
  std::int64_t product = 1;
  for (const auto d : dims) product *= d;
  return product;
}

Net::Net(std::string model, int image_size, int classes)
    : model_(std::move(model)), image_size_(image_size), classes_(classes) {
  if (image_size < 1) {
    throw std::invalid_argument("image size " + std::to_string(image_size) + " must be at least 1");
  }
  if (classes < 2) {
    throw std::invalid_argument("classes " + std::to_string(classes) + " must be at least 2");
  }
  append("input", Input{}, {}, {3, image_size, image_size});
}

Node Net::append(std::string name, Layer layer, std::vector<int> inputs, Shape shape) {
  const int id = static_cast<int>(nodes_.size());
  for (const int input : inputs) {
    if (input < 0 || input >= id) {
      does_not_fit(name, "input node " + std::to_string(input) + " does not exist");
    }
  }
  if (name.empty()) throw std::invalid_argument("node " + std::to_string(id) + " has no name");
  if (!by_name_.emplace(name, id).second) does_not_fit(name, "the name is used twice");
  nodes_.push_back({std::move(name), std::move(layer), std::move(inputs), shape});
  return {id};
}

void Net::add_parameter(int node, const char* leaf, ParameterKind kind,
                        std::vector<std::int64_t> dims) {
  parameters_.push_back({nodes_[node].name + "." + leaf, kind, node, std::move(dims)});
}

const Shape& Net::shape(Node x) const {
  if (x.id < 0 || x.id >= static_cast<int>(nodes_.size())) {
    throw std::invalid_argument("node " + std::to_string(x.id) + " does not exist");
  }
  return nodes_[x.id].shape;
}

Node Net::conv2d(Node x, std::string name, Conv2d layer) {
  const Shape in = shape(x);
  if (layer.out < 1) does_not_fit(name, "a convolution needs at least 1 output channel");
  const Shape out{layer.out,
                  windows(name, in, in.height, layer.kernel_h, layer.stride, layer.pad_h),
                  windows(name, in, in.width, layer.kernel_w, layer.stride, layer.pad_w)};
  const Node node = append(std::move(name), layer, {x.id}, out);
  add_parameter(node.id, "weight", ParameterKind::kConvWeight,
                {layer.out, in.channels, layer.kernel_h, layer.kernel_w});
  if (layer.bias) add_parameter(node.id, "bias", ParameterKind::kBias, {layer.out});
  return node;
}

Node Net::batch_norm(Node x, std::string name, BatchNorm layer) {
  const Shape in = shape(x);
  const Node node = append(std::move(name), layer, {x.id}, in);
  add_parameter(node.id, "weight", ParameterKind::kBatchNormWeight, {in.channels});
  add_parameter(node.id, "bias", ParameterKind::kBatchNormBias, {in.channels});
  for (const char* leaf : {".running_mean", ".running_var"}) {
    running_.push_back({nodes_[node.id].name + leaf, node.id, in.channels});
  }
  return node;
}

Node Net::relu(Node x) {
  return append("relu_" + std::to_string(nodes_.size()), Relu{}, {x.id}, shape(x));
}

Node Net::max_pool(Node x, MaxPool layer) {
  const std::string name = "max_pool_" + std::to_string(nodes_.size());
  const Shape in = shape(x);
  check_pool_pad(name, layer.kernel, layer.pad);
  const auto along = [&](int extent) {
    return windows(name, in, extent, layer.kernel, layer.stride, layer.pad, layer.ceil_mode);
  };
  return append(name, layer, {x.id}, {in.channels, along(in.height), along(in.width)});
}

Node Net::average_pool(Node x, AveragePool layer) {
  const std::string name = "average_pool_" + std::to_string(nodes_.size());
  const Shape in = shape(x);
  check_pool_pad(name, layer.kernel, layer.pad);
  const auto along = [&](int extent) {
    return windows(name, in, extent, layer.kernel, layer.stride, layer.pad);
  };
  return append(name, layer, {x.id}, {in.channels, along(in.height), along(in.width)});
}

Node Net::adaptive_average_pool(Node x, AdaptiveAveragePool layer) {
  const std::string name = "adaptive_average_pool_" + std::to_string(nodes_.size());
  if (layer.out < 1) does_not_fit(name, "the output size must be at least 1");
  return append(name, layer, {x.id}, {shape(x).channels, layer.out, layer.out});
}

Node Net::linear(Node x, std::string name, Linear layer) {
  const Shape in = shape(x);
  if (in.height != 1 || in.width != 1) {
    does_not_fit(name, "a linear layer needs a flat input, not " + text(in));
  }
  if (layer.out < 1) does_not_fit(name, "a linear layer needs at least 1 output");
  const Node node = append(std::move(name), layer, {x.id}, {layer.out, 1, 1});
  add_parameter(node.id, "weight", ParameterKind::kLinearWeight, {layer.out, in.channels});
  if (layer.bias) add_parameter(node.id, "bias", ParameterKind::kBias, {layer.out});
  return node;
}

Node Net::concat(const std::vector<Node>& parts) {
  const std::string name = "concat_" + std::to_string(nodes_.size());
  if (parts.empty()) does_not_fit(name, "nothing to concatenate");
  Shape out = shape(parts.front());
  out.channels = 0;
  std::vector<int> inputs;
  for (const Node part : parts) {
    const Shape& s = shape(part);
    if (s.height != out.height || s.width != out.width) {
      does_not_fit(name, "inputs " + text(shape(parts.front())) + " and " + text(s) +
                             " differ in height or width");
    }
    out.channels += s.channels;
    inputs.push_back(part.id);
  }
  return append(name, Concat{}, std::move(inputs), out);
}

Node Net::add(Node main, Node residual) {
  const std::string name = "add_" + std::to_string(nodes_.size());
  if (shape(main) != shape(residual)) {
    does_not_fit(name, "inputs " + text(shape(main)) + " and " + text(shape(residual)) + " differ");
  }
  return append(name, Add{}, {main.id, residual.id}, shape(main));
}

Node Net::dropout(Node x, double probability) {
  const std::string name = "dropout_" + std::to_string(nodes_.size());
  if (!(probability >= 0 && probability < 1)) {
    does_not_fit(name, "probability " + std::to_string(probability) + " is not in [0, 1)");
  }
  return append(name, Dropout{probability}, {x.id}, shape(x));
}

Node Net::local_response_norm(Node x, LocalResponseNorm layer) {
  const std::string name = "local_response_norm_" + std::to_string(nodes_.size());
  if (layer.size < 1) does_not_fit(name, "the size must be at least 1");
  return append(name, layer, {x.id}, shape(x));
}

Node Net::flatten(Node x) {
  const std::string name = "flatten_" + std::to_string(nodes_.size());
  const std::int64_t elements = shape(x).elements();
  if (elements > std::numeric_limits<int>::max()) {
    does_not_fit(name, "input " + text(shape(x)) + " is too large");
  }
  return append(name, Flatten{}, {x.id}, {static_cast<int>(elements), 1, 1});
}

void Net::set_loss_kind(LossKind kind) {
  if (kind == LossKind::kSigmoidCrossEntropy && classes_ != 2) {
    throw std::invalid_argument("model '" + model_ + "' tells two classes apart, not " +
                                std::to_string(classes_));
  }
  loss_kind_ = kind;
}

void Net::loss(Node logits, double weight) {
  const Shape& in = shape(logits);
  const int wanted = loss_kind_ == LossKind::kSigmoidCrossEntropy ? 1 : classes_;
  if (in != Shape{wanted, 1, 1}) {
    does_not_fit(nodes_[logits.id].name,
                 "the loss needs logits " + text({wanted, 1, 1}) + ", not " + text(in));
  }
  heads_.push_back({logits.id, weight});
}

std::int64_t Net::parameter_count() const {
  std::int64_t sum = 0;
  for (const auto& parameter : parameters_) sum += parameter.elements();
  return sum;
}

double Net::forward_flop_per_image() const {
  return flop_of(std::vector<bool>(nodes_.size(), true));
}

double Net::inference_flop_per_image() const {
  std::vector<bool> needed(nodes_.size(), false);
  needed[heads_.front().node] = true;
  for (std::size_t id = nodes_.size(); id-- > 0;) {
    if (!needed[id]) continue;
    for (const int input : nodes_[id].inputs) needed[input] = true;
  }
  return flop_of(needed);
}

double Net::flop_of(const std::vector<bool>& nodes) const {
  double flop = 0;
  for (const auto& parameter : parameters_) {
    const bool multiplies = parameter.kind == ParameterKind::kConvWeight ||
                            parameter.kind == ParameterKind::kLinearWeight;
    if (!multiplies || !nodes[parameter.node]) continue;
    const Shape& out = nodes_[parameter.node].shape;
    flop += 2.0 * static_cast<double>(parameter.elements()) * out.height * out.width;
  }
  return flop;
}

double Net::training_flop_per_image() const {
  double flop = 3 * forward_flop_per_image();
  for (const auto& parameter : parameters_) {
    const NodeInfo& node = nodes_[parameter.node];
    const bool fed_by_input = node.inputs.front() == input().id;
    if (!fed_by_input || parameter.kind == ParameterKind::kBias) continue;
    flop -= 2.0 * static_cast<double>(parameter.elements()) * node.shape.height * node.shape.width;
  }
  return flop;
}

std::uint64_t splitmix64(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

std::vector<float> uniform(const std::string& name, std::int64_t count) {
  const std::uint64_t base = text_hash(name);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double top24 = static_cast<double>(splitmix64(base + i) >> 40);
    values[i] = static_cast<float>(top24 / 8388608.0 - 1.0);  // a multiple of 2^-23: exact in float
  }
  return values;
}

std::vector<float> initial_value(const Parameter& parameter, std::int64_t seed) {
  std::vector<float> values =
      uniform(std::to_string(seed) + ":" + parameter.name, parameter.elements());
  // Each product and sum is one float operation, as the reference results were made.
  const auto scaled = [&](float factor, float offset = 0) {
    for (float& v : values) {
      v = factor * v;
      if (offset != 0) v = offset + v;
    }
  };
  switch (parameter.kind) {
    case ParameterKind::kConvWeight:
      scaled(static_cast<float>(std::sqrt(6.0 / static_cast<double>(fan_in(parameter)))));
      break;
    case ParameterKind::kLinearWeight:
      scaled(static_cast<float>(std::sqrt(1.0 / static_cast<double>(fan_in(parameter)))));
      break;
    case ParameterKind::kBias:
      scaled(0.01f);
      break;
    case ParameterKind::kBatchNormWeight:
      scaled(0.1f, 1.0f);
      break;
    case ParameterKind::kBatchNormBias:
      scaled(0.1f);
      break;
  }
  return values;
}

}  // namespace rackmark::worker

#include "worker/backend/onednn/inference/builder.hpp"

#include <cstring>
#include <stdexcept>

namespace rackmark::worker::onednn {
namespace {

// Plain loops, or a matrix product with the picture unfolded before it.
bool is_slow(const Made& made) {
  return is_reference(made) || made.implementation.find("gemm") != std::string::npos;
}

// Nothing where oneDNN has no vector kernel.
std::optional<InferenceMade> try_convolution(const dnnl::engine& engine,
                                             const InferenceConvolution& c) {
  try {
    InferenceMade made = make_inference_convolution(engine, c);
    if (!is_slow(made)) return made;
  } catch (const DnnlError& error) {
    if (!error.unimplemented) throw;
  }
  return std::nullopt;
}

}  // namespace

Builder::Builder(const Net& net, const TrainedValues& values, const BuildSettings& settings,
                 const dnnl::engine& engine, Program& program)
    : net_(net),
      trained_(values),
      settings_(settings),
      engine_(engine),
      program_(program),
      units_(inference_units(net, settings.merge)),
      choice_(net, units_, settings.peaks != nullptr),
      values_(net.nodes().size()) {
  if (settings.peaks != nullptr) {
    peaks_ = *settings.peaks;
    share_peaks(net, units_, peaks_);
  }
}

Operand Builder::build() {
  values_[0] = {make_desc(dims(0), DataType::f32, Tag::nchw), {}, 1};
  if (settings_.rounds) {
    values_[0] = reordered(info(0).name, values_[0], values_[0].desc, 1);
    round(info(0).name, values_[0]);
  }
  find_parts();
  for (const Unit& unit : units_) add_unit(unit);
  const int head = units_.back().output;
  const Desc flat = make_desc({settings_.batch, info(head).shape.channels}, DataType::f32, Tag::nc);
  if (dims_of(values_[head].desc).size() == 4) {
    const Value plain = plain_floats(head);
    values_[head] = {flat, plain.place, 1};
  }
  const Value logits = converted(head, flat, values_[head].scale, 1);
  program_.arena().keep(logits.place.slot);
  return {0, logits.desc, logits.place};
}

void Builder::add_unit(const Unit& unit) {
  const Layer& layer = info(unit.node).layer;
  if (std::holds_alternative<Conv2d>(layer) || std::holds_alternative<BatchNorm>(layer)) {
    add_convolution(unit);
  } else if (std::holds_alternative<Linear>(layer)) {
    add_linear(unit);
  } else if (std::holds_alternative<Concat>(layer)) {
    add_concat(unit);
  } else if (std::holds_alternative<Flatten>(layer)) {
    add_flatten(unit);
  } else if (std::holds_alternative<LocalResponseNorm>(layer)) {
    add_lrn(unit);
  } else if (std::holds_alternative<Add>(layer) || std::holds_alternative<Relu>(layer)) {
    add_elementwise(unit);
  } else {
    add_pool(unit);
  }
}

void Builder::add_convolution(const Unit& unit) {
  if (add_own_convolution(unit)) return;
  const bool integer = choice_.computes(unit);
  Value in = integer ? integers(unit.inputs[0]) : real(unit.inputs[0]);
  Value out;
  InferenceConvolution c;
  ConvolutionShape& s = c.shape;
  s.strides = {1, 1};
  s.pad_before = s.pad_after = {0, 0};
  if (const auto* layer = std::get_if<Conv2d>(&info(unit.node).layer)) {
    s.strides = {layer->stride, layer->stride};
    s.pad_before = s.pad_after = {layer->pad_h, layer->pad_w};
  }
  set_weights(unit, s.weights, s.bias, c.epilogue, in.scale);
  set_output(unit, s.dst, c.epilogue, out);
  s.src = in.desc;
  InferenceMade made = choose(unit, c, in);
  out.desc = made.dst;
  if (unit.residual < 0) out.place = place_for(unit.output, out.desc);
  finish(unit, weighted_step(unit, std::move(made), in, out, c.epilogue), out);
}

// The layout that the source has and the one that oneDNN likes best for the result, unless it has
// no vector kernel for them: then the result blocked by channel, then the source moved.
InferenceMade Builder::choose(const Unit& unit, InferenceConvolution& c, Value& in) {
  const InferenceMade as_is = make_inference_convolution(engine_, c);
  if (!is_slow(as_is)) return as_is;
  InferenceConvolution other = c;
  if (unit.residual < 0 && type_of(c.shape.src) == settings_.type) {
    other.shape.dst = picture(unit.output, settings_.type);
    if (auto blocked = try_convolution(engine_, other)) return *std::move(blocked);
    other.shape.dst = c.shape.dst;
  }
  if (auto padded = choose_padded(unit, c, in)) return *std::move(padded);
  other.shape.src = with_type_any(in.desc, type_of(in.desc));
  auto moved = try_convolution(engine_, other);
  if (!moved) return as_is;
  in = reordered(info(unit.node).name, in, moved->src, 1);
  return *std::move(moved);
}

// Reads a copy of the pictures with zeros around them, where nothing but the padding keeps oneDNN
// from its vector kernels: with AVX2 that of AlexNet's first convolution (11 x 11, stride 4).
std::optional<InferenceMade> Builder::choose_padded(const Unit& unit, InferenceConvolution c,
                                                    Value& in) {
  const Dims pad = c.shape.pad_before, exact = dims_of(in.desc);
  if (unit.inputs[0] != 0 || unit.residual >= 0 || pad == Dims{0, 0}) return std::nullopt;
  const DataType type = type_of(in.desc);
  const Dims whole{exact[0], exact[1], exact[2] + 2 * pad[0], exact[3] + 2 * pad[1]};
  c.shape.src = make_desc(whole, type, Tag::nchw);
  c.shape.dst = picture(unit.output, settings_.type);
  c.shape.pad_before = c.shape.pad_after = {0, 0};
  auto made = try_convolution(engine_, c);
  if (!made) return std::nullopt;
  const auto bytes = padded_bytes(c.shape.src);
  // The zeros are written once, the pixels by every run.
  const Value copy{
      c.shape.src,
      program_.add_constant(bytes, [bytes](std::byte* to) { std::fill_n(to, bytes, std::byte{}); }),
      in.scale};
  const Desc middle = copy.desc.submemory_desc(exact, {0, 0, pad[0], pad[1]});
  move(info(unit.node).name, in, {middle, copy.place}, 1);
  in = copy;
  return made;
}

void Builder::add_linear(const Unit& unit) {
  const bool integer = choice_.computes(unit);
  const Value in = integer ? integers(unit.inputs[0]) : real(unit.inputs[0]);
  if (dims_of(in.desc).size() != 2) {
    throw std::invalid_argument("onednn: node '" + info(unit.node).name +
                                "': a linear layer after '" + info(unit.inputs[0]).name +
                                "' needs a flatten between them");
  }
  Value out;
  InferenceLinear linear;
  linear.shape.src = in.desc;
  set_weights(unit, linear.shape.weights, linear.shape.bias, linear.epilogue, in.scale);
  set_output(unit, linear.shape.dst, linear.epilogue, out);
  InferenceMade made = make_inference_linear(engine_, linear);
  out.desc = made.dst;
  out.place = place_for(unit.output, out.desc);
  finish(unit, weighted_step(unit, std::move(made), in, out, linear.epilogue), out);
}

void Builder::set_weights(const Unit& unit, Desc& weights, Desc& bias, Epilogue& epilogue,
                          float in_scale) {
  const Folded folded = fold(net_, unit, trained_);
  const bool integer = choice_.computes(unit);
  const DataType type = integer ? DataType::s8 : settings_.type;
  weights = make_desc(folded.dims, type, Tag::any);
  bias = make_desc({static_cast<std::int64_t>(folded.bias.size())}, DataType::f32, Tag::a);
  if (!integer) {
    if (settings_.peaks != nullptr) report_.float_layers.push_back(info(unit.node).name);
    return;
  }
  ++report_.integer_layers;
  for (const float step : quantize(folded, settings_.largest_weight).steps) {
    epilogue.scales.push_back(step * in_scale);
  }
}

Step Builder::weighted_step(const Unit& unit, InferenceMade made, const Value& in, const Value& out,
                            const Epilogue& epilogue) {
  Step step;
  step.operands = {{DNNL_ARG_SRC, in.desc, in.place},
                   {DNNL_ARG_DST, out.desc, out.place},
                   weights(unit, made.weights),
                   bias(unit, epilogue)};
  step.bytes = traffic(in, out) + static_cast<double>(padded_bytes(made.weights));
  step.gflop = gflop(unit);
  step.made = std::move(made);
  return step;
}

double Builder::gflop(const Unit& unit) const {
  double products = static_cast<double>(info(unit.node).shape.elements()) * settings_.batch;
  for (const Parameter& parameter : net_.parameters()) {
    if (parameter.node != unit.node || parameter.dims.size() < 2) continue;
    products *= static_cast<double>(parameter.elements() / parameter.dims[0]);
  }
  return 2e-9 * products;
}

void Builder::fill_weights(const Unit& unit, const Desc& desc, std::byte* to) const {
  Folded folded = fold(net_, unit, trained_);
  const auto rank = folded.dims.size();
  const Tag tag = rank == 5 ? Tag::goihw : rank == 4 ? Tag::oihw : Tag::ab;
  if (choice_.computes(unit)) {
    const IntegerWeights integers = quantize(folded, settings_.largest_weight);
    return reorder_now(engine_, make_desc(folded.dims, DataType::s8, tag), integers.integers.data(),
                       desc, to);
  }
  float* first = folded.weights.data();
  const Kernels& table = kernels(channel_block(), Storage::kBfloat);
  if (settings_.rounds) table.round(first, first, std::ssize(folded.weights));
  reorder_now(engine_, make_desc(folded.dims, DataType::f32, tag), first, desc, to);
}

Operand Builder::weights(const Unit& unit, const Desc& desc) {
  const auto fill = [this, unit, desc](std::byte* to) { fill_weights(unit, desc, to); };
  return {DNNL_ARG_WEIGHTS, desc, program_.add_constant(padded_bytes(desc), fill)};
}

Operand Builder::bias(const Unit& unit, const Epilogue& epilogue) {
  const std::vector<float> values = stored_bias(fold(net_, unit, trained_).bias, epilogue);
  const auto bytes = static_cast<std::int64_t>(values.size() * sizeof(float));
  const Desc desc = make_desc({static_cast<std::int64_t>(values.size())}, DataType::f32, Tag::a);
  const auto fill = [values](std::byte* to) {
    std::memcpy(to, values.data(), values.size() * sizeof(float));
  };
  return {DNNL_ARG_BIAS, desc, program_.add_constant(bytes, fill)};
}

}  // namespace rackmark::worker::onednn

#include <cstring>
#include <functional>

#include "worker/backend/onednn/direct_convolution.hpp"
#include "worker/backend/onednn/inference/builder.hpp"
#include "worker/backend/onednn/winograd.hpp"

namespace rackmark::worker::onednn {

// A convolution of ours: what it needs, and what it does with it.
struct Builder::OwnConvolution {
  std::string name;
  std::int64_t weight_floats = 0, bias_floats = 0, work_floats = 0;
  std::function<void(const float* weights, float* to)> arrange;  // once, from blocked weights
  struct Run {
    const float *x, *weights;
    ConvolutionEnd end;
    float *y, *work;
  };
  std::function<void(const Run&)> run;
};

namespace {

std::int64_t bytes_of(std::int64_t floats) { return floats * std::int64_t{sizeof(float)}; }

}  // namespace

// By shape, as in training.
std::optional<Builder::OwnConvolution> Builder::own_convolution(
    const ConvolutionShape& shape) const {
  OwnConvolution own;
  const auto set_run = [&own](const auto& plan) {
    own.run = [plan](const OwnConvolution::Run& r) {
      plan.convolve(r.x, r.weights, r.end, r.y, r.work);
    };
  };
  const std::int64_t block = channel_block();
  if (const auto plan = settings_.winograd ? Winograd::plan(shape) : std::nullopt) {
    own.name = plan->name();
    own.weight_floats = plan->point_floats();
    own.bias_floats = (dims_of(shape.dst)[1] + block - 1) / block * block;
    own.work_floats = plan->work_floats();
    own.arrange = [plan](const float* weights, float* to) { plan->transform(weights, to); };
    set_run(*plan);
    return own;
  }
  if (const auto plan = DirectConvolution::plan(shape)) {
    own.name = "rackmark:avx512_direct";
    own.weight_floats = plan->weight_floats();
    own.bias_floats = plan->bias_floats();
    own.work_floats = plan->work_floats();
    own.arrange = [plan](const float* weights, float* to) { plan->arrange(weights, to); };
    set_run(*plan);
    return own;
  }
  return std::nullopt;
}

bool Builder::add_own_convolution(const Unit& unit) {
  const auto* layer = std::get_if<Conv2d>(&info(unit.node).layer);
  const bool wanted =
      layer != nullptr && settings_.type == DataType::f32 && !choice_.computes(unit);
  if (!wanted) return false;
  const auto is_blocked = [this](int id) { return values_[id].desc == picture(id, DataType::f32); };
  if (!is_blocked(unit.inputs[0]) || (unit.residual >= 0 && !is_blocked(unit.residual)))
    return false;
  const Value in = values_[unit.inputs[0]];
  Value out;
  ConvolutionShape shape;
  shape.src = in.desc;
  shape.dst = out.desc = picture(unit.output, DataType::f32);
  const Dims kernel{layer->out, info(unit.inputs[0]).shape.channels, layer->kernel_h,
                    layer->kernel_w};
  shape.weights = make_desc(kernel, blocked_weights(channel_block()));
  shape.strides = {layer->stride, layer->stride};
  shape.pad_before = shape.pad_after = {layer->pad_h, layer->pad_w};
  const auto own = own_convolution(shape);
  if (!own) return false;
  out.place = unit.residual >= 0 ? values_[unit.residual].place : place_for(unit.output, out.desc);
  Step step;
  step.implementation = own->name;
  step.gflop = gflop(unit);
  step.bytes = traffic(in, out) + static_cast<double>(padded_bytes(shape.weights));
  const auto arrange = [this, unit, desc = shape.weights, own](std::byte* to) {
    std::vector<float> plain(padded_values(desc));
    fill_weights(unit, desc, reinterpret_cast<std::byte*>(plain.data()));
    own->arrange(plain.data(), reinterpret_cast<float*>(to));
  };
  const auto add_buffer = [this](std::int64_t bytes) {
    return Place{Place::Kind::kArena, program_.arena().add(bytes, program_.event()), 0};
  };
  step.operands = {{0, in.desc, in.place},
                   {0, out.desc, out.place},
                   {0, {}, program_.add_constant(bytes_of(own->weight_floats), arrange)},
                   {0, {}, padded_bias(unit, own->bias_floats)},
                   {0, {}, add_buffer(bytes_of(own->work_floats))}};
  step.own = [run = own->run, sum = unit.residual >= 0,
              relu = unit.relu](const std::vector<std::byte*>& at) {
    const auto floats = [&at](int i) { return reinterpret_cast<float*>(at[i]); };
    run({floats(0), floats(2), {floats(3), sum, relu}, floats(1), floats(4)});
  };
  if (settings_.peaks != nullptr) report_.float_layers.push_back(info(unit.node).name);
  finish(unit, std::move(step), out);
  return true;
}

// With zeros in the channels that fill the last block, or pair of blocks.
Place Builder::padded_bias(const Unit& unit, std::int64_t floats) {
  std::vector<float> bias = fold(net_, unit, trained_).bias;
  bias.resize(static_cast<std::size_t>(floats));
  return program_.add_constant(bytes_of(floats), [bias](std::byte* to) {
    std::memcpy(to, bias.data(), bias.size() * sizeof(float));
  });
}

}  // namespace rackmark::worker::onednn

#include <cstring>

#include "worker/backend/onednn/inference/builder.hpp"
#include "worker/backend/onednn/winograd.hpp"

namespace rackmark::worker::onednn {
namespace {

std::int64_t bytes_of(std::int64_t floats) { return floats * std::int64_t{sizeof(float)}; }

}  // namespace

// By shape, as in training. The transformed weights, four times as many, are made once.
bool Builder::add_winograd(const Unit& unit) {
  const auto* layer = std::get_if<Conv2d>(&info(unit.node).layer);
  const bool wanted = settings_.winograd && layer != nullptr && settings_.type == DataType::f32 &&
                      !choice_.computes(unit);
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
  const auto winograd = Winograd::plan(shape);
  if (!winograd) return false;
  out.place = unit.residual >= 0 ? values_[unit.residual].place : place_for(unit.output, out.desc);
  Step step;
  const std::int64_t block = winograd->block_size();
  step.implementation = winograd->name();
  step.gflop = gflop(unit);
  step.bytes = traffic(in, out) + static_cast<double>(padded_bytes(shape.weights));
  const auto transform = [this, unit, desc = shape.weights, winograd](std::byte* to) {
    std::vector<float> plain(padded_values(desc));
    fill_weights(unit, desc, reinterpret_cast<std::byte*>(plain.data()));
    winograd->transform(plain.data(), reinterpret_cast<float*>(to));
  };
  const auto add_buffer = [this](std::int64_t bytes) {
    return Place{Place::Kind::kArena, program_.arena().add(bytes, program_.event()), 0};
  };
  step.operands = {{0, in.desc, in.place},
                   {0, out.desc, out.place},
                   {0, {}, program_.add_constant(bytes_of(winograd->point_floats()), transform)},
                   {0, {}, padded_bias(unit, block)},
                   {0, {}, add_buffer(bytes_of(winograd->work_floats()))}};
  step.own = [winograd, sum = unit.residual >= 0,
              relu = unit.relu](const std::vector<std::byte*>& at) {
    const auto floats = [&at](int i) { return reinterpret_cast<float*>(at[i]); };
    winograd->convolve(floats(0), floats(2), {floats(3), sum, relu}, floats(1), floats(4));
  };
  if (settings_.peaks != nullptr) report_.float_layers.push_back(info(unit.node).name);
  finish(unit, std::move(step), out);
  return true;
}

// With zeros in the channels that fill the last block.
Place Builder::padded_bias(const Unit& unit, std::int64_t block) {
  std::vector<float> bias = fold(net_, unit, trained_).bias;
  bias.resize((std::ssize(bias) + block - 1) / block * block);
  return program_.add_constant(bytes_of(std::ssize(bias)), [bias](std::byte* to) {
    std::memcpy(to, bias.data(), bias.size() * sizeof(float));
  });
}

}  // namespace rackmark::worker::onednn

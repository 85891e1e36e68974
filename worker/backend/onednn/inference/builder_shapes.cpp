// Layers without weights.
#include <algorithm>
#include <stdexcept>

#include "worker/backend/onednn/inference/builder.hpp"
#include "worker/backend/onednn/kernels/kernels.hpp"
#include "worker/backend/onednn/threads.hpp"

namespace rackmark::worker::onednn {
namespace {

// In ceil mode the last window hangs over the end: more padding after than before.
void set_inference_windows(PoolingShape& shape, const Shape& in, const Shape& out, int kernel,
                           int stride, int pad) {
  const auto after = [&](int extent, int windows) {
    return std::max(0, (windows - 1) * stride + kernel - extent - pad);
  };
  shape.kernel = {kernel, kernel};
  shape.strides = {stride, stride};
  shape.pad_before = {pad, pad};
  shape.pad_after = {after(in.height, out.height), after(in.width, out.width)};
}

// False: the windows of an adaptive pool differ in size.
bool set_inference_pool(PoolingShape& shape, const Layer& layer, const Shape& in,
                        const Shape& out) {
  if (const auto* max = std::get_if<MaxPool>(&layer)) {
    set_inference_windows(shape, in, out, max->kernel, max->stride, max->pad);
    return true;
  }
  shape.kind = PoolingKind::kAverageWithPadding;
  if (const auto* average = std::get_if<AveragePool>(&layer)) {
    set_inference_windows(shape, in, out, average->kernel, average->stride, average->pad);
    return true;
  }
  if (in.height % out.height != 0 || in.width % out.width != 0) return false;
  shape.kernel = shape.strides = {in.height / out.height, in.width / out.width};
  shape.pad_before = shape.pad_after = {0, 0};
  return true;
}

// Means over windows of equal share of `in` rows and columns, which overlap where in % out != 0.
void pool_unevenly(const float* x, float* y, const Shape& in, const Shape& out,
                   std::int64_t planes) {
#pragma omp parallel for
  for (std::int64_t plane = 0; plane < planes; ++plane) {
    const float* from = x + plane * in.height * in.width;
    float* to = y + plane * out.height * out.width;
    for (int row = 0; row < out.height; ++row) {
      const int top = row * in.height / out.height;
      const int bottom = ((row + 1) * in.height + out.height - 1) / out.height;
      for (int column = 0; column < out.width; ++column) {
        const int left = column * in.width / out.width;
        const int right = ((column + 1) * in.width + out.width - 1) / out.width;
        double sum = 0;
        for (int h = top; h < bottom; ++h)
          for (int w = left; w < right; ++w) sum += from[h * in.width + w];
        to[row * out.width + column] = static_cast<float>(sum / ((bottom - top) * (right - left)));
      }
    }
  }
}

}  // namespace

// oneDNN's max pool reaches a tenth of the memory's speed.
bool Builder::add_own_max_pool(const Unit& unit) {
  const auto* layer = std::get_if<MaxPool>(&info(unit.node).layer);
  const int input = unit.inputs[0];
  if (layer == nullptr || layer->kernel > kLargestMaxPool || choice_.stores(unit.output)) {
    return false;
  }
  const Value in = blocked(input);
  Value out;
  out.desc = picture(unit.output, settings_.type);
  out.place = place_for(unit.output, out.desc);
  const Kernels& table = own_kernels();
  Step step;
  step.implementation = table.isa;
  step.operands = {{0, in.desc, in.place}, {0, out.desc, out.place}};
  step.own = [&table, pool = *layer, storage = storage(), from = pictures(input),
              to = info(unit.output).shape](const std::vector<std::byte*>& at) {
    max_pool(table, pool, from, to, {at[0], storage}, {at[1], storage}, nullptr);
  };
  step.bytes = traffic(in, out);
  finish(unit, std::move(step), out);
  return true;
}

void Builder::add_pool(const Unit& unit) {
  if (add_own_max_pool(unit)) return;
  PoolingShape shape;
  const int input = unit.inputs[0];
  if (!set_inference_pool(shape, info(unit.node).layer, info(input).shape,
                          info(unit.output).shape)) {
    return add_uneven_pool(unit);
  }
  Value in = as_stored(input, unit.output), out;
  out.scale = in.scale;
  shape.src = in.desc;
  shape.dst = make_desc(dims(unit.output), type_of(in.desc), Tag::any);
  Step step;
  step.made = make_inference_pooling(engine_, shape);
  if (step.made.implementation.find("jit") == std::string::npos &&
      type_of(in.desc) == settings_.type && input != 0) {
    in = converted(input, picture(input, settings_.type), 1, 1);
    shape.src = in.desc;
    step.made = make_inference_pooling(engine_, shape);
  }
  out.desc = step.made.dst;
  out.place = place_for(unit.output, out.desc);
  step.operands = {{DNNL_ARG_SRC, in.desc, in.place}, {DNNL_ARG_DST, out.desc, out.place}};
  step.bytes = traffic(in, out);
  finish(unit, std::move(step), out);
}

void Builder::add_uneven_pool(const Unit& unit) {
  const Value in = plain_floats(unit.inputs[0]);
  Value out;
  out.desc = make_desc(dims(unit.output), DataType::f32, Tag::nchw);
  out.place = place_for(unit.output, out.desc);
  const Shape from = info(unit.inputs[0]).shape, to = info(unit.output).shape;
  const std::int64_t planes = std::int64_t{settings_.batch} * from.channels;
  Step step;
  step.implementation = "uneven average windows";
  step.operands = {{0, in.desc, in.place}, {0, out.desc, out.place}};
  step.own = [from, to, planes](const std::vector<std::byte*>& at) {
    pool_unevenly(reinterpret_cast<const float*>(at[0]), reinterpret_cast<float*>(at[1]), from, to,
                  planes);
  };
  step.bytes = traffic(in, out);
  finish(unit, std::move(step), out);
}

// oneDNN has fast kernels for a window of 5 only.
void Builder::add_lrn(const Unit& unit) {
  const auto layer = std::get<LocalResponseNorm>(info(unit.node).layer);
  const int input = unit.inputs[0];
  const Value in = blocked(input);
  Value out;
  out.desc = in.desc;
  out.place = place_for(unit.output, out.desc);
  const Kernels& table = own_kernels();
  Step step;
  step.implementation = table.isa;
  step.operands = {{0, in.desc, in.place}, {0, out.desc, out.place}};
  step.own = [&table, layer, storage = storage(),
              pictures = pictures(input)](const std::vector<std::byte*>& at) {
    response_norm(table, layer, pictures, {at[0], storage}, {}, {at[1], storage});
  };
  step.bytes = traffic(in, out);
  finish(unit, std::move(step), out);
}

// Blocked by channel to plain (N, C*H*W). Nothing to do where both are the same bytes: 1x1 pictures
// with full blocks, or an input that is plain already.
void Builder::add_flatten(const Unit& unit) {
  const int input = unit.inputs[0];
  const Value in = as_stored(input, unit.output);
  const DataType type = type_of(in.desc);
  const Desc flat = make_desc({settings_.batch, info(unit.output).shape.channels}, type, Tag::nc);
  const Desc plain = make_desc(dims(input), type, Tag::nchw);
  const Shape& shape = info(input).shape;
  const bool pixel = shape.height == 1 && shape.width == 1;
  const bool same =
      in.desc == flat || in.desc == plain || (pixel && padded_bytes(in.desc) == padded_bytes(flat));
  const bool alone = readers_of(net_, units_)[input].size() == 1;
  if (same && alone && in.place.kind == Place::Kind::kArena) {
    values_[unit.output] = {flat, in.place, in.scale};
    return;
  }
  const Value copy =
      reordered(info(unit.node).name, in, dims_of(in.desc).size() == 2 ? flat : plain, 1);
  values_[unit.output] = {flat, copy.place, in.scale};
}

void Builder::add_concat(const Unit& unit) {
  if (join_in_place(unit)) return;
  Step step;
  std::vector<Desc> parts;
  Value out;
  for (std::size_t i = 0; i < unit.inputs.size(); ++i) {
    const Value part = as_stored(unit.inputs[i], unit.output);
    out.scale = part.scale;
    parts.push_back(part.desc);
    step.operands.push_back({DNNL_ARG_MULTIPLE_SRC + static_cast<int>(i), part.desc, part.place});
  }
  step.made = make_concat(engine_, parts);
  out.desc = step.made.dst;
  out.place = place_for(unit.output, out.desc);
  step.operands.push_back({DNNL_ARG_DST, out.desc, out.place});
  step.bytes = 2 * static_cast<double>(padded_bytes(out.desc));
  finish(unit, std::move(step), out);
}

// Parts that are not there yet are copied there.
bool Builder::join_in_place(const Unit& unit) {
  const auto slot = concat_slots_.find(unit.output);
  if (slot == concat_slots_.end()) return false;
  const Desc whole = picture(unit.output, settings_.type);
  std::int64_t offset = 0;
  for (const int input : unit.inputs) {
    const Value part = real(input);
    const Desc there = picture(input, settings_.type);
    const Value target{there, {Place::Kind::kArena, slot->second, offset}, 1};
    offset += padded_bytes(there);
    const bool made_there =
        part.place.kind == Place::Kind::kArena && part.place.slot == slot->second;
    if (!made_there) move(info(unit.node).name, part, target, 1);
  }
  values_[unit.output] = {whole, {Place::Kind::kArena, slot->second, 0}, 1};
  return true;
}

// ReLU and Add where no layer before could take them.
void Builder::add_elementwise(const Unit& unit) {
  const Value& leading = values_[unit.inputs[0]];
  const bool as_is =
      type_of(leading.desc) == DataType::f32 && leading.place.kind == Place::Kind::kArena;
  const Desc like = as_is ? leading.desc : plain_floats(unit.inputs[0]).desc;
  Value out;
  out.desc = like;
  const std::int64_t count = padded_bytes(like) / static_cast<std::int64_t>(sizeof(float));
  Step step;
  for (const int input : unit.inputs) {
    const Value in = input == 0 ? plain_floats(0) : floats(input, like);
    step.operands.push_back({0, in.desc, in.place});
  }
  out.place = place_for(unit.output, out.desc);
  step.operands.push_back({0, out.desc, out.place});
  const Kernels& table = kernels(channel_block());
  step.implementation = table.isa;
  const bool sum = unit.inputs.size() == 2;
  step.own = [&table, count, sum](const std::vector<std::byte*>& at) {
    const auto* a = reinterpret_cast<const float*>(at[0]);
    const auto* b = reinterpret_cast<const float*>(at[1]);
    auto* y = reinterpret_cast<float*>(at.back());
    parallel_ranges(count, [&](std::int64_t first, std::int64_t last) {
      if (sum) return table.sum(a + first, b + first, y + first, last - first);
      table.relu(a + first, y + first, last - first);
    });
  };
  step.bytes = 4.0 * static_cast<double>(count) * static_cast<double>(step.operands.size());
  finish(unit, std::move(step), out);
}

}  // namespace rackmark::worker::onednn

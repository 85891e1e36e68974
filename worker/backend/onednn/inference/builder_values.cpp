#include <algorithm>

#include "worker/backend/onednn/inference/builder.hpp"
#include "worker/backend/onednn/threads.hpp"

namespace rackmark::worker::onednn {
namespace {

constexpr float kUnsignedSteps = 255, kSignedSteps = 127;

bool is_integer(DataType type) { return type == DataType::u8 || type == DataType::s8; }

}  // namespace

Dims Builder::dims(int id) const {
  const Shape& s = info(id).shape;
  return {settings_.batch, s.channels, s.height, s.width};
}

Desc Builder::picture(int id, DataType type) const {
  return make_desc(dims(id), type, blocked_pictures(channel_block()));
}

// At batch 1 a join of pictures blocked by channel is its parts one after the other, so the makers
// of the parts may write into the join.
void Builder::find_parts() {
  if (settings_.batch != 1) return;
  const std::int64_t block = channel_block();
  const auto readers = readers_of(net_, units_);
  for (const Unit& unit : units_) {
    if (!std::holds_alternative<Concat>(info(unit.node).layer) || choice_.stores(unit.output)) {
      continue;
    }
    std::map<int, Part> parts;
    std::int64_t channel = 0;
    bool aligned = true;
    for (const int input : unit.inputs) {
      aligned = aligned && channel % block == 0;  // else a part begins inside a block
      const bool once = std::count(unit.inputs.begin(), unit.inputs.end(), input) == 1;
      if (once && input != 0 && readers[input].size() == 1) parts[input] = {unit.output, channel};
      channel += info(input).shape.channels;
    }
    if (aligned) parts_.merge(parts);
  }
}

Place Builder::place_for(int id, const Desc& desc) {
  const auto part = parts_.find(id);
  if (part == parts_.end() || desc != picture(id, settings_.type)) {
    return {Place::Kind::kArena, program_.arena().add(padded_bytes(desc), program_.event()), 0};
  }
  const auto [concat, channel] = part->second;
  const Desc whole = picture(concat, settings_.type);
  if (!concat_slots_.contains(concat)) {
    concat_slots_[concat] = program_.arena().add(padded_bytes(whole), program_.event());
  }
  const Shape& s = info(id).shape;
  const std::int64_t element = settings_.type == DataType::f32 ? 4 : 2;
  return {Place::Kind::kArena, concat_slots_[concat], channel * s.height * s.width * element};
}

Builder::Value Builder::reordered(const std::string& node, const Value& from, const Desc& to,
                                  float factor) {
  Value result{to, {}, from.scale};
  result.place = {Place::Kind::kArena, program_.arena().add(padded_bytes(to), program_.event()), 0};
  move(node, from, result, factor);
  return result;
}

// Copies `from` to where `to` lies, in its layout and type.
void Builder::move(const std::string& node, const Value& from, const Value& to, float factor) {
  Step step;
  step.node = node;
  step.made = make_scaling_reorder(engine_, from.desc, to.desc, factor);
  step.operands = {{DNNL_ARG_FROM, from.desc, from.place}, {DNNL_ARG_TO, to.desc, to.place}};
  step.bytes = traffic(from, to);
  program_.add(std::move(step));
}

Builder::Value Builder::converted(int id, const Desc& to, float factor, float scale) {
  const Value& from = values_[id];
  if (from.desc == to) return from;
  const std::string key = layout_text(to) + std::to_string(static_cast<int>(type_of(to)));
  const auto known = conversions_.find({id, key});
  if (known != conversions_.end()) return known->second;
  Value result = reordered(info(id).name, from, to, factor);
  result.scale = scale;
  conversions_[{id, key}] = result;
  return result;
}

Builder::Value Builder::real(int id) {
  const Value& from = values_[id];
  const DataType type = type_of(from.desc);
  if (type == settings_.type) return from;
  const float factor = is_integer(type) ? from.scale : 1.0F;
  if (dims_of(from.desc).size() == 2) {
    return converted(id, make_desc(dims_of(from.desc), settings_.type, Tag::nc), factor, 1);
  }
  const bool input = from.place.kind == Place::Kind::kInput;
  return converted(
      id, input ? make_desc(dims(id), settings_.type, Tag::nchw) : picture(id, settings_.type),
      factor, 1);
}

// As own kernels want it.
Builder::Value Builder::blocked(int id) {
  const DataType type = type_of(values_[id].desc);
  return converted(id, picture(id, settings_.type), is_integer(type) ? values_[id].scale : 1.0F, 1);
}

Builder::Value Builder::integers(int id) {
  const Value& from = values_[id];
  if (is_integer(type_of(from.desc))) return from;
  const bool positive = choice_.non_negative(id);
  const float scale = peaks_[id] / (positive ? kUnsignedSteps : kSignedSteps);
  const bool flat = dims_of(from.desc).size() == 2;
  const Desc to = make_desc(dims_of(from.desc), positive ? DataType::u8 : DataType::s8,
                            flat ? Tag::nc : Tag::nhwc);
  return converted(id, to, 1 / scale, scale);
}

Builder::Value Builder::as_stored(int id, int like) {
  return choice_.stores(like) ? integers(id) : real(id);
}

Builder::Value Builder::floats(int id, const Desc& like) {
  const Value& from = values_[id];
  const bool fits = dims_of(like).size() == dims_of(from.desc).size();
  if (!fits) return plain_floats(id);
  return converted(id, like, is_integer(type_of(from.desc)) ? from.scale : 1.0F, 1);
}

Builder::Value Builder::plain_floats(int id) {
  const Value& from = values_[id];
  const bool flat = dims_of(from.desc).size() == 2;
  const Desc to = make_desc(dims_of(from.desc), DataType::f32, flat ? Tag::nc : Tag::nchw);
  if (from.desc == to && from.place.kind == Place::Kind::kInput) {
    return reordered(info(id).name, from, to, 1);
  }
  return converted(id, to, is_integer(type_of(from.desc)) ? from.scale : 1.0F, 1);
}

void Builder::set_output(const Unit& unit, Desc& dst, Epilogue& epilogue, Value& out) {
  const bool integer = choice_.computes(unit) && choice_.stores(unit.output);
  const DataType type = !integer ? settings_.type : unit.relu ? DataType::u8 : DataType::s8;
  epilogue.relu = unit.relu;
  if (integer) {
    out.scale = peaks_[unit.output] / (unit.relu ? kUnsignedSteps : kSignedSteps);
    epilogue.dst_scale = out.scale;
  }
  const bool flat = info(unit.output).shape.height == 1 && info(unit.output).shape.width == 1 &&
                    std::holds_alternative<Linear>(info(unit.node).layer);
  dst = flat ? make_desc({settings_.batch, info(unit.output).shape.channels}, type, Tag::nc)
             : make_desc(dims(unit.output), type, Tag::any);
  if (unit.residual < 0) return;
  Value residual = integer ? integers(unit.residual) : real(unit.residual);
  if (integer) {
    // The result takes the residual's bytes; only nhwc can be named with another type.
    const Desc plain = make_desc(dims(unit.output), type_of(residual.desc), Tag::nhwc);
    if (residual.desc != plain) {
      residual = reordered(info(unit.residual).name, residual, plain, 1);
    }
    dst = make_desc(dims(unit.output), type, Tag::nhwc);
    epilogue.sum_scale = residual.scale;
    epilogue.sum_type = type_of(residual.desc);
  } else {
    if (choice_.computes(unit)) {  // integer kernels know pictures in nhwc only
      residual = floats(unit.residual, make_desc(dims(unit.output), DataType::f32, Tag::nhwc));
    }
    dst = residual.desc;
  }
  epilogue.sum = true;
  out.place = residual.place;
}

void Builder::finish(const Unit& unit, Step step, const Value& out) {
  step.node = info(unit.node).name;
  step.value = unit.output;
  step.made_value = {0, out.desc, out.place};
  step.value_scale = out.scale;
  program_.add(std::move(step));
  values_[unit.output] = out;
  if (settings_.rounds) round(info(unit.node).name, out);
}

// To what bf16 would have kept of it.
void Builder::round(const std::string& node, const Value& value) {
  const Kernels& table = kernels(channel_block(), Storage::kBfloat);
  const std::int64_t count = padded_values(value.desc);
  Step step;
  step.node = node;
  step.implementation = std::string("round to bf16 ") + table.isa;
  step.operands = {{0, value.desc, value.place}};
  step.own = [&table, count](const std::vector<std::byte*>& at) {
    auto* values = reinterpret_cast<float*>(at[0]);
    parallel_ranges(count, [&](std::int64_t first, std::int64_t last) {
      table.round(values + first, values + first, last - first);
    });
  };
  step.bytes = 2 * static_cast<double>(padded_bytes(value.desc));
  program_.add(std::move(step));
}

Storage Builder::storage() const {
  return settings_.type == DataType::bf16 ? Storage::kBfloat : Storage::kFloat;
}

const Kernels& Builder::own_kernels() const { return kernels(channel_block(), storage()); }

PictureBatch Builder::pictures(int id) const {
  return {settings_.batch, channel_block(), info(id).shape};
}

double Builder::traffic(const Value& a, const Value& b) {
  return static_cast<double>(padded_bytes(a.desc) + padded_bytes(b.desc));
}

}  // namespace rackmark::worker::onednn

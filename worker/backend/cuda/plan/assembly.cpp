#include "worker/backend/cuda/plan/assembly.hpp"

#include <algorithm>
#include <stdexcept>

namespace rackmark::worker::cuda {
namespace {

// Where libraries let a row begin that lies among others.
constexpr std::int64_t kLoadBytes = 16;
bool is_aligned(std::int64_t values, Type type) { return values * width(type) % kLoadBytes == 0; }

}  // namespace

int Assembly::parameter(int node, const char* leaf) const {
  const std::string name = net.nodes()[node].name + '.' + leaf;
  const auto& all = net.parameters();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const auto& p) { return p.name == name; });
  if (found == all.end()) throw std::logic_error("cuda: no parameter '" + name + "'");
  return static_cast<int>(found - all.begin());
}

int Assembly::statistic(int node, const char* leaf) const {
  const std::string name = net.nodes()[node].name + ".running_" + leaf;
  const auto& all = net.running_statistics();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const auto& s) { return s.name == name; });
  if (found == all.end()) throw std::logic_error("cuda: no statistic '" + name + "'");
  return static_cast<int>(found - all.begin());
}

void Assembly::need_scratch(std::int64_t bytes) { scratch_bytes = std::max(scratch_bytes, bytes); }

Place Assembly::add_place(std::int64_t row_count, int channels, Type of) {
  Place place{.rows = row_count, .channels = channels, .stride = channels, .type = of};
  place.slot = add_buffer(place.bytes());
  return place;
}

void Assembly::place_in_concat(int id, int concat, const std::vector<int>& parts) {
  int first = 0;
  for (const int part : parts) {
    if (part == id) break;
    first += node(part).shape.channels;
  }
  const Type of = values[id].type;
  if (!is_aligned(first, of) || !is_aligned(node(concat).shape.channels, of)) return;
  values[id].concat = concat;
  values[id].first_channel = first;
}

Place Assembly::whole_concat(int id) {
  Value& value = values[id];
  if (!value.place.exists()) define(id);
  return use(id);
}

Place Assembly::define(int id) {
  Value& value = values[id];
  value.shape = value.order = node(id).shape;
  const std::int64_t pixels = rows(value.shape);
  if (value.concat < 0) {
    value.place = add_place(pixels, value.shape.channels, value.type);
  } else {
    value.place = whole_concat(value.concat);
    value.place.offset += value.first_channel;
    value.place.channels = value.shape.channels;
  }
  return value.place;
}

Place Assembly::define_flat(int id, Type of) {
  Value& value = values[id];
  value.shape = value.order = node(id).shape;
  value.is_flat = true;
  value.place = add_place(batch, static_cast<int>(value.shape.elements()), of);
  return value.place;
}

void Assembly::define_as(int id, const Place& place, bool is_flat, const Shape& order) {
  Value& value = values[id];
  value.shape = node(id).shape;
  value.order = order;
  value.is_flat = is_flat;
  value.place = use(place);
}

Place Assembly::use(const Place& place) {
  arena.use(place.slot, event);
  return place;
}

Place Assembly::use(int id) { return use(values[id].place); }

Place Assembly::take_gradient(int id) {
  if (!values[id].gradient.exists()) {
    throw std::invalid_argument("cuda: node '" + node(id).name + "' does not reach a loss");
  }
  return use(values[id].gradient);
}

GradientTarget Assembly::gradient_target(int id) {
  Value& value = values[id];
  if (!value.needs_gradient) return {};
  if (value.gradient.exists()) return {use(value.gradient), true};
  const Place& like = value.place;
  value.gradient = add_place(like.rows, like.channels, type);
  return {value.gradient, false};
}

bool Assembly::hand_over(const Place& gradient, int id) {
  Value& value = values[id];
  if (!value.needs_gradient) return true;
  const bool fits = gradient.rows == value.place.rows &&
                    gradient.channels == value.place.channels && gradient.type == type;
  const bool loads = gradient.is_dense() || (is_aligned(gradient.offset, gradient.type) &&
                                             is_aligned(gradient.stride, gradient.type));
  if (value.gradient.exists() || !fits || !loads) return false;
  value.gradient = use(gradient);
  return true;
}

}  // namespace rackmark::worker::cuda

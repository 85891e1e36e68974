#include "worker/backend/onednn/op.hpp"

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <utility>

#include "worker/backend/onednn/threads.hpp"

namespace rackmark::worker::onednn {

int Assembly::parameter(int id, const char* leaf) const {
  const std::string wanted = node(id).name + "." + leaf;
  const auto& all = net.parameters();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const auto& p) { return p.name == wanted; });
  if (found == all.end()) throw std::logic_error("onednn: net has no parameter " + wanted);
  return static_cast<int>(found - all.begin());
}

int Assembly::statistic(int id, const char* leaf) const {
  const std::string wanted = node(id).name + "." + leaf;
  const auto& all = net.running_statistics();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const auto& s) { return s.name == wanted; });
  if (found == all.end()) throw std::logic_error("onednn: net has no statistic " + wanted);
  return static_cast<int>(found - all.begin());
}

Desc Assembly::picture(const Shape& s) const {
  return make_desc({batch, s.channels, s.height, s.width}, stored, blocked_pictures(block));
}

Desc Assembly::flat(std::int64_t values) const {
  return make_desc({batch, values}, stored, Tag::nc);
}

bool Assembly::is_only_a_loss(int id) const {
  const auto& nodes = net.nodes();
  const auto reads = [id](const NodeInfo& node) {
    return std::find(node.inputs.begin(), node.inputs.end(), id) != node.inputs.end();
  };
  return std::none_of(nodes.begin(), nodes.end(), reads);
}

void Assembly::define(int id, const Desc& desc) {
  values[id].desc = desc;
  values[id].slot = add_buffer(padded_bytes(desc));
}

void Assembly::define_in_place(int id) {
  const Placement& place = placements[id];
  Value& whole = values[place.concat];
  if (whole.slot < 0) define(place.concat, picture(node(place.concat).shape));
  use(place.concat);
  const Shape& shape = node(place.concat).shape;
  const std::int64_t pixels = std::int64_t{shape.height} * shape.width;
  values[id].desc = picture(node(id).shape);
  values[id].slot = whole.slot;
  values[id].offset = place.first_channel * pixels;
  values[id].image_stride = block_count(shape) * block * pixels;
}

int Assembly::use(int id) {
  const int slot = values[id].slot;
  if (slot < 0) throw std::logic_error("onednn: node " + node(id).name + " was merged away");
  arena.use(slot, event);
  return slot;
}

void Assembly::need_scratch(std::int64_t bytes) { scratch_bytes = std::max(scratch_bytes, bytes); }

void Pass::run(const std::string& node, const char* pass, const std::string& implementation,
               double flop, double bytes, const std::function<void()>& work) {
  if (times == nullptr) return work();
  const auto start = std::chrono::steady_clock::now();
  work();
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  times->push_back({node, pass, implementation, took.count(), flop / 1e9, bytes});
}

void Call::plan(Assembly& assembly, Made made, const std::vector<StoredOperand>& operands) {
  constexpr std::int64_t kLine = 64;
  const auto aligned = [](std::int64_t bytes) { return (bytes + kLine - 1) / kLine * kLine; };
  made_ = std::move(made);
  std::int64_t scratch = aligned(made_.scratch_bytes);
  for (const StoredOperand& operand : operands) {
    if (type_of(operand.made) == type_of(operand.stored)) continue;
    passages_.push_back({operand.argument, operand.made, padded_values(operand.made), scratch});
    scratch += aligned(padded_bytes(operand.made));
  }
  assembly.need_scratch(scratch);
}

void Call::bind(const Binding& where, std::unordered_map<int, dnnl::memory> with) {
  arguments_ = std::move(with);
  for (Passage& passage : passages_) {
    dnnl::memory& argument = arguments_.at(passage.argument);
    passage.stored = argument.get_data_handle();
    passage.wide = reinterpret_cast<float*>(where.scratch + passage.offset);
    argument = where.memory(passage.desc, passage.wide);
  }
  if (made_.scratch_bytes > 0) {
    const Desc scratch({made_.scratch_bytes}, DataType::u8, Tag::a);
    arguments_.insert({DNNL_ARG_SCRATCHPAD, where.memory(scratch, where.scratch)});
  }
}

namespace {

bool is_written(int argument) {
  return argument == DNNL_ARG_DST || argument == DNNL_ARG_DIFF_SRC;  // DNNL_ARG_TO is DST
}

}  // namespace

void Call::operator()(Pass& pass) {
  for (const Passage& p : passages_) {
    if (is_written(p.argument)) continue;
    const Cells stored(p.stored, Storage::kBfloat);
    parallel_ranges(p.values, [&](std::int64_t first, std::int64_t last) {
      pass.kernels.widen(stored + first, p.wide + first, last - first);
    });
  }
  made_.primitive.execute(pass.stream, arguments_);
  for (const Passage& p : passages_) {
    if (!is_written(p.argument)) continue;
    const Cells stored(p.stored, Storage::kBfloat);
    parallel_ranges(p.values, [&](std::int64_t first, std::int64_t last) {
      pass.kernels.narrow(p.wide + first, stored + first, last - first);
    });
  }
}

std::vector<int> GradientSum::plan(Assembly& assembly, int node, int most) {
  slots_ = std::exchange(assembly.values[node].gradients, {});
  if (slots_.empty()) {
    throw std::invalid_argument("onednn: node '" + assembly.node(node).name +
                                "' does not reach a loss, so it has no gradient");
  }
  for (const int slot : slots_) assembly.arena.use(slot, assembly.event);
  count_ = assembly.arena.bytes(slots_.front()) / assembly.width();
  std::vector<int> left{slots_.front()};
  while (static_cast<int>(left.size()) < most && slots_.size() > 1) {
    left.push_back(slots_.back());
    slots_.pop_back();
  }
  return left;
}

void GradientSum::bind(const Binding& where) {
  buffers_.clear();
  for (const int slot : slots_) buffers_.push_back(where.at(slot));
}

void GradientSum::run(Pass& pass, const std::string& node) {
  if (buffers_.size() < 2) return;
  constexpr std::int64_t kPart = 2048;  // values: the sum stays in the first-level cache
  const double moved = static_cast<double>(buffers_[0].width()) *
                       static_cast<double>(count_ * std::ssize(buffers_) + count_);
  pass.run(node, "backward_data", "sum of gradients", 0, moved, [&] {
    parallel_ranges(count_, [&](std::int64_t first, std::int64_t last) {
      for (; first < last; first += kPart) {
        const std::int64_t values = std::min(kPart, last - first);
        for (std::size_t i = 1; i < buffers_.size(); ++i)
          pass.kernels.add(buffers_[0] + first, buffers_[i] + first, values);
      }
    });
  });
}

}  // namespace rackmark::worker::onednn

#include "worker/backend/onednn/inference/program.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include "worker/backend/memory_limit.hpp"

namespace rackmark::worker::onednn {
namespace {

constexpr std::int64_t kLine = 64;

std::int64_t aligned_up(std::int64_t value, std::int64_t to) { return (value + to - 1) / to * to; }

}  // namespace

Place Program::add_constant(std::int64_t bytes, std::function<void(std::byte*)> fill) {
  constants_.push_back({bytes, std::move(fill)});
  return {Place::Kind::kConstant, static_cast<int>(constants_.size()) - 1, 0};
}

void Program::add(Step step) {
  for (const Operand& operand : step.operands) {
    if (operand.place.kind == Place::Kind::kArena) arena_.use(operand.place.slot, event());
  }
  if (step.implementation.empty()) step.implementation = step.made.implementation;
  steps_.push_back(std::move(step));
}

std::int64_t Program::place() {
  for (const Step& step : steps_) {
    scratch_bytes_ = std::max(scratch_bytes_, aligned_up(step.made.scratch_bytes, kPageBytes));
  }
  for (const Constant& constant : constants_) {
    constant_offsets_.push_back(constant_bytes_);
    constant_bytes_ += aligned_up(constant.bytes, kLine);
  }
  constant_bytes_ = aligned_up(constant_bytes_, kPageBytes);
  return scratch_bytes_ + constant_bytes_ + arena_.assign();
}

void Program::finish() {
  const std::int64_t total = place();
  const MemoryLimit limit = memory_limit();
  if (total > limit.free_bytes) throw OutOfMemory(total, limit);
  pages_ = std::make_unique<Pages>(total);
  scratch_ = pages_->data();
  constant_base_ = scratch_ + scratch_bytes_;
  arena_base_ = constant_base_ + constant_bytes_;
  for (std::size_t i = 0; i < constants_.size(); ++i) {
    constants_[i].fill(constant_base_ + constant_offsets_[i]);
    constants_[i].fill = {};
  }
  bound_.reserve(steps_.size());  // primitives keep addresses inside
  for (Step& step : steps_) bound_.push_back(bind(step));
}

std::byte* Program::address(const Place& place) const {
  switch (place.kind) {
    case Place::Kind::kArena:
      return arena_base_ + arena_.offset(place.slot) + place.offset;
    case Place::Kind::kConstant:
      return constant_base_ + constant_offsets_[static_cast<std::size_t>(place.slot)] +
             place.offset;
    case Place::Kind::kInput:
      break;
  }
  return nullptr;
}

const std::byte* Program::at(const Place& place) const { return address(place); }

Program::Bound Program::bind(Step& step) {
  Bound bound;
  for (const Operand& operand : step.operands) {
    if (step.own) {
      bound.operands.push_back(address(operand.place));
      continue;
    }
    bound.arguments.insert(
        {operand.argument, dnnl::memory(operand.desc, engine_, address(operand.place))});
    if (operand.place.kind == Place::Kind::kInput) {
      bound.input_arguments.push_back(operand.argument);
    }
  }
  bound.scales.reserve(step.made.scales.size());
  for (auto& [argument, values] : step.made.scales) {
    bound.scales.push_back(values);
    const Desc desc = make_desc({static_cast<std::int64_t>(values.size())}, DataType::f32, Tag::a);
    bound.arguments.insert({argument, dnnl::memory(desc, engine_, bound.scales.back().data())});
  }
  if (step.made.scratch_bytes > 0) {
    const Desc desc = make_desc({step.made.scratch_bytes}, DataType::u8, Tag::a);
    bound.arguments.insert({DNNL_ARG_SCRATCHPAD, dnnl::memory(desc, engine_, scratch_)});
  }
  return bound;
}

void Program::run_step(std::size_t index, const float* images) {
  Bound& bound = bound_[index];
  if (steps_[index].own) return steps_[index].own(bound.operands);
  for (const int argument : bound.input_arguments) {
    bound.arguments.at(argument).set_data_handle(const_cast<float*>(images));
  }
  steps_[index].made.primitive.execute(stream_, bound.arguments);
}

void Program::run(const float* images, const Observer& observer) {
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    run_step(i, images);
    if (observer && steps_[i].value >= 0) {
      stream_.wait();
      observer(steps_[i], address(steps_[i].made_value.place));
    }
  }
  stream_.wait();
}

std::vector<OpTime> Program::profile(const float* images) {
  using Clock = std::chrono::steady_clock;
  std::vector<OpTime> times;
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    const Step& step = steps_[i];
    const auto start = Clock::now();
    run_step(i, images);
    stream_.wait();
    const std::chrono::duration<double, std::milli> took = Clock::now() - start;
    times.push_back(
        {step.node, "forward", step.implementation, took.count(), step.gflop, step.bytes});
  }
  return times;
}

}  // namespace rackmark::worker::onednn

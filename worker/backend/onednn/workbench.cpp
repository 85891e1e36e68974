#include "worker/backend/onednn/workbench.hpp"

#include <algorithm>
#include <chrono>

#include "worker/backend/backend.hpp"
#include "worker/backend/memory_limit.hpp"
#include "worker/backend/onednn/threads.hpp"

namespace rackmark::worker::onednn {
namespace {

std::int64_t round_up(std::int64_t value) {
  return (value + kPageBytes - 1) / kPageBytes * kPageBytes;
}

std::uint32_t scrambled(std::uint64_t i) {  // the middle of splitmix64: no visible pattern
  i = (i + 0x9E3779B97F4A7C15U) * 0xBF58476D1CE4E5B9U;
  return static_cast<std::uint32_t>((i ^ (i >> 27)) >> 16);
}

// In (-1, 1), at least 2^-25 away from zero.
float number(std::uint64_t i) {
  return (static_cast<float>(scrambled(i) >> 8) + 0.5F) * (2.0F / 16777216.0F) - 1.0F;
}

std::uint16_t bfloat(std::uint64_t i) {
  const float value = number(i);
  std::uint32_t bits = 0;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return static_cast<std::uint16_t>(bits >> 16);
}

template <class T, class Make>
void fill_as(std::byte* where, std::int64_t bytes, const Make& make) {
  T* values = reinterpret_cast<T*>(where);
  parallel_ranges(bytes / std::int64_t{sizeof(T)}, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) values[i] = make(static_cast<std::uint64_t>(i));
  });
}

void fill(std::byte* where, std::int64_t bytes, Content content) {
  if (content == Content::kFloats) return fill_as<float>(where, bytes, number);
  if (content == Content::kBfloats) return fill_as<std::uint16_t>(where, bytes, bfloat);
  fill_as<std::uint8_t>(where, bytes, [](std::uint64_t i) {
    return static_cast<std::uint8_t>(1 + scrambled(i) % 63);
  });
}

}  // namespace

Task convolution_task(const Made& made, ConvolutionPass pass) {
  switch (pass) {
    case ConvolutionPass::kForward:
      return {
          made, {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS}, DNNL_ARG_DST, {made.src, made.weights}, made.dst};
    case ConvolutionPass::kData:
      return {made,
              {DNNL_ARG_DIFF_DST, DNNL_ARG_WEIGHTS},
              DNNL_ARG_DIFF_SRC,
              {made.dst, made.weights},
              made.src};
    default:
      return {made,
              {DNNL_ARG_DIFF_DST, DNNL_ARG_SRC},
              DNNL_ARG_DIFF_WEIGHTS,
              {made.dst, made.src},
              made.weights};
  }
}

Task matrix_task(const Made& made) { return convolution_task(made, ConvolutionPass::kForward); }

std::size_t Workbench::add(Task task) {
  tasks_.push_back(std::move(task));
  return tasks_.size() - 1;
}

void Workbench::open(Content content) {
  std::int64_t operand[2] = {0, 0}, output = 0, scratch = 0;
  for (const Task& task : tasks_) {
    for (int i : {0, 1}) operand[i] = std::max(operand[i], padded_bytes(task.input_desc[i]));
    output = std::max(output, padded_bytes(task.output_desc));
    scratch = std::max(scratch, task.made.scratch_bytes);
  }
  const std::int64_t sizes[] = {round_up(operand[0]), round_up(operand[1]), round_up(output),
                                round_up(scratch)};
  const std::int64_t total = sizes[0] + sizes[1] + sizes[2] + sizes[3];
  const MemoryLimit limit = memory_limit();
  if (total > limit.free_bytes) throw OutOfMemory(total, limit);
  pages_ = std::make_unique<Pages>(total);
  std::byte* const place[] = {pages_->data(), pages_->data() + sizes[0],
                              pages_->data() + sizes[0] + sizes[1],
                              pages_->data() + total - sizes[3]};
  {
    const ComputeScope scope(threads_);
    for (int i : {0, 1}) fill(place[i], sizes[i], content);
  }
  for (const Task& task : tasks_) {
    auto& arguments = arguments_.emplace_back();
    for (int i : {0, 1}) {
      arguments.insert({task.input[i], dnnl::memory(task.input_desc[i], engine_, place[i])});
    }
    arguments.insert({task.output, dnnl::memory(task.output_desc, engine_, place[2])});
    if (task.made.scratch_bytes == 0) continue;
    const Desc bytes({task.made.scratch_bytes}, dnnl::memory::data_type::u8, Tag::a);
    arguments.insert({DNNL_ARG_SCRATCHPAD, dnnl::memory(bytes, engine_, place[3])});
  }
}

double Workbench::seconds(std::size_t task) {
  const ComputeScope scope(threads_);
  dnnl::stream stream(engine_);
  const auto start = std::chrono::steady_clock::now();
  tasks_[task].made.primitive.execute(stream, arguments_[task]);
  stream.wait();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace rackmark::worker::onednn

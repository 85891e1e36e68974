// A list of steps over planned memory: what a compiled inference plan runs.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "worker/backend/arena_plan.hpp"
#include "worker/backend/backend.hpp"
#include "worker/backend/onednn/arena.hpp"
#include "worker/backend/onednn/inference/dnnl_inference_bridge.hpp"

namespace rackmark::worker::onednn {

struct Place {  // where something lies
  enum class Kind { kInput, kArena, kConstant } kind = Kind::kInput;
  int slot = -1;            // of the arena, or index of the constant
  std::int64_t offset = 0;  // bytes from there
};

struct Operand {
  int argument = 0;  // DNNL_ARG_...
  Desc desc;
  Place place;
};

struct Step {
  std::string node, implementation;
  InferenceMade made;                                                // or
  std::function<void(const std::vector<std::byte*>& operands)> own;  // a loop of ours
  std::vector<Operand> operands;
  double gflop = 0, bytes = 0;
  int value = -1;      // node whose value is complete after it, and
  Operand made_value;  // where it lies
  float value_scale = 1;
};

struct Constant {
  std::int64_t bytes = 0;
  std::function<void(std::byte* to)> fill;  // called once, when there is memory
};

class Program {
 public:
  explicit Program(const dnnl::engine& engine) : engine_(engine), stream_(engine) {}
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // While it is written: `event` of a buffer's use is the number of the step that is added next.
  int event() const { return static_cast<int>(steps_.size()); }
  ArenaPlan& arena() { return arena_; }
  Place add_constant(std::int64_t bytes, std::function<void(std::byte*)> fill);
  void add(Step step);  // marks the arena buffers among its operands as used

  // Decides where everything lies. Returns the bytes that finish() will take.
  std::int64_t place();
  // Places, allocates, fills constants. Throws OutOfMemory before it allocates.
  void finish();

  using Observer = std::function<void(const Step& step, const std::byte* value)>;
  // `images` is what Place::kInput means. Call in a ComputeScope.
  void run(const float* images, const Observer& observer = {});
  std::vector<OpTime> profile(const float* images);
  const std::byte* at(const Place& place) const;
  std::int64_t bytes() const { return pages_ ? pages_->bytes() : 0; }
  const std::vector<Step>& steps() const { return steps_; }

 private:
  struct Bound {
    std::unordered_map<int, dnnl::memory> arguments;
    std::vector<int> input_arguments;  // those that read the images
    std::vector<std::byte*> operands;  // of a loop of ours
    std::vector<std::vector<float>> scales;
  };
  std::byte* address(const Place& place) const;
  Bound bind(Step& step);
  void run_step(std::size_t index, const float* images);

  dnnl::engine engine_;
  dnnl::stream stream_;
  std::vector<Step> steps_;
  std::vector<Bound> bound_;
  std::vector<Constant> constants_;
  std::vector<std::int64_t> constant_offsets_;
  ArenaPlan arena_;
  std::int64_t scratch_bytes_ = 0, constant_bytes_ = 0;
  std::unique_ptr<Pages> pages_;
  std::byte *scratch_ = nullptr, *constant_base_ = nullptr, *arena_base_ = nullptr;
};

}  // namespace rackmark::worker::onednn

// Times single primitives on real data: what ceilings and bounds are measured with.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "worker/backend/onednn/arena.hpp"
#include "worker/backend/onednn/dnnl_bridge.hpp"

namespace rackmark::worker::onednn {

// A primitive with two inputs and one output. `inputs` and `output` are argument numbers of oneDNN.
struct Task {
  Made made;
  int input[2] = {0, 0}, output = 0;
  Desc input_desc[2], output_desc;
};
Task convolution_task(const Made& made, ConvolutionPass pass);  // linear layers too
Task matrix_task(const Made& made);

enum class Content { kFloats, kBfloats, kBytes };

// All tasks share one piece of memory, as large as the largest need of each operand. Inputs hold
// numbers between -1 and 1 (bytes: 1 to 63), none of them zero or denormal; outputs are written to
// a place of their own, so that inputs stay what they are. Used by one thread, which computes with
// `threads`.
class Workbench {
 public:
  Workbench(dnnl::engine engine, int threads) : engine_(std::move(engine)), threads_(threads) {}
  std::size_t add(Task task);        // before open()
  void open(Content content);        // throws OutOfMemory
  double seconds(std::size_t task);  // of one execution

 private:
  dnnl::engine engine_;
  int threads_;
  std::vector<Task> tasks_;
  std::vector<std::unordered_map<int, dnnl::memory>> arguments_;
  std::unique_ptr<Pages> pages_;
};

}  // namespace rackmark::worker::onednn

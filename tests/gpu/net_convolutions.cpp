#include "net_convolutions.hpp"

#include <vector>

#include "worker/backend/cuda/plan/convolution_task.hpp"

namespace rackmark::worker::cuda {
namespace {

std::vector<int> readers_of(const Net& net, int node) {
  std::vector<int> readers;
  const auto nodes = net.nodes();
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    for (const int input : nodes[i].inputs) {
      if (input == node) readers.push_back(static_cast<int>(i));
    }
  }
  return readers;
}

template <class Layer>
bool holds(const Net& net, int node) {
  return std::holds_alternative<Layer>(net.nodes()[static_cast<std::size_t>(node)].layer);
}

// What follows a convolution, through layers that a plan runs in place.
struct Surroundings {
  int concat_channels = 0;  // of the concat that its output ends in; 0: none
  bool relu = false, residual = false;
};
Surroundings after(const Net& net, int node) {
  Surroundings found;
  for (auto readers = readers_of(net, node); readers.size() == 1; readers = readers_of(net, node)) {
    node = readers[0];
    if (holds<Concat>(net, node)) {
      found.concat_channels = net.nodes()[static_cast<std::size_t>(node)].shape.channels;
      return found;
    }
    if (holds<Add>(net, node)) found.residual = true;
    if (holds<Relu>(net, node)) found.relu = true;
    if (!holds<Add>(net, node) && !holds<Relu>(net, node) && !holds<BatchNorm>(net, node)) break;
  }
  return found;
}

ConvolutionTask task_of(const Net& net, const NodeInfo& node, int batch,
                        const ConvolutionKind& kind) {
  const auto& layer = std::get<Conv2d>(node.layer);
  const NodeInfo& input = net.nodes()[static_cast<std::size_t>(node.inputs[0])];
  const bool first = std::holds_alternative<Input>(input.layer);
  const int channels =
      first ? padded_channels(input.shape.channels, kind.type) : input.shape.channels;
  return convolution_task(layer, {batch, input.shape, channels}, kind.type, kind.arithmetic,
                          channels, layer.out);
}

void add_training(std::set<ConvolutionTask>& tasks, ConvolutionTask task, bool has_data_gradient) {
  tasks.insert(task);
  task.pass = ConvolutionPass::kBackwardWeights;
  tasks.insert(task);
  if (!has_data_gradient) return;
  task.pass = ConvolutionPass::kBackwardData;
  tasks.insert(task);
  task.accumulate = true;
  tasks.insert(task);
}

// relu(batch norm) that this convolution alone reads.
bool reads_a_norm_alone(const Net& net, int convolution) {
  const int relu = net.nodes()[static_cast<std::size_t>(convolution)].inputs[0];
  if (!holds<Relu>(net, relu) || readers_of(net, relu).size() != 1) return false;
  return holds<BatchNorm>(net, net.nodes()[static_cast<std::size_t>(relu)].inputs[0]);
}

// With work of the batch norms around it.
void add_merged(std::set<ConvolutionTask>& tasks, const Net& net, int node, ConvolutionTask task) {
  const auto readers = readers_of(net, node);
  const bool before_norm = !readers.empty() && holds<BatchNorm>(net, readers[0]);
  task.statistics = before_norm;
  if (before_norm) tasks.insert(task);
  if (!reads_a_norm_alone(net, node)) return;
  task.normed = true;
  if (before_norm) tasks.insert(task);
  task.statistics = false;
  task.pass = ConvolutionPass::kBackwardWeights;
  if (before_norm) tasks.insert(task);
  task.normed = false;
  task.norm_sums = true;
  task.pass = ConvolutionPass::kBackwardData;
  tasks.insert(task);
}

}  // namespace

std::set<ConvolutionTask> convolutions_of(const Net& net, int batch, const ConvolutionKind& kind) {
  std::set<ConvolutionTask> tasks;
  for (int i = 0; i < static_cast<int>(net.nodes().size()); ++i) {
    if (!holds<Conv2d>(net, i)) continue;
    const NodeInfo& node = net.nodes()[static_cast<std::size_t>(i)];
    const Surroundings around = after(net, i);
    ConvolutionTask task = task_of(net, node, batch, kind);
    const bool trains = kind.type != Type::kInteger;
    if (trains) add_training(tasks, task, !holds<Input>(net, node.inputs[0]));
    if (kind.type == Type::kHalf) add_merged(tasks, net, i, task);
    task.bias = true;
    if (task.is_integer()) task.residual_stride = around.residual ? task.out : 0;
    task.relu = around.relu;
    task.residual = around.residual;
    tasks.insert(task);
    if (around.concat_channels == 0) continue;
    task.y_stride = around.concat_channels;
    tasks.insert(task);
    if (!trains) continue;
    task.bias = task.relu = task.residual = false;
    add_training(tasks, task, !holds<Input>(net, node.inputs[0]));
  }
  return tasks;
}

}  // namespace rackmark::worker::cuda

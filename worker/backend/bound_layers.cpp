#include "worker/backend/bound_layers.hpp"

#include <algorithm>
#include <map>
#include <variant>

namespace rackmark::worker {
namespace {

std::string text_of(const Shape& s) {
  return std::to_string(s.channels) + "x" + std::to_string(s.height) + "x" +
         std::to_string(s.width);
}

std::string describe(const Net& net, int id) {
  const NodeInfo& node = net.nodes()[id];
  const Shape& in = net.nodes()[node.inputs[0]].shape;
  if (std::holds_alternative<Linear>(node.layer)) {
    return "linear " + std::to_string(in.channels) + " -> " + std::to_string(node.shape.channels);
  }
  const auto& layer = std::get<Conv2d>(node.layer);
  std::string text = text_of(in) + " -> " + text_of(node.shape) + " " +
                     std::to_string(layer.kernel_h) + "x" + std::to_string(layer.kernel_w) + "/" +
                     std::to_string(layer.stride) + " pad " + std::to_string(layer.pad_h) + "," +
                     std::to_string(layer.pad_w);
  return node.inputs[0] == 0 ? text + " (input)" : text;
}

// Inference stops at the main head.
std::vector<bool> nodes_that_run(const Net& net, bool training) {
  std::vector<bool> runs(net.nodes().size(), training);
  runs[net.heads()[0].node] = true;
  for (int id = static_cast<int>(runs.size()) - 1; id >= 0; --id)
    for (const int input : net.nodes()[id].inputs) runs[input] = runs[input] || runs[id];
  return runs;
}

// Of what lies before the main head.
bool mostly_linear(const Net& net) {
  const std::vector<bool> runs = nodes_that_run(net, false);
  std::int64_t linear = 0, all = 0;
  for (const Parameter& p : net.parameters()) {
    if (!runs[p.node]) continue;
    all += p.elements();
    if (p.kind == ParameterKind::kLinearWeight) linear += p.elements();
  }
  return 2 * linear > all;
}

double flop_of(const Net& net, int id) {
  const NodeInfo& node = net.nodes()[id];
  double per_output = net.nodes()[node.inputs[0]].shape.channels;
  if (const auto* layer = std::get_if<Conv2d>(&node.layer)) {
    per_output *= layer->kernel_h * layer->kernel_w;
  }
  return 2 * per_output * static_cast<double>(node.shape.elements());
}

double median_of(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

std::vector<BoundLayer> bound_layers(const Net& net, bool training) {
  const std::vector<bool> runs = nodes_that_run(net, training);
  const bool linear = mostly_linear(net);
  std::map<std::string, BoundLayer> layers;
  for (int id = 0; id < static_cast<int>(net.nodes().size()); ++id) {
    const Layer& layer = net.nodes()[id].layer;
    const bool counts =
        std::holds_alternative<Conv2d>(layer) || (linear && std::holds_alternative<Linear>(layer));
    if (!counts || !runs[id]) continue;
    BoundLayer& counted = layers[describe(net, id)];
    if (counted.count++ > 0) continue;
    counted.shape = describe(net, id);
    counted.node = id;
    counted.flop_per_image = flop_of(net, id);
    counted.reads_input = net.nodes()[id].inputs[0] == 0;
  }
  std::vector<BoundLayer> all;
  for (auto& [text, layer] : layers) all.push_back(std::move(layer));
  return all;
}

ConvolutionBound BoundTimes::result() const {
  ConvolutionBound bound;
  if (items_.empty() || items_[0].ms.empty()) return bound;
  bound.rounds = static_cast<std::int64_t>(items_[0].ms.size());
  for (const Item& item : items_) {
    BoundRow row = item.row;
    row.ms = median_of(item.ms);
    row.best_ms = *std::min_element(item.ms.begin(), item.ms.end());
    bound.ms += row.ms * static_cast<double>(row.count);
    bound.best_ms += row.best_ms * static_cast<double>(row.count);
    bound.rows.push_back(std::move(row));
  }
  std::stable_sort(bound.rows.begin(), bound.rows.end(), [](const auto& a, const auto& b) {
    return static_cast<double>(a.count) * a.ms > static_cast<double>(b.count) * b.ms;
  });
  return bound;
}

}  // namespace rackmark::worker

#include "worker/backend/folded_weights.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace rackmark::worker {
namespace {

const std::vector<float>* find_parameter(const Net& net, const TrainedValues& values, int node,
                                         const char* leaf) {
  const std::string name = net.nodes()[node].name + leaf;
  for (std::size_t i = 0; i < net.parameters().size(); ++i) {
    if (net.parameters()[i].name == name) return &values.parameters.at(i);
  }
  return nullptr;
}

const std::vector<float>& statistic(const Net& net, const TrainedValues& values, int node,
                                    const char* leaf) {
  const std::string name = net.nodes()[node].name + leaf;
  for (std::size_t i = 0; i < net.running_statistics().size(); ++i) {
    if (net.running_statistics()[i].name == name) return values.running.at(i);
  }
  throw std::logic_error("net has no statistic " + name);
}

// Batch norm as y = a * x + b.
struct Affine {
  std::vector<double> a, b;
};
Affine affine(const Net& net, const TrainedValues& values, int node) {
  const auto& layer = std::get<BatchNorm>(net.nodes()[node].layer);
  const auto& weight = *find_parameter(net, values, node, ".weight");
  const auto& bias = *find_parameter(net, values, node, ".bias");
  const auto& mean = statistic(net, values, node, ".running_mean");
  const auto& variance = statistic(net, values, node, ".running_var");
  Affine result;
  for (std::size_t c = 0; c < weight.size(); ++c) {
    result.a.push_back(weight[c] / std::sqrt(static_cast<double>(variance[c]) + layer.epsilon));
    result.b.push_back(bias[c] - mean[c] * result.a.back());
  }
  return result;
}

Folded lone_norm(const Net& net, const TrainedValues& values, int node) {
  const Affine norm = affine(net, values, node);
  Folded folded;
  folded.dims = {static_cast<std::int64_t>(norm.a.size()), 1, 1, 1, 1};
  folded.weights.assign(norm.a.begin(), norm.a.end());
  folded.bias.assign(norm.b.begin(), norm.b.end());
  return folded;
}

}  // namespace

Folded fold(const Net& net, const Unit& unit, const TrainedValues& values) {
  if (std::holds_alternative<BatchNorm>(net.nodes()[unit.node].layer)) {
    return lone_norm(net, values, unit.node);
  }
  Folded folded;
  const std::string name = net.nodes()[unit.node].name + ".weight";
  for (const Parameter& parameter : net.parameters()) {
    if (parameter.name == name) folded.dims = parameter.dims;
  }
  folded.weights = *find_parameter(net, values, unit.node, ".weight");
  folded.bias.assign(static_cast<std::size_t>(folded.dims.at(0)), 0.0F);
  if (const auto* bias = find_parameter(net, values, unit.node, ".bias")) folded.bias = *bias;
  if (unit.norm < 0) return folded;
  const Affine norm = affine(net, values, unit.norm);
  const std::size_t per_channel = folded.weights.size() / folded.bias.size();
  for (std::size_t c = 0; c < folded.bias.size(); ++c) {
    float* row = folded.weights.data() + c * per_channel;
    std::transform(row, row + per_channel, row,
                   [a = norm.a[c]](float w) { return static_cast<float>(a * w); });
    folded.bias[c] = static_cast<float>(norm.a[c] * folded.bias[c] + norm.b[c]);
  }
  return folded;
}

}  // namespace rackmark::worker

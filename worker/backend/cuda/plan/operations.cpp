#include "worker/backend/cuda/plan/operations.hpp"

#include <algorithm>

namespace rackmark::worker::cuda {
namespace {

template <class L>
bool is(const Net& net, int id) {
  return std::holds_alternative<L>(net.nodes()[id].layer);
}

bool is_layer(const Net& net, int id) { return is<Conv2d>(net, id) || is<Linear>(net, id); }

class OperationMaker {
 public:
  OperationMaker(Assembly& assembly, const PlanOptions& options, const Fusion& fusion)
      : assembly_(assembly),
        net_(assembly.net),
        options_(options),
        fusion_(fusion),
        readers_(consumers(net_)) {}

  Operations make() {
    find_gradient_needs();
    // The residual branch of an Add exists on its own only where the Add does.
    const bool merge = fusion_.norm && !options_.faults.negate_residual_gradient;
    const std::vector<Group> groups = group_nodes(net_, merge);
    add(make_input_op(only_convolutions_read_the_input(), options_.raw_side), 0);
    for (const Group& group : groups) {
      if (const auto* norm = std::get_if<NormGroup>(&group)) {
        add_norm(*norm);
      } else {
        add_node(std::get<int>(group));
      }
    }
    find_evaluation();
    for (std::size_t head = 0; head < net_.heads().size(); ++head) {
      operations_.ops.push_back(make_loss_op(static_cast<int>(head)));
      operations_.in_evaluation.push_back(false);
    }
    return std::move(operations_);
  }

 private:
  void add(std::unique_ptr<Op> op, int output) {
    operations_.ops.push_back(std::move(op));
    outputs_.push_back(output);
  }

  void add_norm(const NormGroup& norm) {
    const int pool = merged_pool(norm);
    if (pool >= 0) pools_in_norms_.push_back(pool);
    const int output = pool >= 0 ? pool : norm.output;
    place_in_concat(output);
    add(pool >= 0 ? make_norm_pool_op(norm.norm, pool) : make_norm_op(norm, shared_work(norm)),
        output);
  }

  // With the convolution that alone reads the batch norm's value; null where there is none.
  std::shared_ptr<NormInConvolution> shared_work(const NormGroup& norm) const {
    if (!fusion_.statistics || !norm.relu || norm.residual >= 0 || norm.second_norm >= 0 ||
        readers_[norm.output].size() != 1 || is_head(norm.output)) {
      return nullptr;
    }
    const int reader = readers_[norm.output].front();
    const bool aligned =
        net_.nodes()[norm.output].shape.channels % 8 == 0;  // all arrays on 16 bytes
    if (!is<Conv2d>(net_, reader) || !aligned) return nullptr;
    auto shared = std::make_shared<NormInConvolution>();
    shared->may_apply = fusion_.in_convolution;
    return shared;
  }

  // The max pool that alone reads a batch norm's ReLU, or -1.
  int merged_pool(const NormGroup& norm) const {
    if (!fusion_.pool || !norm.relu || norm.residual >= 0 || norm.second_norm >= 0) return -1;
    if (readers_[norm.output].size() != 1 || is_head(norm.output)) return -1;
    const int reader = readers_[norm.output].front();
    return is<worker::MaxPool>(net_, reader) ? reader : -1;
  }

  void add_node(int id) {
    if (std::count(pools_in_norms_.begin(), pools_in_norms_.end(), id) > 0) return;
    if (is_layer(net_, id)) return add_layer(id);
    if (is<Relu>(net_, id) && is_merged_relu(id)) return;
    if (!is<Flatten>(net_, id)) place_in_concat(id);
    add(make_simple(id), id);
  }

  void add_layer(int id) {
    const int relu = merged_relu(id);
    const int output = relu >= 0 ? relu : id;
    add(is<Conv2d>(net_, id) ? make_convolution_op(id, relu, gives_statistics(id))
                             : make_linear_op(id, relu),
        output);
  }

  bool gives_statistics(int convolution) const {
    const auto is_norm = [&](int reader) { return is<BatchNorm>(net_, reader); };
    const auto& readers = readers_[convolution];
    const auto& layer = std::get<Conv2d>(net_.nodes()[convolution].layer);
    const bool aligned = layer.out % 4 == 0;  // the second row of sums begins on 16 bytes as well
    return fusion_.statistics && !layer.bias && aligned &&
           std::any_of(readers.begin(), readers.end(), is_norm);
  }

  std::unique_ptr<Op> make_simple(int id) {
    if (is<Add>(net_, id)) return make_add_op(id, options_.faults.negate_residual_gradient);
    if (is<worker::Dropout>(net_, id))
      return make_dropout_op(id, options_.dropout, options_.masks.seed);
    return make_simple_op(net_, id);
  }

  // The ReLU that alone reads a layer's value, or -1.
  int merged_relu(int layer) const {
    if (!fusion_.norm || readers_[layer].size() != 1 || is_head(layer)) return -1;
    const int reader = readers_[layer].front();
    return is<Relu>(net_, reader) ? reader : -1;
  }
  bool is_merged_relu(int relu) const {
    const int before = net_.nodes()[relu].inputs[0];
    return is_layer(net_, before) && merged_relu(before) == relu;
  }
  bool is_head(int id) const {
    const auto heads = net_.heads();
    return std::any_of(heads.begin(), heads.end(), [&](const Head& h) { return h.node == id; });
  }

  // Whatever only a concat reads is made inside the concat's value.
  void place_in_concat(int id) {
    if (!fusion_.norm || readers_[id].size() != 1) return;
    const int concat = readers_[id].front();
    if (!is<Concat>(net_, concat)) return;
    assembly_.place_in_concat(id, concat, net_.nodes()[concat].inputs);
  }

  bool only_convolutions_read_the_input() const {
    return std::all_of(readers_[0].begin(), readers_[0].end(),
                       [&](int id) { return is<Conv2d>(net_, id); });
  }

  void find_gradient_needs() {
    std::vector<bool> has_parameter(net_.nodes().size(), false);
    for (const auto& parameter : net_.parameters()) has_parameter[parameter.node] = true;
    for (std::size_t id = 0; id < net_.nodes().size(); ++id) {
      bool needs = has_parameter[id];
      for (const int input : net_.nodes()[id].inputs)
        needs = needs || assembly_.values[input].needs_gradient;
      assembly_.values[id].needs_gradient = needs;
    }
  }

  void find_evaluation() {
    std::vector<bool> wanted(net_.nodes().size(), false);
    wanted[net_.heads()[0].node] = true;
    for (int id = static_cast<int>(net_.nodes().size()) - 1; id >= 0; --id)
      for (const int input : net_.nodes()[id].inputs) wanted[input] = wanted[input] || wanted[id];
    for (const int output : outputs_) operations_.in_evaluation.push_back(wanted[output]);
  }

  Assembly& assembly_;
  const Net& net_;
  const PlanOptions& options_;
  const Fusion& fusion_;
  std::vector<std::vector<int>> readers_;
  Operations operations_;
  std::vector<int> outputs_;  // node by op
  std::vector<int> pools_in_norms_;
};

}  // namespace

std::unique_ptr<Op> make_simple_op(const Net& net, int node) {
  if (is<Relu>(net, node)) return make_relu_op(node);
  if (is<Add>(net, node)) return make_add_op(node, false);
  if (is<Flatten>(net, node)) return make_flatten_op(node);
  if (is<Concat>(net, node)) return make_concat_op(node);
  if (is<worker::Dropout>(net, node)) return make_dropout_op(node, false, 0);
  if (is<LocalResponseNorm>(net, node)) return make_response_norm_op(node);
  if (is<worker::MaxPool>(net, node)) return make_max_pool_op(node);
  return make_average_pool_op(node);
}

Operations make_operations(Assembly& assembly, const PlanOptions& options, const Fusion& fusion) {
  return OperationMaker(assembly, options, fusion).make();
}

}  // namespace rackmark::worker::cuda

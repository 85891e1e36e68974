#include "worker/backend/reference/plan.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <type_traits>

#include "worker/backend/digits.hpp"
#include "worker/backend/reference/loss.hpp"

namespace rackmark::worker::reference {
namespace {

// Calls `use` with the index of each element in torchvision's order and in this plan's: (out, in,
// taps) becomes (taps, in, out); vectors keep their order.
template <class Use>
void for_each_element(const Parameter& parameter, Use use) {
  const bool plain = parameter.dims.size() < 2;
  const std::int64_t outs = plain ? parameter.elements() : parameter.dims[0];
  const std::int64_t ins = plain ? 1 : parameter.dims[1];
  const std::int64_t taps = parameter.elements() / (outs * ins);
  std::int64_t i = 0;
  for (std::int64_t out = 0; out < outs; ++out) {
    for (std::int64_t in = 0; in < ins; ++in) {
      for (std::int64_t tap = 0; tap < taps; ++tap, ++i) use(i, (tap * ins + in) * outs + out);
    }
  }
}

void check_size(const std::string& what, std::size_t given, std::int64_t wanted) {
  if (static_cast<std::int64_t>(given) == wanted) return;
  throw std::invalid_argument(what + " has " + std::to_string(given) + " values, not " +
                              std::to_string(wanted));
}

std::vector<bool> ancestors_of(const Net& net, int node) {
  std::vector<bool> needed(net.nodes().size());
  needed[static_cast<std::size_t>(node)] = true;
  for (int id = node; id >= 0; --id) {
    if (!needed[static_cast<std::size_t>(id)]) continue;
    for (const int input : net.nodes()[static_cast<std::size_t>(id)].inputs) {
      needed[static_cast<std::size_t>(input)] = true;
    }
  }
  return needed;
}

// The nearest number of so many binary digits, ties to even.
double to_digits(double x, int count) {
  if (!std::isfinite(x)) return x;
  int exponent = 0;
  const double digits = std::frexp(x, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(digits, count)), exponent - count);
}

const auto kUntimed = [](int, const char*, const std::function<void()>& work) { work(); };

}  // namespace

template <class T>
ReferencePlan<T>::ReferencePlan(const Net& net, const PlanOptions& options)
    : net_(net),
      options_(options),
      parameters_of_(net.nodes().size()),
      digits_(kept_digits(options.precision)) {
  if (net.heads().empty()) {
    throw std::invalid_argument("net '" + net.model() + "' has no loss");
  }
  needed_in_evaluation_ = ancestors_of(net, net.heads().front().node);
  for (const auto& node : net.nodes()) {
    const std::int64_t size = options.batch * node.shape.elements();
    const bool one_value = options.batch * std::int64_t{node.shape.height} * node.shape.width < 2;
    if (one_value && options.training && std::holds_alternative<BatchNorm>(node.layer)) {
      throw std::invalid_argument("node '" + node.name +
                                  "': batch normalisation needs more than one value a channel");
    }
    outputs_.emplace_back(static_cast<std::size_t>(size));
  }
  lay_out_parameters();
  make_ops();
}

// Extents follow the order in which the backward pass finishes gradients: last node first.
template <class T>
void ReferencePlan<T>::lay_out_parameters() {
  const auto& parameters = net_.parameters();
  extents_.resize(parameters.size());
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    parameters_of_[parameters[i].node].push_back(static_cast<int>(i));
  }
  std::int64_t offset = 0;
  for (auto of_node = parameters_of_.rbegin(); of_node != parameters_of_.rend(); ++of_node) {
    for (const int i : *of_node) {
      extents_[i] = {offset, parameters[i].elements()};
      offset += extents_[i].count;
    }
  }
  parameters_.resize(static_cast<std::size_t>(offset));
  gradients_.resize(parameters_.size());
  momentum_.resize(parameters_.size());
  if (rounds()) rounded_.resize(parameters_.size());
  for (const auto& statistic : net_.running_statistics()) {
    const bool variance = statistic.name.ends_with(".running_var");
    running_.emplace_back(statistic.channels, variance ? T{1} : T{0});
  }
}

template <class T>
void ReferencePlan<T>::make_ops() {
  for (const auto& node : net_.nodes()) {
    const auto id = static_cast<int>(ops_.size());
    Context<T> context{.out = node.shape, .batch = options_.batch, .threads = options_.threads};
    for (const int input : node.inputs) context.in.push_back(net_.shape({input}));
    for (const int i : parameters_of_[id]) {
      const bool bias = net_.parameters()[i].name.ends_with(".bias");
      auto& read = rounds() ? rounded_ : parameters_;
      (bias ? context.bias : context.weight) = &read[extents_[i].offset];
      (bias ? context.bias_gradient : context.weight_gradient) = &gradients_[extents_[i].offset];
    }
    for (std::size_t i = 0; i < running_.size(); ++i) {
      const auto& statistic = net_.running_statistics()[i];
      if (statistic.node != id) continue;
      const bool variance = statistic.name.ends_with(".running_var");
      (variance ? context.running_var : context.running_mean) = running_[i].data();
    }
    context.negate_residual_gradient = options_.faults.negate_residual_gradient;
    context.masks = options_.masks;
    context.masks.seed =
        static_cast<std::int64_t>(splitmix64(static_cast<std::uint64_t>(options_.masks.seed)) + id);
    ops_.push_back(std::visit(
        [&]<class L>(const L& layer) -> std::unique_ptr<Op<T>> {
          if constexpr (std::is_same_v<L, Input>) {
            return nullptr;
          } else if constexpr (std::is_same_v<L, Dropout>) {
            return make_op(options_.dropout ? layer : Dropout{0}, context);
          } else {
            return make_op(layer, context);
          }
        },
        node.layer));
  }
}

template <class T>
PlanFacts ReferencePlan<T>::facts() const {
  return {.backend = "reference",
          .isa = "generic",
          .fusion = "none",
          .arena_bytes = predicted_bytes(net_, options_),
          .threads = options_.threads};
}

// Activations with their gradients (at worst all at once), three blocks of parameters, statistics.
template <class T>
std::int64_t ReferencePlan<T>::predicted_bytes(const Net& net, const PlanOptions& options) {
  std::int64_t elements = (kept_digits(options.precision) > 0 ? 4 : 3) * net.parameter_count();
  std::int64_t bytes = 0;
  for (const auto& node : net.nodes()) {
    const std::int64_t size = options.batch * node.shape.elements();
    elements += 2 * size;
    if (std::holds_alternative<MaxPool>(node.layer)) bytes += size * 8;  // winners
    if (std::holds_alternative<Dropout>(node.layer)) elements += size;   // mask
  }
  for (const auto& statistic : net.running_statistics()) elements += statistic.channels;
  return bytes + elements * static_cast<std::int64_t>(sizeof(T));
}

template <class T>
void ReferencePlan<T>::round(std::vector<T>& values) const {
  if (!rounds()) return;
  std::transform(values.begin(), values.end(), values.begin(),
                 [this](T value) { return static_cast<T>(to_digits(value, digits_)); });
}

// Vectors (biases, batch norm) stay as they are.
template <class T>
void ReferencePlan<T>::round_weights() {
  if (!rounds()) return;
  for (std::size_t i = 0; i < extents_.size(); ++i) {
    const bool vector = net_.parameters()[i].dims.size() < 2;
    const auto first = parameters_.begin() + extents_[i].offset;
    std::transform(
        first, first + extents_[i].count, rounded_.begin() + extents_[i].offset,
        [&](T value) { return vector ? value : static_cast<T>(to_digits(value, digits_)); });
  }
}

template <class T>
void ReferencePlan<T>::load(const Batch& batch) {
  const Shape& in = net_.shape(net_.input());
  check_size("the batch's images", batch.images.size(), options_.batch * in.elements());
  check_size("the batch's labels", batch.labels.size(), options_.batch);
  for (const auto label : batch.labels) {
    if (label >= 0 && label < net_.classes()) continue;
    throw std::invalid_argument("label " + std::to_string(label) + " is not in 0 to " +
                                std::to_string(net_.classes() - 1));
  }
  labels_.assign(batch.labels.begin(), batch.labels.end());
  const std::int64_t pixels = std::int64_t{in.height} * in.width;
  const float* from = batch.images.data();
  for (std::int64_t image = 0; image < options_.batch; ++image) {
    for (std::int64_t c = 0; c < in.channels; ++c) {
      for (std::int64_t p = 0; p < pixels; ++p) {
        outputs_[0][(image * pixels + p) * in.channels + c] = *from++;
      }
    }
  }
  round(outputs_[0]);
}

template <class T>
std::vector<const T*> ReferencePlan<T>::inputs_of(const NodeInfo& node) const {
  std::vector<const T*> inputs;
  for (const int input : node.inputs) inputs.push_back(outputs_[input].data());
  return inputs;
}

template <class T>
double ReferencePlan<T>::run_forward(const Timed& timed, const ParameterNeeded& needed) {
  if (rounds() && needed) {
    for (int parameter = 0; parameter < static_cast<int>(extents_.size()); ++parameter) {
      needed(parameter);
    }
  }
  round_weights();
  for (std::size_t id = 1; id < ops_.size(); ++id) {
    if (needed && !rounds()) {
      for (const int parameter : parameters_of_[id]) needed(parameter);
    }
    timed(static_cast<int>(id), "forward", [&] {
      ops_[id]->forward(inputs_of(net_.nodes()[id]), outputs_[id].data(), Pass::kTraining);
      round(outputs_[id]);
    });
  }
  double total = 0;
  for (const auto& head : net_.heads()) {
    total += head.weight * mean_loss(net_.loss_kind(), outputs_[head.node].data(),
                                     net_.shape({head.node}).channels, labels_);
  }
  return total;
}

template <class T>
double ReferencePlan<T>::forward(const Batch& batch, const ParameterNeeded& needed) {
  load(batch);
  return run_forward(kUntimed, needed);
}

// The gradient of a node's output exists from its first consumer's backward pass to its own.
template <class T>
void ReferencePlan<T>::run_backward(const GradientReady& ready, const Timed& timed) {
  std::vector<std::vector<T>> gradient(ops_.size());
  const auto accumulator = [&](int node) {
    if (gradient[node].empty()) gradient[node].resize(outputs_[node].size());
    return gradient[node].data();
  };
  for (const auto& head : net_.heads()) {
    add_loss_gradient(net_.loss_kind(), outputs_[head.node].data(),
                      net_.shape({head.node}).channels, labels_, head.weight,
                      accumulator(head.node));
  }
  for (int id = static_cast<int>(ops_.size()) - 1; id > 0; --id) {
    const NodeInfo& node = net_.nodes()[id];
    const T* dout = accumulator(id);  // zeros where no loss depends on the node
    round(gradient[id]);
    const auto inputs = inputs_of(node);
    timed(id, "backward_weights", [&] { ops_[id]->backward_weights(inputs, dout); });
    finish_gradients(id, ready);
    std::vector<T*> din;
    for (const int input : node.inputs) {
      din.push_back(input == net_.input().id ? nullptr : accumulator(input));
    }
    timed(id, "backward_data",
          [&] { ops_[id]->backward_data(inputs, outputs_[id].data(), dout, din); });
    gradient[id] = {};
  }
}

template <class T>
void ReferencePlan<T>::finish_gradients(int node, const GradientReady& ready) {
  for (const int i : parameters_of_[node]) {
    if (net_.parameters()[i].name == options_.faults.negate_gradient) {
      T* first = &gradients_[extents_[i].offset];
      std::transform(first, first + extents_[i].count, first, std::negate<T>());
    }
    if (ready) ready(i);
  }
}

template <class T>
void ReferencePlan<T>::backward(const GradientReady& ready) {
  if (labels_.empty()) throw std::logic_error("backward() needs a forward pass before it");
  run_backward(ready, kUntimed);
}

template <class T>
void ReferencePlan<T>::update(const SgdStep& step) {
  parallel_for(options_.threads, static_cast<std::int64_t>(extents_.size()), [&](std::int64_t p) {
    const Extent extent = extents_[p];
    for (std::int64_t i = extent.offset; i < extent.offset + extent.count; ++i) {
      const double gradient = gradients_[i] + step.weight_decay * parameters_[i];
      const double carried = momentum_started_ ? step.momentum * momentum_[i] : 0;
      momentum_[i] = static_cast<T>(carried + gradient);
      parameters_[i] = static_cast<T>(parameters_[i] - step.learning_rate * momentum_[i]);
    }
  });
  momentum_started_ = true;
}

template <class T>
void ReferencePlan<T>::evaluate(const Batch& batch) {
  load(batch);
  round_weights();
  for (std::size_t id = 1; id < ops_.size(); ++id) {
    if (!needed_in_evaluation_[id]) continue;
    ops_[id]->forward(inputs_of(net_.nodes()[id]), outputs_[id].data(), Pass::kEvaluation);
    round(outputs_[id]);
  }
  labels_.clear();  // no backward pass can follow
}

template <class T>
std::vector<double> ReferencePlan<T>::logits() const {
  const auto& out = outputs_[net_.heads().front().node];
  return {out.begin(), out.end()};
}

template <class T>
void ReferencePlan<T>::write_parameter(int parameter, std::span<const float> values) {
  const Parameter& p = net_.parameters().at(parameter);
  check_size("parameter " + p.name, values.size(), p.elements());
  T* block = &parameters_[extents_[parameter].offset];
  for_each_element(p, [&](std::int64_t i, std::int64_t stored) { block[stored] = values[i]; });
}

template <class T>
std::vector<double> ReferencePlan<T>::in_public_order(int parameter,
                                                      const std::vector<T>& block) const {
  const Parameter& p = net_.parameters().at(parameter);
  const T* from = &block[extents_[parameter].offset];
  std::vector<double> values(static_cast<std::size_t>(p.elements()));
  for_each_element(p, [&](std::int64_t i, std::int64_t stored) { values[i] = from[stored]; });
  return values;
}

template <class T>
std::vector<double> ReferencePlan<T>::read_parameter(int parameter) const {
  return in_public_order(parameter, parameters_);
}

template <class T>
std::vector<double> ReferencePlan<T>::read_gradient(int parameter) const {
  return in_public_order(parameter, gradients_);
}

template <class T>
std::vector<double> ReferencePlan<T>::read_running(int statistic) const {
  return {running_.at(statistic).begin(), running_.at(statistic).end()};
}

template <class T>
void ReferencePlan<T>::write_running(int statistic, std::span<const float> values) {
  auto& running = running_.at(statistic);
  check_size(net_.running_statistics()[statistic].name, values.size(), std::ssize(running));
  std::copy(values.begin(), values.end(), running.begin());
}

template <class T>
std::span<float> ReferencePlan<T>::gradient_block() {
  if constexpr (std::is_same_v<T, float>) return gradients_;
  return {};
}

template <class T>
std::span<float> ReferencePlan<T>::parameter_block() {
  if constexpr (std::is_same_v<T, float>) return parameters_;
  return {};
}

template <class T>
TrainPlan::Extent ReferencePlan<T>::extent(int parameter) const {
  return extents_.at(parameter);
}

template <class T>
std::string ReferencePlan<T>::layout_key() const {
  return "reference " + options_.precision + " " + net_.model() + " " +
         std::to_string(net_.parameter_count());
}

template <class T>
std::vector<OpTime> ReferencePlan<T>::profile(const Batch& batch) {
  // A profile is no training step: what it would change is put back.
  const auto running = running_;
  std::vector<OpTime> times;
  const Timed timed = [&](int node, const char* pass, const std::function<void()>& work) {
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    work();
    const std::chrono::duration<double, std::milli> took = Clock::now() - start;
    const NodeInfo& info = net_.nodes()[node];
    double gflop = 0;
    for (const int i : parameters_of_[node]) {
      const Parameter& p = net_.parameters()[i];
      if (p.dims.size() < 2) continue;
      gflop += 2e-9 * options_.batch * static_cast<double>(p.elements()) * info.shape.height *
               info.shape.width;
    }
    double elements = static_cast<double>(outputs_[node].size());
    for (const int input : info.inputs) elements += static_cast<double>(outputs_[input].size());
    for (const int i : parameters_of_[node]) elements += static_cast<double>(extents_[i].count);
    times.push_back({info.name, pass, "plain loops", took.count(), gflop, elements * sizeof(T)});
  };
  load(batch);
  run_forward(timed);
  run_backward({}, timed);
  for (std::size_t i = 0; i < running.size(); ++i) {
    std::copy(running[i].begin(), running[i].end(), running_[i].begin());  // ops hold pointers
  }
  return times;
}

template class ReferencePlan<float>;
template class ReferencePlan<double>;

}  // namespace rackmark::worker::reference

#include "worker/backend/onednn/plan.hpp"

#include <algorithm>
#include <cstring>
#include <functional>
#include <stdexcept>

#include "worker/backend/graph.hpp"
#include "worker/backend/memory_limit.hpp"
#include "worker/backend/onednn/threads.hpp"
#include "worker/backend/onednn/winograd.hpp"
#include "worker/net/text_hash.hpp"

namespace rackmark::worker::onednn {
namespace {

constexpr std::int64_t kParameterAlignment = 16;  // floats: one cache line

std::int64_t round_up(std::int64_t value, std::int64_t to) { return (value + to - 1) / to * to; }

// Pooling as oneDNN knows it has one window size for all outputs.
bool has_equal_windows(const Net& net, const NodeInfo& pool) {
  const auto* layer = std::get_if<AdaptiveAveragePool>(&pool.layer);
  if (layer == nullptr) return true;
  const Shape& in = net.nodes()[pool.inputs[0]].shape;
  return in.height % layer->out == 0 && in.width % layer->out == 0;
}

Desc plain_desc(const Parameter& parameter) {
  const Dims dims(parameter.dims.begin(), parameter.dims.end());
  return make_desc(dims, dims.size() == 4 ? Tag::oihw : dims.size() == 2 ? Tag::ab : Tag::a);
}

}  // namespace

Plan::Plan(const Net& net, const PlanOptions& options) : Plan(net, options, Purpose::kRun) {}

std::int64_t Plan::predict_bytes(const Net& net, const PlanOptions& options) {
  const DescribeOnly unbuilt;
  return Plan(net, options, Purpose::kPredict).predicted_bytes_;
}

Plan::Plan(const Net& net, const PlanOptions& options, Purpose purpose)
    : net_(net),
      options_(options),
      fusion_(parse_fusion(options.fusion)),
      threads_(options.threads > 0 ? options.threads : omp_get_num_procs()),
      storage_(options.precision == "bf16" ? Storage::kBfloat : Storage::kFloat),
      assembly_(net_, options.batch),
      stream_(assembly_.engine) {
  if (options.batch < 1)
    throw std::invalid_argument("onednn: batch " + std::to_string(options.batch) +
                                " must be at least 1");
  if (net_.heads().empty()) throw std::invalid_argument("onednn: the net has no loss");
  // Primitives are made for the number of threads that will run them.
  const ComputeScope scope(threads_);
  assembly_.block = channel_block();
  assembly_.stored = storage_ == Storage::kBfloat ? DataType::bf16 : DataType::f32;
  assembly_.winograd = fusion_.winograd && offers_winograd() && storage_ == Storage::kFloat;
  assembly_.recompute = fusion_.recompute;
  assembly_.values.resize(net_.nodes().size());
  assembly_.placements.resize(net_.nodes().size());
  assembly_.parameter_layouts.resize(net_.parameters().size());
  for (const auto& statistic : net_.running_statistics()) {
    const bool variance = statistic.name.ends_with(".running_var");
    running_.emplace_back(statistic.channels, variance ? 1.0F : 0.0F);
  }
  add_ops();
  find_gradient_needs();
  const std::vector<int> order = plan_passes();
  place_parameters(order);
  const std::int64_t arena_bytes = assembly_.arena.assign();
  if (purpose == Purpose::kPredict) {
    predicted_bytes_ = total_bytes(arena_bytes);
    return;
  }
  allocate(arena_bytes);
  set_layout_key();
}

void Plan::add_ops() {
  // The residual branch of an Add exists on its own only where the Add does.
  const bool merge = fusion_.norm && !options_.faults.negate_residual_gradient;
  const auto readers = consumers(net_);
  const std::vector<Group> groups = group_nodes(net_, merge);
  place_in_concats(groups, readers);
  for (const Group& group : groups) {
    if (const auto* norm = std::get_if<NormGroup>(&group)) {
      ops_.push_back(make_norm_op(*norm));
      continue;
    }
    const int id = std::get<int>(group);
    const NodeInfo& node = net_.nodes()[id];
    const Layer& layer = node.layer;
    if (std::holds_alternative<Conv2d>(layer)) {
      ops_.push_back(make_convolution_op(id));
    } else if (std::holds_alternative<Linear>(layer)) {
      ops_.push_back(make_linear_op(id));
    } else if (std::holds_alternative<Relu>(layer)) {
      // In place only after layers whose backward pass does not read their own output.
      const int input = node.inputs[0];
      const Layer& before = net_.nodes()[input].layer;
      const bool in_place = readers[input].size() == 1 && (std::holds_alternative<Conv2d>(before) ||
                                                           std::holds_alternative<Linear>(before) ||
                                                           std::holds_alternative<Add>(before));
      ops_.push_back(make_relu_op(id, in_place));
    } else if (std::holds_alternative<Add>(layer)) {
      ops_.push_back(make_add_op(id, options_.faults.negate_residual_gradient));
    } else if (std::holds_alternative<Flatten>(layer)) {
      ops_.push_back(make_flatten_op(id));
    } else if (std::holds_alternative<Concat>(layer)) {
      ops_.push_back(make_concat_op(id));
    } else if (std::holds_alternative<Dropout>(layer)) {
      ops_.push_back(make_dropout_op(id, options_.dropout, options_.masks));
    } else if (std::holds_alternative<LocalResponseNorm>(layer)) {
      ops_.push_back(make_response_norm_op(id));
    } else if (std::holds_alternative<MaxPool>(layer)) {
      ops_.push_back(make_max_pool_op(id));
    } else if (!has_equal_windows(net_, node)) {
      ops_.push_back(make_adaptive_pool_op(id));
    } else {  // AveragePool, AdaptiveAveragePool
      ops_.push_back(make_average_pool_op(id));
    }
  }
  // Evaluation runs what lies before the main head only.
  std::vector<bool> wanted(net_.nodes().size(), false);
  wanted[net_.heads()[0].node] = true;
  for (int id = static_cast<int>(net_.nodes().size()) - 1; id >= 0; --id)
    for (const int input : net_.nodes()[id].inputs) wanted[input] = wanted[input] || wanted[id];
  for (const auto& op : ops_) op_in_evaluation_.push_back(wanted[op->output()]);
  for (const Head& head : net_.heads()) {
    ops_.push_back(make_loss_op(head.node, head.weight, net_.loss_kind()));
    op_in_evaluation_.push_back(false);
  }
}

// A lone batch norm (with its ReLU) whose value only a concat reads writes it right there, where
// its channels fill whole blocks.
void Plan::place_in_concats(const std::vector<Group>& groups,
                            const std::vector<std::vector<int>>& readers) {
  for (const Group& group : groups) {
    const auto* norm = std::get_if<NormGroup>(&group);
    if (norm == nullptr || norm->residual >= 0 || norm->second_norm >= 0) continue;
    const int id = norm->output;
    if (readers[id].size() != 1) continue;
    const int concat = readers[id].front();
    if (!std::holds_alternative<Concat>(net_.nodes()[concat].layer)) continue;
    int first = 0;
    for (const int input : net_.nodes()[concat].inputs) {
      if (input == id) break;
      first += net_.nodes()[input].shape.channels;
    }
    const int channels = net_.nodes()[id].shape.channels;
    if (first % assembly_.block == 0 && channels % assembly_.block == 0)
      assembly_.placements[id] = {concat, first};
  }
}

void Plan::find_gradient_needs() {
  std::vector<bool> has_parameter(net_.nodes().size(), false);
  for (const auto& parameter : net_.parameters()) has_parameter[parameter.node] = true;
  for (std::size_t id = 0; id < net_.nodes().size(); ++id) {
    bool needs = has_parameter[id];
    for (const int input : net_.nodes()[id].inputs)
      needs = needs || assembly_.values[input].needs_gradient;
    assembly_.values[id].needs_gradient = needs;
  }
}

std::vector<int> Plan::plan_passes() {
  const int count = static_cast<int>(ops_.size());
  // The first convolution reads nchw as it is; whatever else reads the input wants it blocked.
  const auto readers = consumers(net_);
  const bool plain = std::all_of(readers[0].begin(), readers[0].end(), [&](int id) {
    return std::holds_alternative<Conv2d>(net_.nodes()[id].layer);
  });
  const Shape& in = net_.nodes()[0].shape;
  assembly_.event = 0;
  assembly_.define(0, plain ? make_desc({options_.batch, in.channels, in.height, in.width},
                                        assembly_.stored, Tag::nchw)
                            : assembly_.picture(in));
  for (int i = 0; i < count; ++i) {
    assembly_.event = i + 1;
    ops_[i]->plan_forward(assembly_);
  }
  assembly_.arena.keep(assembly_.values[net_.heads()[0].node].slot);
  std::vector<int> order;
  parameters_of_op_.resize(ops_.size());
  for (int i = count - 1; i >= 0; --i) {
    assembly_.event = 2 * count - i;
    if (!assembly_.values[ops_[i]->output()].needs_gradient) continue;  // no parameter before it
    parameters_of_op_[i] = ops_[i]->plan_backward(assembly_);
    order.insert(order.end(), parameters_of_op_[i].begin(), parameters_of_op_[i].end());
  }
  return order;
}

void Plan::place_parameters(const std::vector<int>& order) {
  extents_.resize(net_.parameters().size());
  for (const int parameter : order) {
    const std::int64_t floats =
        padded_bytes(assembly_.parameter_layouts[parameter]) / std::int64_t{sizeof(float)};
    extents_[parameter] = {block_floats_, round_up(floats, kParameterAlignment)};
    block_floats_ += extents_[parameter].count;
  }
}

std::int64_t Plan::total_bytes(std::int64_t arena_bytes) const {
  return 3 * block_floats_ * std::int64_t{sizeof(float)} + round_up(assembly_.scratch_bytes, 4096) +
         arena_bytes;
}

void Plan::allocate(std::int64_t arena_bytes) {
  const std::int64_t block_bytes = block_floats_ * std::int64_t{sizeof(float)};
  const std::int64_t scratch_bytes = round_up(assembly_.scratch_bytes, 4096);
  const std::int64_t total = total_bytes(arena_bytes);
  const MemoryLimit limit = memory_limit();
  if (total > limit.free_bytes) throw OutOfMemory(total, limit);
  pages_ = std::make_unique<Pages>(total);
  std::byte* at = pages_->data();
  std::byte* scratch = at;
  at += scratch_bytes;
  parameters_ = reinterpret_cast<float*>(at);
  gradients_ = parameters_ + block_floats_;
  velocities_ = gradients_ + block_floats_;
  arena_ = at + 3 * block_bytes;

  Binding binding{assembly_.arena, assembly_.engine, arena_, scratch, {}, {},
                  running_.data(), storage_};
  for (const Extent& extent : extents_) {
    binding.parameters.push_back(parameters_ + extent.offset);
    binding.gradients.push_back(gradients_ + extent.offset);
  }
  for (const auto& op : ops_) op->bind(binding);
}

void Plan::set_layout_key() {
  std::string text;
  for (std::size_t i = 0; i < extents_.size(); ++i) {
    text += net_.parameters()[i].name + '@' + std::to_string(extents_[i].offset) + '+' +
            std::to_string(extents_[i].count) + ':' + layout_text(assembly_.parameter_layouts[i]) +
            '\n';
  }
  layout_key_ = "onednn-" + text_hash_digits(text);
}

PlanFacts Plan::facts() const {
  PlanFacts facts;
  facts.backend = "onednn";
  facts.isa = isa_name();
  Fusion used = fusion_;
  used.winograd = assembly_.winograd;
  facts.fusion = fusion_text(used);
  facts.libraries["onednn"] = library_version();
  facts.arena_bytes = pages_->bytes();
  facts.threads = threads_;
  if (storage_ == Storage::kBfloat) facts.notes["bf16"] = bf16_in_words(assembly_.widened);
  return facts;
}

Pass Plan::make_pass(const Batch* batch, std::vector<OpTime>* times) {
  Pass pass{stream_, kernels(assembly_.block, storage_)};
  if (batch != nullptr) pass.labels = batch->labels;
  pass.times = times;
  pass.ready = [](int) {};
  return pass;
}

void Plan::load(const Batch& batch) {
  const Shape& in = net_.nodes()[0].shape;
  const std::int64_t floats = options_.batch * in.elements();
  if (static_cast<std::int64_t>(batch.images.size()) != floats ||
      static_cast<std::int64_t>(batch.labels.size()) != options_.batch) {
    throw std::invalid_argument("onednn: a batch of " + std::to_string(options_.batch) + " needs " +
                                std::to_string(floats) + " image values and " +
                                std::to_string(options_.batch) + " labels, not " +
                                std::to_string(batch.images.size()) + " and " +
                                std::to_string(batch.labels.size()));
  }
  const Value& input = assembly_.values[0];
  const Cells to(arena_ + assembly_.arena.offset(input.slot), storage_);
  const Desc plain = make_desc({options_.batch, in.channels, in.height, in.width}, Tag::nchw);
  const Desc wanted = with_type(input.desc, DataType::f32);
  const float* from = batch.images.data();
  std::vector<float> moved;  // by nets only that do not begin with a convolution
  if (wanted != plain) {
    moved.resize(static_cast<std::size_t>(padded_values(wanted)));
    reorder_now(assembly_.engine, plain, from, wanted, moved.data());
    from = moved.data();
  }
  const Kernels& table = kernels(assembly_.block, storage_);
  parallel_ranges(padded_values(wanted), [&](std::int64_t first, std::int64_t last) {
    table.narrow(from + first, to + first, last - first);
  });
}

void Plan::run_forward(Pass& pass, const Batch& batch, const ParameterNeeded& needed) {
  pass.run("input", "load", "copy", 0, 8.0 * static_cast<double>(batch.images.size()),
           [&] { load(batch); });
  for (std::size_t i = 0; i < ops_.size(); ++i) {
    if (!pass.training && !op_in_evaluation_[i]) continue;
    if (needed) {
      for (const int parameter : parameters_of_op_[i]) needed(parameter);
    }
    ops_[i]->forward(pass);
  }
  can_go_back_ = pass.training;
}

void Plan::run_backward(Pass& pass) {
  if (!can_go_back_) throw std::logic_error("onednn: backward without a forward pass before it");
  can_go_back_ = false;  // buffers are reused on the way
  for (auto op = ops_.rbegin(); op != ops_.rend(); ++op)
    if (assembly_.values[(*op)->output()].needs_gradient) (*op)->backward(pass);
}

double Plan::forward(const Batch& batch, const ParameterNeeded& needed) {
  const ComputeScope scope(threads_);
  Pass pass = make_pass(&batch, nullptr);
  run_forward(pass, batch, needed);
  return pass.loss;
}

void Plan::backward(const GradientReady& ready) {
  const ComputeScope scope(threads_);
  Pass pass = make_pass(nullptr, nullptr);
  pass.ready = [&](int parameter) {
    if (net_.parameters()[parameter].name == options_.faults.negate_gradient) {
      float* first = gradients_ + extents_[parameter].offset;
      std::transform(first, first + extents_[parameter].count, first, std::negate<>());
    }
    if (ready) ready(parameter);
  };
  run_backward(pass);
}

void Plan::update(const SgdStep& step) {
  const ComputeScope scope(threads_);
  const Kernels& table = kernels(assembly_.block);
  parallel_ranges(block_floats_, [&](std::int64_t first, std::int64_t last) {
    table.sgd({parameters_ + first, gradients_ + first, velocities_ + first, last - first,
               static_cast<float>(step.learning_rate), static_cast<float>(step.momentum),
               static_cast<float>(step.weight_decay)});
  });
}

void Plan::evaluate(const Batch& batch) {
  const ComputeScope scope(threads_);
  Pass pass = make_pass(&batch, nullptr);
  pass.training = false;
  run_forward(pass, batch);
}

std::vector<double> Plan::logits() const {
  const int head = net_.heads()[0].node;
  const Value& value = assembly_.values[head];
  const bool narrow = type_of(value.desc) == DataType::bf16;
  const Cells cells(arena_ + assembly_.arena.offset(value.slot),
                    narrow ? Storage::kBfloat : Storage::kFloat);
  std::vector<double> logits;
  for (std::int64_t i = 0; i < options_.batch * net_.nodes()[head].shape.elements(); ++i)
    logits.push_back(cells.value(i));
  return logits;
}

void Plan::write_parameter(int parameter, std::span<const float> values) {
  const Parameter& p = net_.parameters().at(parameter);
  if (static_cast<std::int64_t>(values.size()) != p.elements()) {
    throw std::invalid_argument("onednn: parameter '" + p.name + "' has " +
                                std::to_string(p.elements()) + " values, not " +
                                std::to_string(values.size()));
  }
  reorder_now(assembly_.engine, plain_desc(p), values.data(),
              assembly_.parameter_layouts[parameter], parameters_ + extents_[parameter].offset);
}

std::vector<double> Plan::read(const float* block, int parameter) const {
  const Parameter& p = net_.parameters().at(parameter);
  std::vector<float> values(static_cast<std::size_t>(p.elements()));
  reorder_now(assembly_.engine, assembly_.parameter_layouts[parameter],
              block + extents_[parameter].offset, plain_desc(p), values.data());
  return {values.begin(), values.end()};
}

std::vector<double> Plan::read_parameter(int parameter) const {
  return read(parameters_, parameter);
}
std::vector<double> Plan::read_gradient(int parameter) const { return read(gradients_, parameter); }

std::vector<double> Plan::read_running(int statistic) const {
  const auto& values = running_.at(statistic);
  return {values.begin(), values.end()};
}

void Plan::write_running(int statistic, std::span<const float> values) {
  auto& to = running_.at(statistic);
  if (values.size() != to.size()) {
    throw std::invalid_argument("onednn: '" + net_.running_statistics()[statistic].name + "' has " +
                                std::to_string(to.size()) + " values, not " +
                                std::to_string(values.size()));
  }
  std::copy(values.begin(), values.end(), to.begin());
}

std::vector<OpTime> Plan::profile(const Batch& batch) {
  const auto running_before = running_;
  std::vector<OpTime> times;
  {
    const ComputeScope scope(threads_);
    Pass pass = make_pass(&batch, &times);
    run_forward(pass, batch);
    run_backward(pass);
  }
  // An update that changes nothing: no gradient, no decay, velocity kept.
  std::fill_n(gradients_, block_floats_, 0.0F);
  Pass pass = make_pass(nullptr, &times);
  pass.run("sgd", "update", pass.kernels.isa, 0, 20.0 * static_cast<double>(block_floats_),
           [&] { update({.learning_rate = 0, .momentum = 1, .weight_decay = 0}); });
  for (std::size_t i = 0; i < running_.size(); ++i) running_[i] = running_before[i];
  return times;
}

}  // namespace rackmark::worker::onednn

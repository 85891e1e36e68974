#include "worker/backend/cuda/plan/train_plan.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "worker/backend/cuda/plan/offsets.hpp"
#include "worker/net/text_hash.hpp"

namespace rackmark::worker::cuda {
namespace {

constexpr std::int64_t kParameterAlignment = 16;  // floats
constexpr float kFirstDynamicScale = 65536;

std::int64_t rounded(std::int64_t value, std::int64_t to) { return (value + to - 1) / to * to; }

void require_size(std::size_t got, std::int64_t wanted, const std::string& what) {
  if (static_cast<std::int64_t>(got) == wanted) return;
  throw std::invalid_argument("cuda: " + what + " has " + std::to_string(wanted) + " values, not " +
                              std::to_string(got));
}

}  // namespace

Plan::Plan(PredictOnly, const Net& net, const PlanOptions& options)
    : PlanParts(net, options.batch, parse_precision(options.precision),
                parse_fusion(options.fusion, options.precision)),
      options_(options),
      input_(net_, options.batch, options.raw_side, true) {
  operations_ = make_operations(assembly_, options_, fusion_);
  plan();
}

Plan::Plan(std::shared_ptr<Device> device, const Net& net, const PlanOptions& options)
    : Plan(PredictOnly{}, net, options) {
  open(std::move(device), most_bytes());
  allocate();
  write_state();
}

std::int64_t Plan::predict_bytes(const Net& net, const PlanOptions& options) {
  return Plan(PredictOnly{}, net, options).most_bytes();
}

void Plan::plan() {
  auto& ops = operations_.ops;
  const int count = static_cast<int>(ops.size());
  for (int i = 0; i < count; ++i) {
    assembly_.event = i;
    ops[i]->plan_forward(assembly_);
  }
  keep_logits();
  finished_by_op_.resize(ops.size());
  for (int i = count - 1; i >= 0; --i) {
    assembly_.event = 2 * count - i;
    const int output = ops[i]->output();
    // Nothing before the node learns, or it is the net's input.
    if (!assembly_.values[output].needs_gradient) continue;
    finished_by_op_[i] = ops[i]->plan_backward(assembly_);
    order_.insert(order_.end(), finished_by_op_[i].begin(), finished_by_op_[i].end());
  }
  place_parameters(order_);
  place_running();
  arena_bytes_ = assembly_.arena.assign();
}

void Plan::place_parameters(const std::vector<int>& order) {
  extents_.resize(net_.parameters().size());
  for (const int parameter : order) {
    const std::int64_t count = rounded(assembly_.layouts[parameter].stored(), kParameterAlignment);
    extents_[parameter] = {block_floats_, count};
    block_floats_ += count;
  }
}

void Plan::place_running() {
  for (const auto& statistic : net_.running_statistics()) {
    running_offsets_.push_back(running_floats_);
    running_floats_ += rounded(statistic.channels, kParameterAlignment);
  }
}

Plan::Regions Plan::regions(std::int64_t workspace_bytes) const {
  Regions r;
  Offsets block;
  const std::int64_t batch = options_.batch;
  r.parameters = block.add(4 * block_floats_);
  r.gradients = block.add(4 * block_floats_);
  r.velocities = block.add(4 * block_floats_);
  r.narrow = block.add(is_narrow() ? width(precision_.type) * block_floats_ : 0);
  r.running = block.add(4 * running_floats_);
  r.state = block.add(sizeof(StepState));
  r.labels = block.add(input_.label_bytes());
  r.row_losses = block.add(4 * batch * static_cast<std::int64_t>(net_.heads().size()));
  r.pictures = block.add(input_.picture_bytes());
  r.windows = block.add(input_.window_bytes());
  r.scratch = block.add(assembly_.scratch_bytes);
  r.workspace = block.add(workspace_bytes);
  r.arena = block.add(arena_bytes_);
  r.total = block.total();
  return r;
}

std::int64_t Plan::most_bytes() const { return regions(most_workspace_bytes()).total; }

void Plan::allocate() {
  Engines engines(*device_);
  for (const auto& op : operations_.ops) op->prepare(engines);
  regions_ = regions(engines.workspace_bytes());
  memory_ = device_->allocate(regions_.total);
  workspace_ = at<void>(regions_.workspace);
  host_loss_ = device_->allocate_host(sizeof(double));
  loss_known_ = device_->make_mark();
  scalars_.open(*device_);
  pass_number_.open(*device_);
  input_.open(*device_, {.pictures = at<std::byte>(regions_.pictures),
                         .windows = at<std::byte>(regions_.windows),
                         .labels = at<std::byte>(regions_.labels)});
  bind();
}

void Plan::bind() {
  Binding binding{.arena = assembly_.arena,
                  .arena_base = at<std::byte>(regions_.arena),
                  .scratch = at<void>(regions_.scratch),
                  .state = state(),
                  .labels = at<std::int32_t>(regions_.labels),
                  .row_losses = at<float>(regions_.row_losses),
                  .images = at<float>(regions_.pictures),
                  .pixels = at<std::uint8_t>(regions_.pictures),
                  .windows = at<PictureWindow>(regions_.windows)};
  for (const Extent& extent : extents_) {
    float* parameter = at<float>(regions_.parameters) + extent.offset;
    binding.parameters.push_back(parameter);
    binding.gradients.push_back(at<float>(regions_.gradients) + extent.offset);
    void* narrow = at<std::byte>(regions_.narrow) + extent.offset * width(precision_.type);
    binding.narrow.push_back(is_narrow() ? narrow : parameter);
  }
  for (const std::int64_t offset : running_offsets_) {
    binding.running.push_back(at<float>(regions_.running) + offset);
  }
  for (const auto& op : operations_.ops) op->bind(binding);
}

void Plan::write_state() {
  StepState first;
  if (precision_.scales_loss) {
    first.loss_scale = static_cast<float>(options_.loss_scale.value_or(kFirstDynamicScale));
  }
  device_->upload(state(), &first, sizeof first);
  for (std::size_t s = 0; s < running_offsets_.size(); ++s) {
    const auto& statistic = net_.running_statistics()[s];
    const bool variance = statistic.name.ends_with(".running_var");
    write_running(static_cast<int>(s),
                  std::vector<float>(statistic.channels, variance ? 1.0F : 0.0F));
  }
}

PlanFacts Plan::facts() const {
  PlanFacts facts = device_facts(regions_.total);
  if (precision_.scales_loss) {
    facts.notes["loss scale"] =
        options_.loss_scale ? std::to_string(*options_.loss_scale) : "dynamic";
  }
  if (fusion_.statistics) describe_merged(facts);
  input_.describe(facts);
  return facts;
}

void Plan::describe_merged(PlanFacts& facts) const {
  struct Count {
    int all = 0, merged = 0;
    void add(bool is_merged) { ++all, merged += is_merged; }
    std::string text() const { return std::to_string(merged) + " of " + std::to_string(all); }
  } forward, backward, applied;
  for (const Value& value : assembly_.values) {
    if (value.sums) forward.add(value.sums->made);
    if (value.norm) backward.add(value.norm->sums);
    if (value.norm && value.norm->may_apply) applied.add(value.norm->applies);
  }
  const std::string reason = ", where that is faster";
  facts.notes["conv-statistics"] =
      "forward by " + forward.text() + " convolutions, backward by " + backward.text() + reason;
  if (fusion_.in_convolution) facts.notes["bn-in-conv"] = applied.text() + " batch norms" + reason;
}

std::string Plan::layout_key() const {
  std::string text;
  for (std::size_t i = 0; i < extents_.size(); ++i) {
    text += net_.parameters()[i].name + '@' + std::to_string(extents_[i].offset) + '+' +
            std::to_string(extents_[i].count) + ':' + assembly_.layouts[i].text() + '\n';
  }
  return "cuda-" + text_hash_digits(text);
}

void Plan::replay(std::unique_ptr<Recording>& recording, const std::function<void()>& work) {
  if (!recording) recording = record(*device_, work);
  recording->replay();
}

void Plan::write_pass() { pass_number_.send(&state()->pass, options_.masks.number(passes_++)); }

void Plan::write_scalars(const SgdStep& step) {
  scalars_.send(&state()->learning_rate,
                {static_cast<float>(step.learning_rate), static_cast<float>(step.momentum),
                 static_cast<float>(step.weight_decay)});
}

// Parameters that others write into parameter_block(): each is brought to the device as soon as it
// is whole.
void Plan::bring_parameters(const ParameterNeeded& needed) {
  const auto* from = reinterpret_cast<const float*>(host_parameters_.get());
  for (auto parameter = order_.rbegin(); parameter != order_.rend(); ++parameter) {
    if (needed) needed(*parameter);
    if (from == nullptr) continue;
    const Extent& extent = extents_[*parameter];
    device_->upload(at<float>(regions_.parameters) + extent.offset, from + extent.offset,
                    4 * extent.count);
  }
  if (from != nullptr) narrow_parameters();
}

void Plan::narrow_parameters() {
  if (!is_narrow()) return;
  device_->kernels(precision_.type)
      .narrow(device_->queue(),
              {at<float>(regions_.parameters), at<void>(regions_.narrow), block_floats_});
}

void Plan::give_forward(Pass& pass) {
  for (std::size_t i = 0; i < operations_.ops.size(); ++i) {
    if (pass.training || operations_.in_evaluation[i]) operations_.ops[i]->forward(pass);
  }
  if (!pass.training) return;
  const auto rows = static_cast<std::int64_t>(net_.heads().size()) * options_.batch;
  pass.run("loss", "forward", "loss_sum", pass.kernels.loss_sum, 0,
           {at<float>(regions_.row_losses), rows, state()});
}

void Plan::give_backward(Pass& pass) {
  for (std::size_t i = operations_.ops.size(); i-- > 0;) {
    const int output = operations_.ops[i]->output();
    if (assembly_.values[output].needs_gradient) operations_.ops[i]->backward(pass);
  }
}

void Plan::give_backward_with_group() {
  Pass pass = make_pass();
  group_->begin();
  pass.ready = [this](int parameter) { group_->ready(parameter); };
  give_backward(pass);
  group_->join();
}

void Plan::give_unscale(Pass& pass) {
  if (!precision_.scales_loss) return;
  pass.run("gradients", "update", "unscale", pass.kernels.unscale,
           8.0 * static_cast<double>(block_floats_),
           {at<float>(regions_.gradients), block_floats_, state()});
}

void Plan::give_update(Pass& pass, bool scaled) {
  const auto floats = static_cast<double>(block_floats_);
  if (precision_.scales_loss) {
    pass.run("gradients", "update", "find_overflow", pass.kernels.find_overflow, 4 * floats,
             {at<float>(regions_.gradients), block_floats_, state(), scaled});
  }
  pass.run("sgd", "update", "sgd", pass.kernels.sgd, (is_narrow() ? 22 : 20) * floats,
           {at<float>(regions_.parameters), at<float>(regions_.velocities),
            at<float>(regions_.gradients), is_narrow() ? at<void>(regions_.narrow) : nullptr,
            block_floats_, state()});
  if (precision_.scales_loss) {
    pass.run("sgd", "update", "adjust_scale", pass.kernels.adjust_scale, 0,
             {state(), options_.loss_scale.has_value()});
  }
}

void Plan::fetch_loss() {
  device_->fetch(host_loss_.get(), &state()->loss, sizeof(double));
  loss_known_->set();
}

double Plan::loss() {
  loss_known_->wait();
  double value = 0;
  std::memcpy(&value, host_loss_.get(), sizeof value);
  return value;
}

void Plan::run_forward() {
  replay(forward_, [this] {
    Pass pass = make_pass();
    give_forward(pass);
  });
  input_.release();
  fetch_loss();
}

double Plan::forward(const Batch& batch, const ParameterNeeded& needed) {
  input_.load(batch);
  bring_parameters(needed);
  write_pass();
  run_forward();
  can_go_back_ = true;
  return loss();
}

void Plan::backward(const GradientReady& ready) {
  if (!can_go_back_) throw std::logic_error("cuda: backward without a forward pass before it");
  can_go_back_ = false;
  replay(backward_, [this] {
    Pass pass = make_pass();
    give_backward(pass);
    give_unscale(pass);
  });
  gradients_scaled_ = false;
  apply_faults();
  bring_gradients_to_host(ready);
}

void Plan::apply_faults() {
  for (std::size_t p = 0; p < extents_.size(); ++p) {
    if (net_.parameters()[p].name != options_.faults.negate_gradient) continue;
    const Matrix gradient{at<float>(regions_.gradients) + extents_[p].offset, 1,
                          static_cast<int>(extents_[p].count), extents_[p].count};
    device_->kernels(Type::kFloat).copy(device_->queue(), {gradient, gradient, -1});
  }
}

// Where an exchange reads gradient_block(): its copies follow the whole backward pass.
void Plan::bring_gradients_to_host(const GradientReady& ready) {
  if (!host_gradients_) {
    if (ready) std::for_each(order_.begin(), order_.end(), ready);
    return;
  }
  auto* to = reinterpret_cast<float*>(host_gradients_.get());
  std::vector<std::unique_ptr<Mark>> arrived;
  for (const int parameter : order_) {
    const Extent& extent = extents_[parameter];
    device_->fetch(to + extent.offset, at<float>(regions_.gradients) + extent.offset,
                   4 * extent.count);
    arrived.push_back(device_->make_mark());
    arrived.back()->set();
  }
  for (std::size_t i = 0; i < order_.size(); ++i) {
    arrived[i]->wait();
    if (ready) ready(order_[i]);
  }
}

void Plan::update(const SgdStep& step) {
  if (gradients_scaled_) throw std::logic_error("cuda: update without a backward pass before it");
  if (host_gradients_) {
    device_->upload(at<float>(regions_.gradients), host_gradients_.get(), 4 * block_floats_);
  }
  write_scalars(step);
  replay(update_, [this] {
    Pass pass = make_pass();
    give_update(pass, false);
  });
  if (host_parameters_) {
    device_->download(host_parameters_.get(), at<float>(regions_.parameters), 4 * block_floats_);
  }
}

// Everything is given to the device before the host waits for the loss, which is known when a third
// of the step has run: the device goes on without a gap. Gradients keep their loss scale, which sgd
// divides by: one pass over them less.
TrainPlan::StepOutcome Plan::step(const Batch& batch, const SgdStep& sgd) {
  if (host_gradients_ || host_parameters_ || !options_.faults.negate_gradient.empty()) {
    return TrainPlan::step(batch, sgd);
  }
  input_.load(batch);
  write_pass();
  write_scalars(sgd);
  run_forward();
  if (group_) give_backward_with_group();
  replay(rest_, [this] {
    Pass pass = make_pass();
    if (!group_) give_backward(pass);
    give_update(pass, true);
  });
  gradients_scaled_ = precision_.scales_loss;
  can_go_back_ = false;
  const double known = loss();
  return {.loss = known, .exposed_communication_ms = group_ ? group_->exposed_ms() : 0};
}

std::optional<std::int64_t> Plan::skipped_steps() const {
  if (!precision_.scales_loss) return std::nullopt;
  StepState now;
  device_->download(&now, state(), sizeof now);
  return now.skipped;
}

std::string Plan::join_group(const RankGroup& group) {
  group_ =
      std::make_unique<GroupExchange>(*device_, group, extents_, at<float>(regions_.gradients));
  rest_.reset();
  return group_->library();
}

void Plan::evaluate(const Batch& batch) {
  input_.load(batch);
  bring_parameters({});
  Pass pass = make_pass(nullptr, false);
  give_forward(pass);
  input_.release();
  can_go_back_ = false;
  device_->wait();
}

void Plan::write_parameter(int parameter, std::span<const float> values) {
  const ParameterLayout& layout = assembly_.layouts.at(parameter);
  require_size(values.size(), layout.elements(),
               "parameter '" + net_.parameters()[parameter].name + "'");
  const std::vector<float> stored = layout.to_memory(values);
  const std::int64_t offset = extents_[parameter].offset;
  device_->upload(at<float>(regions_.parameters) + offset, stored.data(), 4 * layout.stored());
  if (host_parameters_) {
    std::memcpy(reinterpret_cast<float*>(host_parameters_.get()) + offset, stored.data(),
                4 * stored.size());
  }
  if (!is_narrow()) return;
  device_->kernels(precision_.type)
      .narrow(device_->queue(),
              {at<float>(regions_.parameters) + offset,
               at<std::byte>(regions_.narrow) + offset * width(precision_.type), layout.stored()});
}

std::vector<double> Plan::read(std::int64_t region, int parameter) const {
  const ParameterLayout& layout = assembly_.layouts.at(parameter);
  std::vector<float> stored(static_cast<std::size_t>(layout.stored()));
  device_->download(stored.data(), at<float>(region) + extents_[parameter].offset,
                    4 * layout.stored());
  return layout.from_memory(stored);
}

// What others have written into parameter_block() is newer than what the device has.
std::vector<double> Plan::read_parameter(int parameter) const {
  if (!host_parameters_) return read(regions_.parameters, parameter);
  const auto* values =
      reinterpret_cast<const float*>(host_parameters_.get()) + extents_.at(parameter).offset;
  const ParameterLayout& layout = assembly_.layouts[parameter];
  return layout.from_memory({values, static_cast<std::size_t>(layout.stored())});
}

std::vector<double> Plan::read_gradient(int parameter) const {
  auto values = read(regions_.gradients, parameter);
  if (!gradients_scaled_) return values;
  float scale = 1;
  device_->download(&scale, &state()->gradient_scale, sizeof scale);
  for (double& value : values) value /= scale;
  return values;
}

std::vector<double> Plan::read_running(int statistic) const {
  std::vector<float> values(net_.running_statistics().at(statistic).channels);
  device_->download(values.data(), at<float>(regions_.running) + running_offsets_[statistic],
                    4 * static_cast<std::int64_t>(values.size()));
  return {values.begin(), values.end()};
}

void Plan::write_running(int statistic, std::span<const float> values) {
  const auto& known = net_.running_statistics().at(statistic);
  require_size(values.size(), known.channels, "'" + known.name + "'");
  device_->upload(at<float>(regions_.running) + running_offsets_[statistic], values.data(),
                  static_cast<std::int64_t>(values.size_bytes()));
}

std::span<float> Plan::gradient_block() {
  if (!host_gradients_) host_gradients_ = device_->allocate_host(4 * block_floats_);
  return {reinterpret_cast<float*>(host_gradients_.get()), static_cast<std::size_t>(block_floats_)};
}

std::span<float> Plan::parameter_block() {
  if (!host_parameters_) {
    host_parameters_ = device_->allocate_host(4 * block_floats_);
    device_->download(host_parameters_.get(), at<float>(regions_.parameters), 4 * block_floats_);
  }
  return {reinterpret_cast<float*>(host_parameters_.get()),
          static_cast<std::size_t>(block_floats_)};
}

// Leaves parameters, momentum and statistics as they are.
std::vector<OpTime> Plan::profile(const Batch& batch) {
  std::vector<float> running(static_cast<std::size_t>(running_floats_));
  device_->download(running.data(), at<float>(regions_.running), 4 * running_floats_);
  StepState before;
  device_->download(&before, state(), sizeof before);
  input_.load(batch);
  Stopwatch stopwatch(*device_);
  Pass pass = make_pass(&stopwatch);
  give_forward(pass);
  input_.release();
  give_backward(pass);
  device_->clear(at<float>(regions_.gradients), 4 * block_floats_);
  write_scalars({.learning_rate = 0, .momentum = 1, .weight_decay = 0});
  give_update(pass, true);
  device_->upload(at<float>(regions_.running), running.data(), 4 * running_floats_);
  device_->upload(state(), &before, sizeof before);
  device_->wait();
  can_go_back_ = false;
  return stopwatch.take();
}

}  // namespace rackmark::worker::cuda

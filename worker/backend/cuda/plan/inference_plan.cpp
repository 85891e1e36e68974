#include "worker/backend/cuda/plan/inference_plan.hpp"

#include <algorithm>
#include <stdexcept>

#include "worker/backend/cuda/plan/operations.hpp"

namespace rackmark::worker::cuda {
namespace {

bool has_weights_to_fold(const Layer& layer) {
  return std::holds_alternative<Conv2d>(layer) || std::holds_alternative<Linear>(layer) ||
         std::holds_alternative<BatchNorm>(layer);
}

}  // namespace

InferencePlan::InferencePlan(PredictOnly, const Net& net, const InferOptions& options,
                             const TrainedValues& values)
    : PlanParts(net, options.batch, options.precision, options.fusion),
      input_(net_, options.batch, options.raw_side, false) {
  add_ops(values, options.raw_side);
  plan();
}

InferencePlan::InferencePlan(std::shared_ptr<Device> device, const Net& net,
                             const InferOptions& options, const TrainedValues& values)
    : InferencePlan(PredictOnly{}, net, options, values) {
  open(std::move(device), most_bytes());
  allocate();
}

std::int64_t InferencePlan::predict_bytes(const Net& net, const InferOptions& options,
                                          const TrainedValues& values) {
  return InferencePlan(PredictOnly{}, net, options, values).most_bytes();
}

void InferencePlan::add_ops(const TrainedValues& values, int raw_side) {
  const std::vector<Unit> units = inference_units(net_, fusion_.norm);
  const auto readers = readers_of(net_, units);
  const bool convolutions_read_input =
      std::all_of(readers[0].begin(), readers[0].end(), [&](int unit) {
        return std::holds_alternative<Conv2d>(net_.nodes()[units[unit].node].layer);
      });
  ops_.push_back(make_input_op(convolutions_read_input, raw_side));
  for (const Unit& unit : units) {
    if (fusion_.norm) place_in_concat(unit.output, readers, units);
    if (has_weights_to_fold(net_.nodes()[unit.node].layer)) {
      auto layer = make_inference_layer_op(net_, unit, values);
      layers_.push_back(layer.get());
      ops_.push_back(std::move(layer));
    } else {
      ops_.push_back(make_simple_op(net_, unit.node));
    }
  }
}

// Whatever only a concat reads is made inside the concat's value.
void InferencePlan::place_in_concat(int id, const std::vector<std::vector<int>>& readers,
                                    const std::vector<Unit>& units) {
  if (readers[id].size() != 1) return;
  const Unit& reader = units[readers[id].front()];
  if (!std::holds_alternative<Concat>(net_.nodes()[reader.node].layer)) return;
  assembly_.place_in_concat(id, reader.output, reader.inputs);
}

void InferencePlan::plan() {
  for (std::size_t i = 0; i < ops_.size(); ++i) {
    assembly_.event = static_cast<int>(i);
    ops_[i]->plan_forward(assembly_);
    define_dropouts(ops_[i]->output());
  }
  keep_logits();
  Offsets constants;
  for (InferenceOp* layer : layers_) layer->plan_constants(constants, precision_.type);
  constant_bytes_ = constants.total();
  arena_bytes_ = assembly_.arena.assign();
}

// A dropout passes everything through: its value is its input's.
void InferencePlan::define_dropouts(int id) {
  for (int reader = id + 1; reader < static_cast<int>(net_.nodes().size()); ++reader) {
    const NodeInfo& node = net_.nodes()[reader];
    if (!std::holds_alternative<worker::Dropout>(node.layer) || node.inputs[0] != id) continue;
    const Value& value = assembly_.values[id];
    assembly_.define_as(reader, value.place, value.is_flat, value.order);
    define_dropouts(reader);
  }
}

InferencePlan::Regions InferencePlan::regions(std::int64_t workspace_bytes) const {
  Regions r;
  Offsets block;
  r.constants = block.add(constant_bytes_);
  r.pictures = block.add(input_.picture_bytes());
  r.windows = block.add(input_.window_bytes());
  r.workspace = block.add(workspace_bytes);
  r.arena = block.add(arena_bytes_);
  r.total = block.total();
  return r;
}

std::int64_t InferencePlan::most_bytes() const { return regions(most_workspace_bytes()).total; }

void InferencePlan::allocate() {
  Engines engines(*device_);
  for (const auto& op : ops_) op->prepare(engines);
  regions_ = regions(engines.workspace_bytes());
  memory_ = device_->allocate(regions_.total);
  for (InferenceOp* layer : layers_) {
    layer->write_constants(*device_, memory_.get() + regions_.constants);
  }
  std::byte* pictures = memory_.get() + regions_.pictures;
  std::byte* windows = memory_.get() + regions_.windows;
  input_.open(*device_, {.pictures = pictures, .windows = windows});
  Binding binding{.arena = assembly_.arena,
                  .arena_base = memory_.get() + regions_.arena,
                  .images = reinterpret_cast<const float*>(pictures),
                  .pixels = reinterpret_cast<const std::uint8_t*>(pictures),
                  .windows = reinterpret_cast<const PictureWindow*>(windows)};
  for (const auto& op : ops_) op->bind(binding);
}

PlanFacts InferencePlan::facts() const {
  PlanFacts facts = device_facts(regions_.total);
  input_.describe(facts);
  return facts;
}

Pass InferencePlan::make_pass(Stopwatch* stopwatch) {
  return PlanParts::make_pass(memory_.get() + regions_.workspace, false, stopwatch);
}

void InferencePlan::give(Pass& pass) {
  for (const auto& op : ops_) op->forward(pass);
}

void InferencePlan::run(const Batch& batch) {
  input_.load(batch);
  if (!recording_) {
    recording_ = record(*device_, [this] {
      Pass pass = make_pass();
      give(pass);
    });
  }
  recording_->replay();
  input_.release();
  device_->wait();
}

std::vector<OpTime> InferencePlan::profile(const Batch& batch) {
  input_.load(batch);
  Stopwatch stopwatch(*device_);
  Pass pass = make_pass(&stopwatch);
  give(pass);
  input_.release();
  return stopwatch.take();
}

}  // namespace rackmark::worker::cuda

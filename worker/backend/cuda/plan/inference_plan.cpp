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
    : net_(net),
      options_(options),
      fusion_(parse_fusion(options.fusion, options.precision)),
      precision_(parse_precision(options.precision)),
      assembly_(net_, options.batch, precision_.type, precision_.arithmetic) {
  if (options.batch < 1) {
    throw std::invalid_argument("cuda: batch " + std::to_string(options.batch) +
                                " must be at least 1");
  }
  if (net_.heads().empty()) throw std::invalid_argument("cuda: the net has no loss");
  options_.calibration.clear();
  assembly_.values.resize(net_.nodes().size());
  assembly_.layouts.resize(net_.parameters().size());
  add_ops(values);
  plan();
}

InferencePlan::InferencePlan(std::shared_ptr<Device> device, const Net& net,
                             const InferOptions& options, const TrainedValues& values)
    : InferencePlan(PredictOnly{}, net, options, values) {
  device_ = std::move(device);
  allocate();
}

std::int64_t InferencePlan::predict_bytes(const Net& net, const InferOptions& options,
                                          const TrainedValues& values) {
  return InferencePlan(PredictOnly{}, net, options, values).most_bytes();
}

void InferencePlan::add_ops(const TrainedValues& values) {
  const std::vector<Unit> units = inference_units(net_, fusion_.norm);
  const auto readers = readers_of(net_, units);
  const bool convolutions_read_input =
      std::all_of(readers[0].begin(), readers[0].end(), [&](int unit) {
        return std::holds_alternative<Conv2d>(net_.nodes()[units[unit].node].layer);
      });
  ops_.push_back(make_input_op(convolutions_read_input));
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
  int first = 0;
  for (const int input : reader.inputs) {
    if (input == id) break;
    first += net_.nodes()[input].shape.channels;
  }
  assembly_.values[id].concat = reader.output;
  assembly_.values[id].first_channel = first;
}

void InferencePlan::plan() {
  for (std::size_t i = 0; i < ops_.size(); ++i) {
    assembly_.event = static_cast<int>(i);
    ops_[i]->plan_forward(assembly_);
    define_dropouts(ops_[i]->output());
  }
  assembly_.arena.keep(assembly_.values[net_.heads()[0].node].place.slot);
  for (InferenceOp* layer : layers_) layer->plan_constants(constant_bytes_, precision_.type);
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
  constexpr std::int64_t kAlignment = 256;
  Regions r;
  const auto add = [&r](std::int64_t bytes) {
    const std::int64_t offset = r.total;
    r.total += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return offset;
  };
  r.constants = add(constant_bytes_);
  r.images = add(4 * options_.batch * net_.nodes()[0].shape.elements());
  r.workspace = add(workspace_bytes);
  r.arena = add(arena_bytes_);
  return r;
}

std::int64_t InferencePlan::most_bytes() const {
  return regions(workspace_limit(precision_.type, precision_.arithmetic)).total;
}

void InferencePlan::allocate() {
  const std::int64_t wanted = most_bytes(), free = device_->free_bytes();
  if (wanted > free) throw OutOfMemory(wanted, free);
  Engines engines(*device_);
  for (const auto& op : ops_) op->prepare(engines);
  regions_ = regions(engines.workspace_bytes());
  memory_ = device_->allocate(regions_.total);
  for (InferenceOp* layer : layers_) {
    layer->write_constants(*device_, memory_.get() + regions_.constants);
  }
  Binding binding{.arena = assembly_.arena,
                  .arena_base = memory_.get() + regions_.arena,
                  .images = reinterpret_cast<const float*>(memory_.get() + regions_.images)};
  for (const auto& op : ops_) op->bind(binding);
}

PlanFacts InferencePlan::facts() const {
  const DeviceFacts device = device_->facts();
  PlanFacts facts;
  facts.backend = "cuda";
  facts.isa = device.architecture;
  facts.fusion = fusion_text(fusion_);
  facts.libraries = device.libraries;
  facts.arena_bytes = regions_.total;
  facts.threads = 1;
  facts.notes["gpu"] = device.name;
  return facts;
}

Pass InferencePlan::make_pass(Stopwatch* stopwatch) {
  return {.device = *device_,
          .kernels = device_->kernels(precision_.type),
          .floats = device_->kernels(Type::kFloat),
          .queue = device_->queue(),
          .workspace = memory_.get() + regions_.workspace,
          .training = false,
          .ready = [](int) {},
          .stopwatch = stopwatch};
}

void InferencePlan::give(Pass& pass) {
  for (const auto& op : ops_) op->forward(pass);
}

void InferencePlan::load(std::span<const float> images, std::uint64_t identity) {
  const std::int64_t values = options_.batch * net_.nodes()[0].shape.elements();
  if (std::ssize(images) != values) {
    throw std::invalid_argument("cuda: a batch of " + std::to_string(options_.batch) + " needs " +
                                std::to_string(values) + " image values, not " +
                                std::to_string(images.size()));
  }
  if (identity != 0 && identity == loaded_) return;  // on the device already
  device_->upload(memory_.get() + regions_.images, images.data(),
                  static_cast<std::int64_t>(images.size_bytes()));
  loaded_ = identity;
}

void InferencePlan::run(std::span<const float> images, std::uint64_t identity) {
  load(images, identity);
  if (!recording_) {
    recording_ = record(*device_, [this] {
      Pass pass = make_pass();
      give(pass);
    });
  }
  recording_->replay();
  device_->wait();
}

std::vector<double> InferencePlan::logits() const {
  const Place& place = assembly_.values[net_.heads()[0].node].place;
  std::vector<float> values(static_cast<std::size_t>(place.rows * place.channels));
  device_->download(values.data(),
                    memory_.get() + regions_.arena + assembly_.arena.offset(place.slot),
                    place.bytes());
  return {values.begin(), values.end()};
}

std::vector<OpTime> InferencePlan::profile(std::span<const float> images) {
  load(images, 0);
  Stopwatch stopwatch(*device_);
  Pass pass = make_pass(&stopwatch);
  give(pass);
  return stopwatch.take();
}

}  // namespace rackmark::worker::cuda

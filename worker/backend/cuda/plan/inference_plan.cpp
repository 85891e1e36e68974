#include "worker/backend/cuda/plan/inference_plan.hpp"

#include <algorithm>
#include <chrono>
#include <optional>
#include <stdexcept>
#include <utility>

#include "worker/backend/cuda/plan/integer_choice.hpp"
#include "worker/backend/cuda/plan/operations.hpp"

namespace rackmark::worker::cuda {
namespace {

bool has_weights_to_fold(const Layer& layer) {
  return std::holds_alternative<Conv2d>(layer) || std::holds_alternative<Linear>(layer) ||
         std::holds_alternative<BatchNorm>(layer);
}

// The plan that ranges are taken with: few pictures a batch say as much as many.
InferOptions calibrating(const InferOptions& options) {
  constexpr int kPictures = 16;
  return {
      .batch = std::min(options.batch, kPictures), .precision = "fp32", .fusion = options.fusion};
}

}  // namespace

InferencePlan::InferencePlan(const Net& net, const InferOptions& options,
                             const TrainedValues& values, const Peaks& peaks)
    : PlanParts(net, options.batch, parse_inference_precision(options.precision),
                parse_fusion(options.fusion, options.precision)),
      input_(net_, options.batch, options.raw_side, false) {
  add_ops(values, options.raw_side, peaks);
  plan();
}

InferencePlan::InferencePlan(std::shared_ptr<Device> device, const Net& net,
                             const InferOptions& options, const TrainedValues& values)
    : InferencePlan(net, options, values, calibrated(device, net, options, values)) {
  open(std::move(device), most_bytes());
  allocate();
}

std::int64_t InferencePlan::predict_bytes(const Net& net, const InferOptions& options,
                                          const TrainedValues& values) {
  std::int64_t bytes = InferencePlan(net, options, values, {}).most_bytes();
  if (parse_inference_precision(options.precision).integers) {
    bytes = std::max(bytes, predict_bytes(net, calibrating(options), values));
  }
  return bytes;
}

// What integers must hold: of every value, as float32 makes it from pictures like those to come.
Peaks InferencePlan::calibrated(const std::shared_ptr<Device>& device, const Net& net,
                                const InferOptions& options, const TrainedValues& values) {
  if (!parse_inference_precision(options.precision).integers) return {};
  if (options.calibration.empty()) {
    throw std::invalid_argument("cuda: int8 needs calibration pictures");
  }
  return InferencePlan(device, net, calibrating(options), values).find_peaks(options.calibration);
}

Peaks InferencePlan::find_peaks(const std::vector<std::vector<float>>& batches) {
  const auto floats = static_cast<std::size_t>(assembly_.batch * net_.nodes()[0].shape.elements());
  std::vector<ValueRange> ranges(net_.nodes().size());
  for (const bool again : {false, true}) {
    for (const auto& batch : batches) {
      if (batch.size() < floats) {
        throw std::invalid_argument("cuda: a calibration batch has " +
                                    std::to_string(batch.size()) + " values, at least " +
                                    std::to_string(floats) + " are wanted");
      }
      show_values(std::span(batch).first(floats), [&](int node, std::span<const float> values) {
        if (again) return ranges[node].count(values);
        if (ranges[node].see(values)) return;
        throw std::invalid_argument("cuda: node '" + net_.nodes()[node].name +
                                    "' gives values that are not finite: no range for int8");
      });
    }
  }
  Peaks peaks;
  for (const ValueRange& range : ranges) peaks.push_back(range.peak(kIntegerSteps));
  return peaks;
}

// The values of all pictures on the way, one after the other, as the host sees them.
void InferencePlan::show_values(std::span<const float> images, const ValueSeen& see) {
  input_.load({.images = images});
  Pass pass = make_pass();
  std::vector<float> block, values;
  for (const auto& op : ops_) {
    op->forward(pass);
    const Value& value = assembly_.values[op->output()];
    if (value.is_flat) continue;  // linear layers do not compute in integers
    const Place& place = value.place;
    const std::int64_t between = place.stride - place.channels;  // what belongs to others
    block.resize(static_cast<std::size_t>(place.rows * place.stride - between));
    const std::byte* from =
        memory_.get() + regions_.arena + assembly_.arena.offset(place.slot) + 4 * place.offset;
    device_->download(block.data(), from, 4 * std::ssize(block));
    values.clear();
    for (std::int64_t row = 0; row < place.rows; ++row) {
      const auto first = block.begin() + row * place.stride;
      values.insert(values.end(), first, first + place.channels);
    }
    see(op->output(), values);
  }
  input_.release();
}

void InferencePlan::add_ops(const TrainedValues& values, int raw_side, const Peaks& peaks) {
  const std::vector<Unit> units = inference_units(net_, fusion_.norm);
  std::optional<IntegerChoice> integers;
  if (precision_.integers) {
    integers.emplace(net_, units);
    const auto steps = integer_steps(net_, units, peaks);
    for (std::size_t id = 0; id < steps.size(); ++id) {
      assembly_.values[id].step = steps[id];
      if (integers->stores(static_cast<int>(id))) assembly_.values[id].type = Type::kInteger;
    }
    note_integers(units);
  }
  const auto readers = readers_of(net_, units);
  const bool convolutions_read_input =
      std::all_of(readers[0].begin(), readers[0].end(), [&](int unit) {
        return std::holds_alternative<Conv2d>(net_.nodes()[units[unit].node].layer);
      });
  ops_.push_back(make_input_op(convolutions_read_input, raw_side));
  for (const Unit& unit : units) {
    if (fusion_.norm) place_in_concat(unit.output, readers, units);
    if (has_weights_to_fold(net_.nodes()[unit.node].layer)) {
      auto layer = integers && integers->computes(unit)
                       ? make_integer_convolution_op(net_, unit, values)
                       : make_inference_layer_op(net_, unit, values);
      layers_.push_back(layer.get());
      ops_.push_back(std::move(layer));
    } else {
      ops_.push_back(make_simple_op(net_, unit.node));
    }
  }
}

void InferencePlan::note_integers(const std::vector<Unit>& units) {
  int layers = 0;
  std::string others;
  for (const Unit& unit : units) {
    const NodeInfo& node = net_.nodes()[unit.node];
    if (std::holds_alternative<Linear>(node.layer))
      others += (others.empty() ? "" : ", ") + node.name;
    if (std::holds_alternative<Conv2d>(node.layer)) ++layers;
  }
  const auto linear = std::count(others.begin(), others.end(), ',') + (others.empty() ? 0 : 1);
  notes_["int8 layers"] = std::to_string(layers) + " of " + std::to_string(layers + linear) +
                          (others.empty() ? "" : "; fp16: " + others);
  notes_["int8 weights"] = "8 bits a weight, one scale an output channel";
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
  facts.notes.insert(notes_.begin(), notes_.end());
  return facts;
}

Pass InferencePlan::make_pass(Stopwatch* stopwatch) {
  return PlanParts::make_pass(memory_.get() + regions_.workspace, false, stopwatch);
}

void InferencePlan::give(Pass& pass, OpIterator first, OpIterator last) {
  std::for_each(first, last, [&pass](const auto& op) { op->forward(pass); });
}

std::unique_ptr<Recording> InferencePlan::recording_of(OpIterator first, OpIterator last) {
  return record(*device_, [this, first, last] {
    Pass pass = make_pass();
    give(pass, first, last);
  });
}

void InferencePlan::forget_brought() {
  if (std::exchange(brought_, false)) input_.release();
}

void InferencePlan::run(const Batch& batch) {
  forget_brought();
  input_.load(batch);
  if (!whole_) whole_ = recording_of(ops_.begin(), ops_.end());
  whole_->replay();
  input_.release();
  device_->wait();
}

// The first operation alone reads the batch: the next one takes its place while the others run.
double InferencePlan::run_and_bring(const NextBatch& next) {
  using Clock = std::chrono::steady_clock;
  const auto ms_since = [](Clock::time_point start) {
    return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
  };
  if (!halves_.end) {
    halves_ = {recording_of(ops_.begin(), ops_.begin() + 1),
               recording_of(ops_.begin() + 1, ops_.end()), device_->make_mark(),
               device_->make_mark()};
  }
  const auto start = Clock::now();
  if (!brought_) input_.load(next());
  const double waited_ms = ms_since(start);
  brought_ = false;
  const auto given = Clock::now();
  halves_.begin->set();
  halves_.reading->replay();
  input_.release();
  halves_.answering->replay();
  halves_.end->set();
  input_.load(next());
  brought_ = true;
  const double until_brought_ms = ms_since(given);
  halves_.end->wait();
  const double at_work_ms = halves_.end->ms_since(*halves_.begin);
  return waited_ms + std::max(0.0, until_brought_ms - at_work_ms);
}

std::vector<OpTime> InferencePlan::profile(const Batch& batch) {
  forget_brought();
  input_.load(batch);
  Stopwatch stopwatch(*device_);
  Pass pass = make_pass(&stopwatch);
  give(pass, ops_.begin(), ops_.end());
  input_.release();
  return stopwatch.take();
}

}  // namespace rackmark::worker::cuda

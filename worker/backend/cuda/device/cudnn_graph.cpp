#include "worker/backend/cuda/device/cudnn_graph.hpp"

#include <algorithm>

#include "worker/backend/cuda/device/errors.hpp"

namespace rackmark::worker::cuda {
namespace {

// Attributes in cuDNN's errors are numbers; so are they in its header.
std::string attribute_call(const char* call, cudnnBackendAttributeName_t name) {
  return std::string(call) + " of attribute " + std::to_string(name);
}

// Deprecated names of 9.x, which older ones (CUDA 12 boxes have them) cannot do without.
constexpr auto kGraphHandle = static_cast<cudnnBackendAttributeName_t>(800);
constexpr auto kPlanHandle = static_cast<cudnnBackendAttributeName_t>(400);

// Memory of an arena is aligned to more; engines need no more than this for their widest loads.
constexpr std::int64_t kAlignment = 16;

EngineChoice choice_of(const Descriptor& config, const Descriptor& engine) {
  EngineChoice choice;
  choice.engine = engine.get_integer(CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
  const auto knobs =
      config.get_descriptors(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
                             CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, CUDNN_KNOB_TYPE_COUNTS);
  for (const auto& knob : knobs) {
    const auto type = knob.get_list(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1);
    choice.knobs.emplace_back(type.at(0), knob.get_integer(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE));
  }
  return choice;
}

EngineOffer offer_of(const Descriptor& config) {
  const auto engines =
      config.get_descriptors(CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR, 1);
  const Descriptor& engine = engines.at(0);
  return {
      .choice = choice_of(config, engine),
      .numerical_notes =
          engine.get_list(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                          CUDNN_NUMERICAL_NOTE_TYPE_COUNT),
      .behavior_notes = engine.get_list(CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                                        CUDNN_BEHAVIOR_NOTE_TYPE_COUNT)};
}

Descriptor make_engine(const Graph& graph, const EngineTarget& target, std::int64_t index) {
  Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  engine.set(CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph.descriptor())
      .set(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, index);
  if (target.properties()) engine.set(CUDNN_ATTR_ENGINE_DEVICEPROP, *target.properties());
  engine.finalize();
  return engine;
}

Descriptor make_config(const Descriptor& engine, const EngineChoice& choice) {
  std::deque<Descriptor> knobs;
  std::vector<const Descriptor*> all;
  for (const auto& [type, value] : choice.knobs) {
    auto& knob = knobs.emplace_back(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    knob.set(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, static_cast<cudnnBackendKnobType_t>(type))
        .set(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, value)
        .finalize();
    all.push_back(&knob);
  }
  Descriptor config(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
  config.set(CUDNN_ATTR_ENGINECFG_ENGINE, engine);
  if (!all.empty()) config.set(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, all);
  config.finalize();
  return config;
}

Descriptor make_plan(const Graph& graph, const EngineTarget& target, const EngineChoice& choice) {
  const Descriptor engine = make_engine(graph, target, choice.engine);
  const Descriptor config = make_config(engine, choice);
  Descriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  if (target.handle() != nullptr) plan.set(kPlanHandle, target.handle());
  plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
  if (target.properties()) plan.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, *target.properties());
  plan.finalize();
  return plan;
}

// The graph and the choice are part of what was saved.
Descriptor load_plan(const std::string& saved, const EngineTarget& target) {
  Descriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  if (target.handle() != nullptr) plan.set(kPlanHandle, target.handle());
  if (target.properties()) plan.set(CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, *target.properties());
  plan.set(CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, saved).finalize();
  return plan;
}

}  // namespace

// --- descriptors ---------------------------------------------------------------------------------

Descriptor::Descriptor(cudnnBackendDescriptorType_t type) {
  RM_CUDNN(cudnnBackendCreateDescriptor(type, &raw_));
}

Descriptor::~Descriptor() {
  if (raw_ != nullptr) cudnnBackendDestroyDescriptor(raw_);
}

Descriptor& Descriptor::put(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                            std::int64_t count, const void* values) {
  const auto code = cudnnBackendSetAttribute(raw_, name, type, count, values);
  if (code != CUDNN_STATUS_SUCCESS) {
    check_cudnn(code, attribute_call("cudnnBackendSetAttribute", name));
  }
  return *this;
}

Descriptor& Descriptor::set(cudnnBackendAttributeName_t name, std::int64_t value) {
  put(name, CUDNN_TYPE_INT64, 1, &value);
  return *this;
}
Descriptor& Descriptor::set(cudnnBackendAttributeName_t name, bool value) {
  put(name, CUDNN_TYPE_BOOLEAN, 1, &value);
  return *this;
}
Descriptor& Descriptor::set(cudnnBackendAttributeName_t name, float value) {
  put(name, CUDNN_TYPE_FLOAT, 1, &value);
  return *this;
}
Descriptor& Descriptor::set(cudnnBackendAttributeName_t name, cudnnDataType_t value) {
  put(name, CUDNN_TYPE_DATA_TYPE, 1, &value);
  return *this;
}
Descriptor& Descriptor::set(cudnnBackendAttributeName_t name, cudnnConvolutionMode_t value) {
  put(name, CUDNN_TYPE_CONVOLUTION_MODE, 1, &value);
  return *this;
}
Descriptor& Descriptor::set(cudnnBackendAttributeName_t name, cudnnPointwiseMode_t value) {
  put(name, CUDNN_TYPE_POINTWISE_MODE, 1, &value);
  return *this;
}
Descriptor& Descriptor::set(cudnnBackendAttributeName_t name, cudnnGenStatsMode_t value) {
  put(name, CUDNN_TYPE_GENSTATS_MODE, 1, &value);
  return *this;
}
Descriptor& Descriptor::set(cudnnBackendAttributeName_t name, cudnnBackendHeurMode_t value) {
  put(name, CUDNN_TYPE_HEUR_MODE, 1, &value);
  return *this;
}
Descriptor& Descriptor::set(cudnnBackendAttributeName_t name, cudnnBackendKnobType_t value) {
  put(name, CUDNN_TYPE_KNOB_TYPE, 1, &value);
  return *this;
}
Descriptor& Descriptor::set(cudnnBackendAttributeName_t name, cudnnHandle_t value) {
  put(name, CUDNN_TYPE_HANDLE, 1, &value);
  return *this;
}
Descriptor& Descriptor::set(cudnnBackendAttributeName_t name, const Descriptor& value) {
  put(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value.raw_);
  return *this;
}
Descriptor& Descriptor::set(cudnnBackendAttributeName_t name, const std::string& text) {
  put(name, CUDNN_TYPE_CHAR, static_cast<std::int64_t>(text.size()), text.data());
  return *this;
}
Descriptor& Descriptor::set(cudnnBackendAttributeName_t name,
                            const std::vector<std::int64_t>& values) {
  put(name, CUDNN_TYPE_INT64, static_cast<std::int64_t>(values.size()), values.data());
  return *this;
}
Descriptor& Descriptor::set(cudnnBackendAttributeName_t name,
                            const std::vector<const Descriptor*>& values) {
  std::vector<cudnnBackendDescriptor_t> raw;
  for (const auto* value : values) raw.push_back(value->raw_);
  put(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, static_cast<std::int64_t>(raw.size()), raw.data());
  return *this;
}
Descriptor& Descriptor::set(cudnnBackendAttributeName_t name, const std::vector<void*>& pointers) {
  put(name, CUDNN_TYPE_VOID_PTR, static_cast<std::int64_t>(pointers.size()), pointers.data());
  return *this;
}

Descriptor& Descriptor::finalize() {
  RM_CUDNN(cudnnBackendFinalize(raw_));
  return *this;
}

std::int64_t Descriptor::get_integer(cudnnBackendAttributeName_t name) const {
  std::int64_t value = 0, count = 0;
  check_cudnn(cudnnBackendGetAttribute(raw_, name, CUDNN_TYPE_INT64, 1, &count, &value),
              attribute_call("cudnnBackendGetAttribute", name));
  return value;
}

std::string Descriptor::get_text(cudnnBackendAttributeName_t name) const {
  std::int64_t count = 0;
  const std::string call = attribute_call("cudnnBackendGetAttribute", name);
  check_cudnn(cudnnBackendGetAttribute(raw_, name, CUDNN_TYPE_CHAR, 0, &count, nullptr), call);
  std::string text(static_cast<std::size_t>(count), '\0');
  check_cudnn(cudnnBackendGetAttribute(raw_, name, CUDNN_TYPE_CHAR, count, &count, text.data()),
              call);
  text.resize(std::min(text.size(), text.find('\0')));
  return text;
}

std::vector<int> Descriptor::get_list(cudnnBackendAttributeName_t name,
                                      cudnnBackendAttributeType_t type, std::int64_t limit) const {
  static_assert(sizeof(cudnnBackendNumericalNote_t) == sizeof(int));
  std::vector<int> values(static_cast<std::size_t>(limit));
  std::int64_t count = 0;
  check_cudnn(cudnnBackendGetAttribute(raw_, name, type, limit, &count, values.data()),
              attribute_call("cudnnBackendGetAttribute", name));
  values.resize(static_cast<std::size_t>(std::min(count, limit)));
  return values;
}

std::vector<Descriptor> Descriptor::get_descriptors(cudnnBackendAttributeName_t name,
                                                    cudnnBackendDescriptorType_t kind,
                                                    std::int64_t limit) const {
  const std::string call = attribute_call("cudnnBackendGetAttribute", name);
  std::vector<Descriptor> found;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (std::int64_t i = 0; i < limit; ++i) raw.push_back(found.emplace_back(kind).raw_);
  std::int64_t count = 0;
  check_cudnn(cudnnBackendGetAttribute(raw_, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, limit, &count,
                                       raw.data()),
              call);
  if (count < limit) found.erase(found.begin() + count, found.end());
  return found;
}

// --- graphs --------------------------------------------------------------------------------------

TensorSpec channels_last(std::int64_t id, cudnnDataType_t type, std::int64_t n, std::int64_t c,
                         std::int64_t h, std::int64_t w, std::int64_t pixel_stride) {
  const std::int64_t pixel = pixel_stride > 0 ? pixel_stride : c;
  return {.id = id,
          .dims = {n, c, h, w},
          .strides = {h * w * pixel, 1, w * pixel, pixel},
          .type = type};
}

const Descriptor& GraphBuilder::tensor(const TensorSpec& spec) {
  Descriptor tensor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  tensor.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, spec.id)
      .set(CUDNN_ATTR_TENSOR_DATA_TYPE, spec.type)
      .set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, kAlignment)
      .set(CUDNN_ATTR_TENSOR_DIMENSIONS, spec.dims)
      .set(CUDNN_ATTR_TENSOR_STRIDES, spec.strides);
  if (spec.is_virtual) tensor.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, true);
  if (spec.is_by_value) tensor.set(CUDNN_ATTR_TENSOR_IS_BY_VALUE, true);
  tensor.finalize();
  return keep(std::move(tensor));
}

const Descriptor& GraphBuilder::keep(Descriptor part) {
  return parts_.emplace_back(std::move(part));
}

const Descriptor& GraphBuilder::operation(Descriptor operation) {
  operation.finalize();
  const Descriptor& kept = keep(std::move(operation));
  operations_.push_back(&kept);
  return kept;
}

const Descriptor& GraphBuilder::pointwise_mode(cudnnPointwiseMode_t mode) {
  Descriptor kind(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  kind.set(CUDNN_ATTR_POINTWISE_MODE, mode).set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT);
  kind.finalize();
  return keep(std::move(kind));
}

const Descriptor& GraphBuilder::pointwise(cudnnPointwiseMode_t mode, const Descriptor& x,
                                          const Descriptor* b, const Descriptor& y) {
  Descriptor operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, pointwise_mode(mode))
      .set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
  if (b != nullptr) operation.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, *b);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
  return this->operation(std::move(operation));
}

const Descriptor& GraphBuilder::pointwise_backward(cudnnPointwiseMode_t mode, const Descriptor& x,
                                                   const Descriptor& dy, const Descriptor& dx) {
  Descriptor operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, pointwise_mode(mode))
      .set(CUDNN_ATTR_OPERATION_POINTWISE_DYDESC, dy)
      .set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x)
      .set(CUDNN_ATTR_OPERATION_POINTWISE_DXDESC, dx);
  return this->operation(std::move(operation));
}

Graph::Graph(GraphBuilder builder, const EngineTarget& target)
    : graph_(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR) {
  graph_.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, builder.operations());
  if (target.handle() != nullptr) graph_.set(kGraphHandle, target.handle());
  graph_.finalize();
  parts_ = builder.take_parts();
}

// --- engines -------------------------------------------------------------------------------------

EngineTarget EngineTarget::live(cudnnHandle_t handle) {
  EngineTarget target;
  target.handle_ = handle;
  return target;
}

EngineTarget EngineTarget::described(const std::string& json) {
  EngineTarget target;
  target.properties_.emplace(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  target.properties_->set(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, json).finalize();
  return target;
}

std::string EngineChoice::text() const {
  std::string text = "engine " + std::to_string(engine);
  if (knobs.empty()) return text;
  text += " {";
  for (std::size_t i = 0; i < knobs.size(); ++i) {
    text += (i ? " " : "") + std::to_string(knobs[i].first) + "=" + std::to_string(knobs[i].second);
  }
  return text + "}";
}

bool EngineOffer::has(cudnnBackendNumericalNote_t note) const {
  return std::find(numerical_notes.begin(), numerical_notes.end(), static_cast<int>(note)) !=
         numerical_notes.end();
}
bool EngineOffer::has(cudnnBackendBehaviorNote_t note) const {
  return std::find(behavior_notes.begin(), behavior_notes.end(), static_cast<int>(note)) !=
         behavior_notes.end();
}

std::vector<EngineOffer> offered_engines(const Graph& graph, const EngineTarget& target,
                                         cudnnBackendHeurMode_t mode, std::int64_t limit,
                                         std::string& refusal) {
  std::vector<EngineOffer> offers;
  try {
    Descriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph.descriptor())
        .set(CUDNN_ATTR_ENGINEHEUR_MODE, mode);
    if (target.properties()) heuristics.set(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, *target.properties());
    heuristics.finalize();
    const auto configs = heuristics.get_descriptors(CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                                    CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, limit);
    for (const auto& config : configs) offers.push_back(offer_of(config));
  } catch (const std::runtime_error& error) {  // this mode knows no engine for the graph
    refusal = error.what();
  }
  return offers;
}

EnginePlan::EnginePlan(const Graph& graph, const EngineTarget& target, const EngineChoice& choice)
    : plan_(make_plan(graph, target, choice)),
      workspace_bytes_(plan_.get_integer(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE)) {}

EnginePlan::EnginePlan(const std::string& saved, const EngineTarget& target)
    : plan_(load_plan(saved, target)),
      workspace_bytes_(plan_.get_integer(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE)) {}

std::string EnginePlan::saved() const {
  try {
    return plan_.get_text(CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION);
  } catch (const std::runtime_error&) {
    return "";
  }
}

void EnginePlan::run(cudnnHandle_t handle, const std::vector<Binding>& bindings,
                     void* workspace) const {
  std::vector<std::int64_t> ids;
  std::vector<void*> pointers;
  for (const auto& binding : bindings) {
    ids.push_back(binding.id);
    pointers.push_back(binding.data);
  }
  Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, ids)
      .set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, pointers)
      .set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, std::vector<void*>{workspace})
      .finalize();
  RM_CUDNN(cudnnBackendExecute(handle, plan_.raw(), pack.raw()));
}

}  // namespace rackmark::worker::cuda

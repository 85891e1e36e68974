// cuDNN's graph (backend) API, with owners and typed attributes: tensors and operations are
// described into a graph, heuristics name engines for it, an engine becomes a plan that runs.
// Everything up to the plan also works for a device that is only described, on a machine without
// one.
#pragma once

#include <cudnn.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace rackmark::worker::cuda {

// A backend descriptor: made, described, finalised, in this order. Calls throw, see errors.hpp.
class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type);
  Descriptor(Descriptor&& other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(raw_, other.raw_);
    return *this;
  }
  ~Descriptor();

  Descriptor& set(cudnnBackendAttributeName_t name, std::int64_t value);
  Descriptor& set(cudnnBackendAttributeName_t name, int value) = delete;  // of which type?
  Descriptor& set(cudnnBackendAttributeName_t name, bool value);
  Descriptor& set(cudnnBackendAttributeName_t name, float value);
  Descriptor& set(cudnnBackendAttributeName_t name, cudnnDataType_t value);
  Descriptor& set(cudnnBackendAttributeName_t name, cudnnConvolutionMode_t value);
  Descriptor& set(cudnnBackendAttributeName_t name, cudnnPointwiseMode_t value);
  Descriptor& set(cudnnBackendAttributeName_t name, cudnnGenStatsMode_t value);
  Descriptor& set(cudnnBackendAttributeName_t name, cudnnBackendHeurMode_t value);
  Descriptor& set(cudnnBackendAttributeName_t name, cudnnBackendKnobType_t value);
  Descriptor& set(cudnnBackendAttributeName_t name, cudnnHandle_t value);
  Descriptor& set(cudnnBackendAttributeName_t name, const Descriptor& value);
  Descriptor& set(cudnnBackendAttributeName_t name, const std::string& text);
  Descriptor& set(cudnnBackendAttributeName_t name, const std::vector<std::int64_t>& values);
  Descriptor& set(cudnnBackendAttributeName_t name, const std::vector<const Descriptor*>& values);
  Descriptor& set(cudnnBackendAttributeName_t name, const std::vector<void*>& pointers);
  // Of any other type.
  Descriptor& put(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                  std::int64_t count, const void* values);
  Descriptor& finalize();

  std::int64_t get_integer(cudnnBackendAttributeName_t name) const;
  std::string get_text(cudnnBackendAttributeName_t name) const;
  // Numbers of enumerators: one, or a list of at most `limit` (notes).
  std::vector<int> get_list(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                            std::int64_t limit) const;
  // Fills descriptors of the given kind; at most `limit` of them.
  std::vector<Descriptor> get_descriptors(cudnnBackendAttributeName_t name,
                                          cudnnBackendDescriptorType_t kind,
                                          std::int64_t limit) const;

  cudnnBackendDescriptor_t raw() const { return raw_; }

 private:
  cudnnBackendDescriptor_t raw_ = nullptr;
};

// Of images: dims in the order N C H W (weights: K C R S) whatever the strides are.
struct TensorSpec {
  std::int64_t id = 0;  // how a run names the memory; unique in a graph
  std::vector<std::int64_t> dims, strides;
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  bool is_virtual = false;   // lives only between two operations of a graph
  bool is_by_value = false;  // a number that the host gives
};
// NHWC with `pixel_stride` values from one pixel to the next (0: dense).
TensorSpec channels_last(std::int64_t id, cudnnDataType_t type, std::int64_t n, std::int64_t c,
                         std::int64_t h, std::int64_t w, std::int64_t pixel_stride = 0);

// Operations under description. Owns all that they are made of.
class GraphBuilder {
 public:
  const Descriptor& tensor(const TensorSpec& spec);
  const Descriptor& keep(Descriptor part);            // finalised by the caller
  const Descriptor& operation(Descriptor operation);  // finalises; in the order of the data

  const Descriptor& pointwise(cudnnPointwiseMode_t mode, const Descriptor& x, const Descriptor* b,
                              const Descriptor& y);
  // dx = dy * derivative(x), of a mode that ends in _BWD.
  const Descriptor& pointwise_backward(cudnnPointwiseMode_t mode, const Descriptor& x,
                                       const Descriptor& dy, const Descriptor& dx);

  std::deque<Descriptor> take_parts() { return std::move(parts_); }
  const std::vector<const Descriptor*>& operations() const { return operations_; }

 private:
  const Descriptor& pointwise_mode(cudnnPointwiseMode_t mode);

  std::deque<Descriptor> parts_;  // addresses stay
  std::vector<const Descriptor*> operations_;
};

// The device for which engines are asked: that of a live handle, or one that is only described by
// cuDNN's JSON form of its properties (cuDNN 9.8 and newer).
class EngineTarget {
 public:
  static EngineTarget live(cudnnHandle_t handle);  // which has to outlive the target
  static EngineTarget described(const std::string& json);
  cudnnHandle_t handle() const { return handle_; }  // null: described
  const Descriptor* properties() const { return properties_ ? &*properties_ : nullptr; }

 private:
  cudnnHandle_t handle_ = nullptr;
  std::optional<Descriptor> properties_;
};

class Graph {
 public:
  Graph(GraphBuilder builder, const EngineTarget& target);
  const Descriptor& descriptor() const { return graph_; }

 private:
  std::deque<Descriptor> parts_;
  Descriptor graph_;
};

// What has to be known to build the same plan again.
struct EngineChoice {
  std::int64_t engine = 0;                          // global index
  std::vector<std::pair<int, std::int64_t>> knobs;  // type, value
  bool operator==(const EngineChoice&) const = default;
  std::string text() const;  // "engine 38 {2=29 3=0}"
};
struct EngineOffer {
  EngineChoice choice;
  std::vector<int> numerical_notes, behavior_notes;
  bool has(cudnnBackendNumericalNote_t note) const;
  bool has(cudnnBackendBehaviorNote_t note) const;
};

// Engines that heuristics offer for a graph, best first; none is an empty list, and `refusal` then
// says why. Those that only say that they can are among them: building the plan is the proof.
std::vector<EngineOffer> offered_engines(const Graph& graph, const EngineTarget& target,
                                         cudnnBackendHeurMode_t mode, std::int64_t limit,
                                         std::string& refusal);

// An engine made ready. Throws Unsupported, or std::runtime_error for what went wrong.
class EnginePlan {
 public:
  EnginePlan(const Graph& graph, const EngineTarget& target, const EngineChoice& choice);
  // One that was saved, by the same version of the library for the same sort of device.
  EnginePlan(const std::string& saved, const EngineTarget& target);
  // Engines that are compiled keep what was compiled, so that loading compiles nothing.
  // "": this library cannot say.
  std::string saved() const;
  std::int64_t workspace_bytes() const { return workspace_bytes_; }
  struct Binding {
    std::int64_t id;
    void* data;
  };
  // Throws with cuDNN's text. Pointers are read on the device after the call has returned.
  void run(cudnnHandle_t handle, const std::vector<Binding>& bindings, void* workspace) const;

 private:
  Descriptor plan_;
  std::int64_t workspace_bytes_ = 0;
};

}  // namespace rackmark::worker::cuda

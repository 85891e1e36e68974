// The network graph: named nodes with inferred shapes. A model builds one; a backend compiles it
// into a plan. Knows no backend, no learning rate, no batch (shapes are per image: channels,
// height, width).
//
// Names are torchvision's: parameters are "<node name>.weight" and "<node name>.bias", running
// statistics "<node name>.running_mean" and "<node name>.running_var".
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace rackmark::worker {

struct Node {
  int id = -1;
};

struct Shape {  // of one image; linear outputs are {n, 1, 1}
  int channels = 0, height = 0, width = 0;
  bool operator==(const Shape&) const = default;
  std::int64_t elements() const { return std::int64_t{channels} * height * width; }
};

// --- layers: parameters only; shape rules are in net.cpp, kernels in the backends
// -------------------
struct Input {};
struct Conv2d {
  int out = 0;
  int kernel_h = 1, kernel_w = 1;
  int stride = 1;
  int pad_h = 0, pad_w = 0;
  bool bias = false;
};
struct BatchNorm {
  double epsilon = 1e-5,
         momentum = 0.1;  // momentum: weight of the new batch; running variance unbiased
};
struct Relu {};
struct MaxPool {
  int kernel = 2, stride = 2, pad = 0;
  bool ceil_mode = false;
};
struct AveragePool {
  int kernel = 2, stride = 2, pad = 0;  // counts the padding
};
struct AdaptiveAveragePool {  // windows may overlap when in % out != 0
  int out = 1;
};
struct Linear {
  int out = 0;
  bool bias = true;
};
struct Concat {};  // along channels
struct Add {};     // two inputs: [0] the main branch, [1] the residual one
struct Dropout {
  double probability = 0.5;
};
struct LocalResponseNorm {
  int size = 5;
  double alpha = 1e-4, beta = 0.75, k = 1;
};
struct Flatten {};  // C, H, W order

using Layer =
    std::variant<Input, Conv2d, BatchNorm, Relu, MaxPool, AveragePool, AdaptiveAveragePool, Linear,
                 Concat, Add, Dropout, LocalResponseNorm, Flatten>;

struct NodeInfo {
  std::string name;  // unique; parameter-free nodes get one made from their kind and id
  Layer layer;
  std::vector<int> inputs;  // ids, all smaller than this node's
  Shape shape;              // of the output
};

enum class LossKind { kSoftmaxCrossEntropy, kSigmoidCrossEntropy };
struct Head {  // what the loss is taken of; total loss = sum of weight x mean loss
  int node = -1;
  double weight = 1;  // auxiliary heads 0.3 or 0.4
};

enum class ParameterKind { kConvWeight, kLinearWeight, kBias, kBatchNormWeight, kBatchNormBias };
struct Parameter {
  std::string name;  // "layer1.0.conv1.weight"
  ParameterKind kind;
  int node = -1;
  std::vector<std::int64_t> dims;  // OIHW, (out, in), or (c)
  std::int64_t elements() const;
};
struct RunningStatistic {
  std::string name;  // "bn1.running_mean", "bn1.running_var"
  int node = -1;
  int channels = 0;
};

// Build order is execution order. Throws std::invalid_argument with node and shapes when a layer
// does not fit (kernel larger than the padded input, Add of different shapes, a name used twice).
class Net {
 public:
  Net(std::string model, int image_size, int classes);

  Node input() const { return {0}; }  // {3, image_size, image_size}
  Node conv2d(Node x, std::string name, Conv2d layer);
  Node batch_norm(Node x, std::string name, BatchNorm layer = {});
  Node relu(Node x);
  Node max_pool(Node x, MaxPool layer);
  Node average_pool(Node x, AveragePool layer);
  Node adaptive_average_pool(Node x, AdaptiveAveragePool layer);
  Node linear(Node x, std::string name, Linear layer);
  Node concat(const std::vector<Node>& parts);
  Node add(Node main, Node residual);
  Node dropout(Node x, double probability);
  Node local_response_norm(Node x, LocalResponseNorm layer);
  Node flatten(Node x);
  void loss(Node logits, double weight = 1);  // the first one is the main head
  // Before loss(). Softmax wants one logit a class; sigmoid a single one, for exactly two classes.
  void set_loss_kind(LossKind kind);

  const Shape& shape(Node x) const;
  const std::string& model() const { return model_; }
  int image_size() const { return image_size_; }
  int classes() const { return classes_; }
  LossKind loss_kind() const { return loss_kind_; }
  std::span<const NodeInfo> nodes() const { return nodes_; }
  std::span<const Head> heads() const { return heads_; }
  const std::vector<Parameter>& parameters() const { return parameters_; }  // in build order
  const std::vector<RunningStatistic>& running_statistics() const { return running_; }
  std::int64_t parameter_count() const;

  // Multiply-adds count 2; convolutions and linear layers only. Training = 3 x forward less the
  // data gradient of layers fed by the input.
  double forward_flop_per_image() const;
  double inference_flop_per_image() const;  // forward to the main head only
  double training_flop_per_image() const;

 private:
  Node append(std::string name, Layer layer, std::vector<int> inputs, Shape shape);
  double flop_of(const std::vector<bool>& nodes) const;  // forward, by node
  void add_parameter(int node, const char* leaf, ParameterKind kind,
                     std::vector<std::int64_t> dims);

  std::string model_;
  int image_size_ = 0, classes_ = 0;
  LossKind loss_kind_ = LossKind::kSoftmaxCrossEntropy;
  std::vector<NodeInfo> nodes_;
  std::vector<Head> heads_;
  std::vector<Parameter> parameters_;
  std::vector<RunningStatistic> running_;
  std::map<std::string, int> by_name_;
};

// How verification fills everything, reproducible in any language: shared/reference's README, kept
// in tests/golden/README.md. uniform(name, n)[i] in [-1, 1).
std::uint64_t splitmix64(std::uint64_t x);
std::vector<float> uniform(const std::string& name, std::int64_t count);
// Value of every parameter for a seed, OIHW / (out, in) row major.
std::vector<float> initial_value(const Parameter& parameter, std::int64_t seed);

}  // namespace rackmark::worker

#include "worker/backend/onednn/convolution_bound.hpp"

#include <algorithm>
#include <limits>
#include <map>

#include "worker/backend/onednn/threads.hpp"
#include "worker/backend/onednn/workbench.hpp"

namespace rackmark::worker::onednn {
namespace {

constexpr int kTrials = 2;  // of each implementation, after one that is not counted

const char* pass_name(ConvolutionPass pass) {
  if (pass == ConvolutionPass::kData) return "backward_data";
  return pass == ConvolutionPass::kWeights ? "backward_weights" : "forward";
}

std::string text_of(const Shape& s) {
  return std::to_string(s.channels) + "x" + std::to_string(s.height) + "x" +
         std::to_string(s.width);
}

double median_of(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// The layers that count, and how often each distinct one occurs.
struct CountedLayer {
  int node = -1;  // the first of its kind
  std::int64_t count = 0;
};

std::string describe(const Net& net, int id) {
  const NodeInfo& node = net.nodes()[id];
  const Shape& in = net.nodes()[node.inputs[0]].shape;
  if (std::holds_alternative<Linear>(node.layer)) {
    return "linear " + std::to_string(in.channels) + " -> " + std::to_string(node.shape.channels);
  }
  const auto& layer = std::get<Conv2d>(node.layer);
  std::string text = text_of(in) + " -> " + text_of(node.shape) + " " +
                     std::to_string(layer.kernel_h) + "x" + std::to_string(layer.kernel_w) + "/" +
                     std::to_string(layer.stride) + " pad " + std::to_string(layer.pad_h) + "," +
                     std::to_string(layer.pad_w);
  return node.inputs[0] == 0 ? text + " (input)" : text;
}

// Inference stops at the main head.
std::vector<bool> nodes_that_run(const Net& net, bool training) {
  std::vector<bool> runs(net.nodes().size(), training);
  runs[net.heads()[0].node] = true;
  for (int id = static_cast<int>(runs.size()) - 1; id >= 0; --id)
    for (const int input : net.nodes()[id].inputs) runs[input] = runs[input] || runs[id];
  return runs;
}

// Of what lies before the main head.
bool mostly_linear(const Net& net) {
  const std::vector<bool> runs = nodes_that_run(net, false);
  std::int64_t linear = 0, all = 0;
  for (const Parameter& p : net.parameters()) {
    if (!runs[p.node]) continue;
    all += p.elements();
    if (p.kind == ParameterKind::kLinearWeight) linear += p.elements();
  }
  return 2 * linear > all;
}

std::map<std::string, CountedLayer> distinct_layers(const Net& net, bool training) {
  const std::vector<bool> runs = nodes_that_run(net, training);
  const bool linear = mostly_linear(net);
  std::map<std::string, CountedLayer> layers;
  for (int id = 0; id < static_cast<int>(net.nodes().size()); ++id) {
    const Layer& layer = net.nodes()[id].layer;
    const bool counts =
        std::holds_alternative<Conv2d>(layer) || (linear && std::holds_alternative<Linear>(layer));
    if (!counts || !runs[id]) continue;
    CountedLayer& counted = layers[describe(net, id)];
    if (counted.count++ == 0) counted.node = id;
  }
  return layers;
}

class Meter final : public BoundMeter {
 public:
  Meter(const Net& net, const PlanOptions& options, bool training)
      : net_(net),
        batch_(options.batch),
        threads_(options.threads > 0 ? options.threads : omp_get_num_procs()),
        bench_(engine_, threads_) {
    // Primitives are made for the number of threads that will run them.
    const ComputeScope scope(threads_);
    for (const auto& [text, layer] : distinct_layers(net, training)) {
      add(text, layer, ConvolutionPass::kForward);
      if (!training) continue;
      if (net.nodes()[layer.node].inputs[0] != 0) add(text, layer, ConvolutionPass::kData);
      add(text, layer, ConvolutionPass::kWeights);
    }
    bench_.open(Content::kFloats);
    for (Item& item : items_) keep_fastest(item);
  }

  void round() override {
    for (Item& item : items_) item.seconds.push_back(bench_.seconds(item.task));
  }

  ConvolutionBound result() const override {
    ConvolutionBound bound;
    if (items_.empty() || items_[0].seconds.empty()) return bound;
    bound.rounds = static_cast<std::int64_t>(items_[0].seconds.size());
    for (const Item& item : items_) {
      BoundRow row = item.row;
      row.ms = median_of(item.seconds) * 1e3;
      row.best_ms = *std::min_element(item.seconds.begin(), item.seconds.end()) * 1e3;
      bound.ms += row.ms * static_cast<double>(row.count);
      bound.best_ms += row.best_ms * static_cast<double>(row.count);
      bound.rows.push_back(std::move(row));
    }
    std::stable_sort(bound.rows.begin(), bound.rows.end(), [](const auto& a, const auto& b) {
      return static_cast<double>(a.count) * a.ms > static_cast<double>(b.count) * b.ms;
    });
    return bound;
  }

 private:
  struct Candidate {
    std::size_t task = 0;
    std::string implementation;
  };
  struct Item {
    BoundRow row;
    std::vector<Candidate> candidates;
    std::size_t task = 0;  // of the fastest one
    std::vector<double> seconds;
  };

  void add(const std::string& text, const CountedLayer& layer, ConvolutionPass pass) {
    Item item;
    item.row.shape = text;
    item.row.pass = pass_name(pass);
    item.row.count = layer.count;
    const NodeInfo& node = net_.nodes()[layer.node];
    const double per_output = std::visit(
        [&](const auto& l) { return multiply_adds(l, net_.nodes()[node.inputs[0]].shape); },
        node.layer);
    item.row.gflop = 2e-9 * batch_ * static_cast<double>(node.shape.elements()) * per_output;
    for (const Made& made : implementations(node, pass)) {
      item.candidates.push_back({bench_.add(convolution_task(made, pass)), made.implementation});
    }
    items_.push_back(std::move(item));
  }

  static double multiply_adds(const Conv2d& layer, const Shape& in) {
    return static_cast<double>(in.channels) * layer.kernel_h * layer.kernel_w;
  }
  static double multiply_adds(const Linear&, const Shape& in) {
    return static_cast<double>(in.channels);
  }
  template <class Other>
  static double multiply_adds(const Other&, const Shape&) {
    return 0;
  }

  std::vector<Made> implementations(const NodeInfo& node, ConvolutionPass pass) const {
    const Shape& in = net_.nodes()[node.inputs[0]].shape;
    if (std::holds_alternative<Linear>(node.layer)) return {linear(in, node.shape, pass)};
    const auto& layer = std::get<Conv2d>(node.layer);
    const Tag blocked = blocked_pictures(channel_block());
    ConvolutionShape s;
    s.src = make_desc({batch_, in.channels, in.height, in.width},
                      node.inputs[0] == 0 ? Tag::nchw : blocked);
    s.dst = make_desc({batch_, node.shape.channels, node.shape.height, node.shape.width}, blocked);
    s.weights = make_desc({layer.out, in.channels, layer.kernel_h, layer.kernel_w}, Tag::any);
    s.strides = {layer.stride, layer.stride};
    s.pad_before = s.pad_after = {layer.pad_h, layer.pad_w};
    const bool padded = layer.pad_h > 0 || layer.pad_w > 0;
    auto all = every_convolution(engine_, s, pass);
    if (!padded || pass == ConvolutionPass::kData || !all[0].implementation.starts_with("ref")) {
      return all;
    }
    // Only plain loops take this padding: as in training, a copy with zeros around it is read.
    s.src =
        make_desc({batch_, in.channels, in.height + 2 * layer.pad_h, in.width + 2 * layer.pad_w},
                  node.inputs[0] == 0 ? Tag::nchw : blocked);
    s.pad_before = s.pad_after = {0, 0};
    return every_convolution(engine_, s, pass);
  }

  Made linear(const Shape& in, const Shape& out, ConvolutionPass pass) const {
    LinearShape s;
    s.src = make_desc({batch_, in.channels}, Tag::nc);
    s.dst = make_desc({batch_, out.channels}, Tag::nc);
    s.weights = make_desc({out.channels, in.channels}, Tag::any);
    if (pass == ConvolutionPass::kData) return make_linear_data(engine_, s);
    if (pass == ConvolutionPass::kWeights) return make_linear_weights(engine_, s);
    return make_linear_forward(engine_, s);
  }

  void keep_fastest(Item& item) {
    double best = std::numeric_limits<double>::infinity();
    for (const Candidate& candidate : item.candidates) {
      bench_.seconds(candidate.task);  // first use: pages, code
      double least = 0;
      if (item.candidates.size() > 1) {
        least = bench_.seconds(candidate.task);
        for (int i = 1; i < kTrials; ++i) least = std::min(least, bench_.seconds(candidate.task));
      }
      if (least >= best) continue;
      best = least;
      item.task = candidate.task;
      item.row.implementation = candidate.implementation;
    }
  }

  const Net net_;
  const int batch_, threads_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  Workbench bench_;
  std::vector<Item> items_;
};

}  // namespace

std::unique_ptr<BoundMeter> make_convolution_bound(const Net& net, const PlanOptions& options,
                                                   bool training) {
  return std::make_unique<Meter>(net, options, training);
}

}  // namespace rackmark::worker::onednn

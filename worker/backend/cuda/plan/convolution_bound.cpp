#include "worker/backend/cuda/plan/convolution_bound.hpp"

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "worker/backend/bound_layers.hpp"
#include "worker/backend/cuda/device/random_values.hpp"
#include "worker/backend/cuda/plan/convolution_task.hpp"
#include "worker/backend/cuda/plan/linear_tasks.hpp"
#include "worker/backend/cuda/plan/op.hpp"

namespace rackmark::worker::cuda {
namespace {

// Room for the operands of any one of the layers. What is read is never written, so that values
// stay as they were drawn.
class Operands {
 public:
  void need(std::int64_t x, std::int64_t w, std::int64_t y) {  // values
    x_ = std::max(x_, x);
    w_ = std::max(w_, w);
    y_ = std::max(y_, y);
  }
  void open(Device& device, Type type, bool training, std::int64_t workspace_bytes) {
    const std::int64_t value = width(type);
    x = drawn(device, type, x_ * value);
    w = drawn(device, type, w_ * value);
    if (training) y = drawn(device, type, y_ * value);
    if (training) gradient = device.allocate(w_ * width(Type::kFloat));
    result = device.allocate(std::max(x_, y_) * value);
    workspace = device.allocate(workspace_bytes);
  }
  float* floats() const { return reinterpret_cast<float*>(gradient.get()); }

  std::shared_ptr<std::byte> x, w, y, gradient, result, workspace;

 private:
  static std::shared_ptr<std::byte> drawn(Device& device, Type type, std::int64_t bytes) {
    auto memory = device.allocate(bytes);
    fill_randomly(device, type, memory.get(), bytes);
    return memory;
  }
  std::int64_t x_ = 0, w_ = 0, y_ = 0;
};

class Meter final : public BoundMeter {
 public:
  Meter(std::shared_ptr<Device> device, const Net& net, int batch, const Precision& precision,
        bool training)
      : device_(std::move(device)),
        engines_(*device_),
        watch_(*device_),
        batch_(batch),
        precision_(precision),
        training_(training) {
    for (const BoundLayer& layer : bound_layers(net, training)) {
      const NodeInfo& node = net.nodes()[layer.node];
      const Shape& in = net.nodes()[node.inputs[0]].shape;
      if (const auto* convolution = std::get_if<Conv2d>(&node.layer)) {
        add(layer, *convolution, in);
      } else {
        add_linear(layer, in.elements(), node.shape.elements());
      }
    }
    operands_.open(*device_, precision_.type, training_, engines_.workspace_bytes());
  }

  void round() override {
    for (const auto& run : runs_) watch_.time({}, run);
    const auto rows = watch_.take();
    for (std::size_t i = 0; i < rows.size(); ++i) times_.put(i, rows[i].ms);
  }
  ConvolutionBound result() const override { return times_.result(); }

 private:
  void add(const BoundLayer& layer, const Conv2d& convolution, const Shape& in) {
    const int channels =
        layer.reads_input ? padded_channels(in.channels, precision_.type) : in.channels;
    ConvolutionTask task = convolution_task(convolution, {batch_, in, channels}, precision_.type,
                                            precision_.arithmetic, channels, convolution.out);
    operands_.need(std::int64_t{batch_} * in.height * in.width * channels,
                   std::int64_t{task.out} * task.kernel_h * task.kernel_w * channels,
                   std::int64_t{batch_} * task.out_height() * task.out_width() * task.out);
    add_run(layer, "forward", engines_.find(task), [this] {
      return ConvolutionOperands{
          .x = operands_.x.get(), .w = operands_.w.get(), .y = operands_.result.get()};
    });
    if (!training_) return;
    task.pass = ConvolutionPass::kBackwardWeights;
    add_run(layer, "backward_weights", engines_.find(task), [this] {
      return ConvolutionOperands{
          .x = operands_.x.get(), .y = operands_.y.get(), .gradient = operands_.floats()};
    });
    if (layer.reads_input) return;
    task.pass = ConvolutionPass::kBackwardData;
    add_run(layer, "backward_data", engines_.find(task), [this] {
      return ConvolutionOperands{
          .x = operands_.result.get(), .w = operands_.w.get(), .y = operands_.y.get()};
    });
  }

  void add_linear(const BoundLayer& layer, std::int64_t in, std::int64_t out) {
    operands_.need(batch_ * in, in * out, batch_ * out);
    const LinearTasks tasks =
        linear_tasks(precision_.type, precision_.arithmetic, batch_, in, out, false);
    add_run(layer, "forward", engines_.find(tasks.forward), [this] {
      return ProductOperands{operands_.x.get(), operands_.w.get(), operands_.result.get()};
    });
    if (!training_) return;
    add_run(layer, "backward_weights", engines_.find(tasks.weights), [this] {
      return ProductOperands{operands_.y.get(), operands_.x.get(), operands_.floats()};
    });
    add_run(layer, "backward_data", engines_.find(tasks.data), [this] {
      return ProductOperands{operands_.y.get(), operands_.w.get(), operands_.result.get()};
    });
  }

  template <class Engine, class MakeOperands>
  void add_run(const BoundLayer& layer, const char* pass, std::shared_ptr<Engine> engine,
               const MakeOperands& operands) {
    times_.add({.shape = layer.shape,
                .pass = pass,
                .count = layer.count,
                .gflop = batch_ * layer.flop_per_image * 1e-9,
                .implementation = engine->implementation()});
    runs_.push_back(
        [this, engine, operands] { engine->run(operands(), operands_.workspace.get()); });
  }

  std::shared_ptr<Device> device_;
  Engines engines_;
  Stopwatch watch_;
  int batch_;
  Precision precision_;
  bool training_;
  Operands operands_;
  std::vector<std::function<void()>> runs_;  // as rows of times_
  BoundTimes times_;
};

}  // namespace

std::unique_ptr<BoundMeter> make_convolution_bound(std::shared_ptr<Device> device, const Net& net,
                                                   int batch, const Precision& precision,
                                                   bool training) {
  return std::make_unique<Meter>(std::move(device), net, batch, precision, training);
}

}  // namespace rackmark::worker::cuda

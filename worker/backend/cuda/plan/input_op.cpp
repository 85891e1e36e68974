// The batch: pictures from NCHW floats to NHWC values.
#include "worker/backend/cuda/plan/op.hpp"

namespace rackmark::worker::cuda {
namespace {

// Tensor cores read 16 bytes of channels at a time.
int padded_channels(int channels, Type type) {
  const int group = static_cast<int>(16 / width(type));
  return (channels + group - 1) / group * group;
}

class InputOp final : public Op {
 public:
  explicit InputOp(bool pad_channels) : pad_channels_(pad_channels) {}

  void plan_forward(Assembly& assembly) override {
    shape_ = assembly.node(0).shape;
    images_ = assembly.batch;
    Value& value = assembly.values[0];
    value.shape = value.order = shape_;
    const int channels =
        pad_channels_ ? padded_channels(shape_.channels, assembly.type) : shape_.channels;
    value.place = place_ = assembly.add_place(assembly.rows(shape_), channels, assembly.type);
  }
  std::vector<int> plan_backward(Assembly&) override { return {}; }

  void bind(const Binding& where) override {
    load_ = {where.images,
             shape_.channels,
             {where.matrix(place_), images_, shape_.height, shape_.width}};
  }

  void forward(Pass& pass) override {
    const double floats = 4.0 * images_ * static_cast<double>(shape_.elements());
    pass.run("input", "load", "load_pictures", pass.kernels.load_pictures,
             floats + static_cast<double>(place_.bytes()), load_);
  }
  void backward(Pass&) override {}
  int output() const override { return 0; }

 private:
  bool pad_channels_;
  Shape shape_;
  int images_ = 0;
  Place place_;
  LoadPictures load_;
};

}  // namespace

std::unique_ptr<Op> make_input_op(bool pad_channels) {
  return std::make_unique<InputOp>(pad_channels);
}

}  // namespace rackmark::worker::cuda

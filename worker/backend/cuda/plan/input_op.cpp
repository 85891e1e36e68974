// The batch: pictures from NCHW floats, or from bytes with windows, to NHWC values.
#include "worker/backend/cuda/plan/convolution_task.hpp"
#include "worker/backend/cuda/plan/op.hpp"

namespace rackmark::worker::cuda {
namespace {

class InputOp final : public Op {
 public:
  InputOp(bool pad_channels, int raw_side) : pad_channels_(pad_channels), raw_side_(raw_side) {}

  void plan_forward(Assembly& assembly) override {
    shape_ = assembly.node(0).shape;
    images_ = assembly.batch;
    Value& value = assembly.values[0];
    value.shape = value.order = shape_;
    const int channels =
        pad_channels_ ? padded_channels(shape_.channels, value.type) : shape_.channels;
    value.place = place_ = assembly.add_place(assembly.rows(shape_), channels, value.type);
    if (value.type == Type::kInteger) factor_ = 1 / value.step;
  }
  std::vector<int> plan_backward(Assembly&) override { return {}; }

  void bind(const Binding& where) override {
    const Picture y{where.matrix(place_), images_, shape_.height, shape_.width};
    load_ = {where.images, shape_.channels, y, factor_};
    load_raw_ = {where.pixels, where.windows, raw_side_, y, factor_};
  }

  // Reads the batch in forward alone: backward runs beside the next one's arrival.
  void forward(Pass& pass) override {
    const double values = images_ * static_cast<double>(shape_.elements());
    const auto written = static_cast<double>(place_.bytes());
    if (raw_side_ != 0) {
      pass.run("input", "load", "load_raw_pictures", pass.of(place_.type).load_raw_pictures,
               values + written, load_raw_);
    } else {
      pass.run("input", "load", "load_pictures", pass.of(place_.type).load_pictures,
               4 * values + written, load_);
    }
  }
  void backward(Pass&) override {}
  int output() const override { return 0; }

 private:
  bool pad_channels_;
  int raw_side_;
  Shape shape_;
  int images_ = 0;
  float factor_ = 1;
  Place place_;
  LoadPictures load_;
  LoadRawPictures load_raw_;
};

}  // namespace

std::unique_ptr<Op> make_input_op(bool pad_channels, int raw_side) {
  return std::make_unique<InputOp>(pad_channels, raw_side);
}

}  // namespace rackmark::worker::cuda

// Concat along channels. Inputs that could be written in place (Value::is_view) cost nothing here;
// the others are copied. Where a part's channels fill whole blocks, one image of it is one range.
#include <algorithm>
#include <cstring>

#include "worker/backend/onednn/op.hpp"

namespace rackmark::worker::onednn {
namespace {

class ConcatOp final : public Op {
 public:
  explicit ConcatOp(int node) : node_(node) {}
  int output() const override { return node_; }

  void plan_forward(Assembly& assembly) override {
    const NodeInfo& info = assembly.node(node_);
    name_ = info.name;
    block_ = assembly.block;
    batch_ = assembly.batch;
    pixels_ = std::int64_t{info.shape.height} * info.shape.width;
    image_stride_ = assembly.block_count(info.shape) * block_ * pixels_;
    channels_ = info.shape.channels;
    if (assembly.values[node_].slot < 0) assembly.define(node_, assembly.picture(info.shape));
    slot_ = assembly.use(node_);
    int first = 0;
    for (const int input : info.inputs) {
      const int channels = assembly.node(input).shape.channels;
      if (!assembly.values[input].is_view()) {
        Part part;
        part.input = input;
        part.first = first;
        part.channels = channels;
        part.image_stride = assembly.block_count(assembly.node(input).shape) * block_ * pixels_;
        part.slot = assembly.use(input);
        parts_.push_back(part);
      }
      first += channels;
    }
  }

  std::vector<int> plan_backward(Assembly& assembly) override {
    gradient_slot_ = sum_.plan(assembly, node_).front();
    for (const int input : assembly.node(node_).inputs) {
      if (assembly.values[input].is_view() && assembly.values[input].needs_gradient)
        assembly.values[input].gradients.push_back(gradient_slot_);
    }
    for (Part& part : parts_) {
      Value& input = assembly.values[part.input];
      if (!input.needs_gradient) continue;
      part.gradient_slot = assembly.add_gradient(input.desc);
      input.gradients.push_back(part.gradient_slot);
    }
    return {};
  }

  void bind(const Binding& where) override {
    sum_.bind(where);
    y_ = where.at(slot_);
    dy_ = where.at(gradient_slot_);
    for (Part& part : parts_) {
      part.x = where.at(part.slot);
      part.dx = where.at(part.gradient_slot);
    }
  }

  void forward(Pass& pass) override {
    if (parts_.empty()) return;
    pass.run(name_, "forward", "copy", 0, copied_bytes(), [&] {
#pragma omp parallel for schedule(static)
      for (int image = 0; image < batch_; ++image) {
        for (const Part& part : parts_) join(part, image);
        clear_tail(y_ + image * image_stride_, channels_);
      }
    });
  }

  void backward(Pass& pass) override {
    sum_.run(pass, name_);
    if (std::all_of(parts_.begin(), parts_.end(), [](const Part& p) { return p.dx == nullptr; }))
      return;
    pass.run(name_, "backward_data", "copy", 0, copied_bytes(), [&] {
#pragma omp parallel for schedule(static)
      for (int image = 0; image < batch_; ++image) {
        for (const Part& part : parts_) {
          if (part.dx == nullptr) continue;
          split(part, image);
          clear_tail(part.dx + image * part.image_stride, part.channels);
        }
      }
    });
  }

 private:
  struct Part {  // an input that has a buffer of its own
    int input = -1, first = 0, channels = 0;
    std::int64_t image_stride = 0;
    int slot = -1, gradient_slot = -1;
    Cells x, dx;
  };

  double copied_bytes() const {
    double values = 0;
    for (const Part& part : parts_) values += static_cast<double>(part.image_stride) * batch_;
    return 2 * static_cast<double>(y_.width()) * values;
  }

  // Of the first pixel of a channel.
  std::int64_t at(int channel) const {
    return channel / block_ * pixels_ * block_ + channel % block_;
  }
  bool in_whole_blocks(const Part& part) const {
    return part.first % block_ == 0 && part.channels % block_ == 0;
  }

  void join(const Part& part, int image) const {
    const Cells from = part.x + image * part.image_stride, to = y_ + image * image_stride_;
    if (in_whole_blocks(part)) {
      std::memcpy(to + at(part.first), from, bytes_of(part));
      return;
    }
    for (int c = 0; c < part.channels; ++c) copy_channel(from + at(c), to + at(part.first + c));
  }

  void split(const Part& part, int image) const {
    const Cells from = dy_ + image * image_stride_, to = part.dx + image * part.image_stride;
    if (in_whole_blocks(part)) {
      std::memcpy(to, from + at(part.first), bytes_of(part));
      return;
    }
    for (int c = 0; c < part.channels; ++c) copy_channel(from + at(part.first + c), to + at(c));
  }

  std::size_t bytes_of(const Part& part) const {
    return static_cast<std::size_t>(part.image_stride * y_.width());
  }
  void copy_channel(Cells from, Cells to) const {
    by_storage(from.storage(), [&](auto kind) {
      const auto* x = from.as<decltype(kind)>();
      auto* y = to.as<decltype(kind)>();
      for (std::int64_t p = 0; p < pixels_; ++p) y[p * block_] = x[p * block_];
    });
  }
  // The channels that fill the last block are zero in every value.
  void clear_tail(Cells image, int channels) const {
    const int end = (channels + block_ - 1) / block_ * block_;
    by_storage(image.storage(), [&](auto kind) {
      auto* first = image.as<decltype(kind)>();
      for (int c = channels; c < end; ++c)
        for (std::int64_t p = 0; p < pixels_; ++p) first[at(c) + p * block_] = {};
    });
  }

  int node_;
  std::string name_;
  int block_ = 16, batch_ = 0, channels_ = 0;
  std::int64_t pixels_ = 0, image_stride_ = 0;
  int slot_ = -1, gradient_slot_ = -1;
  Cells y_, dy_;
  std::vector<Part> parts_;
  GradientSum sum_;
};

}  // namespace

std::unique_ptr<Op> make_concat_op(int node) { return std::make_unique<ConcatOp>(node); }

}  // namespace rackmark::worker::onednn

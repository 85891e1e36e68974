// Max pool on blocked pictures. oneDNN has one, but it reaches a tenth of the memory's speed.
#include "worker/backend/onednn/unary_op.hpp"

namespace rackmark::worker::onednn {
namespace {

constexpr int kLargestKernel = 15;  // its pixels are numbered in one byte

class MaxPoolOp final : public UnaryOp {
 public:
  using UnaryOp::UnaryOp;

  void plan_forward(Assembly& assembly) override {
    UnaryOp::plan_forward(assembly);
    want_picture(assembly);
    layer_ = std::get<MaxPool>(assembly.node(node_).layer);
    if (layer_.kernel > kLargestKernel) {
      throw std::invalid_argument("onednn: node '" + name_ + "': max pool over " +
                                  std::to_string(layer_.kernel) + " pixels, allowed: 1 to " +
                                  std::to_string(kLargestKernel));
    }
    taps_slot_ = assembly.add_buffer(padded_bytes(assembly.values[node_].desc) /
                                     static_cast<std::int64_t>(sizeof(float)));
  }

  std::vector<int> plan_backward(Assembly& assembly) override {
    assembly.arena.use(taps_slot_, assembly.event);
    return UnaryOp::plan_backward(assembly);
  }

  void bind(const Binding& where) override {
    UnaryOp::bind(where);
    taps_ = reinterpret_cast<std::uint8_t*>(where.at(taps_slot_));
  }

 private:
  std::string implementation(const Pass& pass) const override { return pass.kernels.isa; }
  void compute(Pass& pass) override { run(pass.kernels.max_pool); }
  void propagate(Pass& pass) override { run(pass.kernels.max_pool_gradient); }

  void run(void (*kernel)(const MaxPoolPlane&)) const {
    const std::int64_t in_plane = std::int64_t{in_.height} * in_.width * block_;
    const std::int64_t out_plane = std::int64_t{out_.height} * out_.width * block_;
#pragma omp parallel for schedule(static)
    for (std::int64_t plane = 0; plane < batch_ * blocks(); ++plane) {
      MaxPoolPlane t{};
      t.x = x_ + plane * in_plane;
      t.y = y_ + plane * out_plane;
      t.taps = taps_ + plane * out_plane;
      if (dx_ != nullptr) t.dy = dy_ + plane * out_plane, t.dx = dx_ + plane * in_plane;
      t.in_height = in_.height, t.in_width = in_.width;
      t.out_height = out_.height, t.out_width = out_.width;
      t.kernel = layer_.kernel, t.stride = layer_.stride, t.pad = layer_.pad;
      kernel(t);
    }
  }

  MaxPool layer_;
  int taps_slot_ = -1;
  std::uint8_t* taps_ = nullptr;
};

}  // namespace

std::unique_ptr<Op> make_max_pool_op(int node) { return std::make_unique<MaxPoolOp>(node); }

}  // namespace rackmark::worker::onednn

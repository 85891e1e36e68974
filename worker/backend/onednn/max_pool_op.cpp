// Max pool on blocked pictures. oneDNN has one, but it reaches a tenth of the memory's speed.
#include "worker/backend/onednn/picture_loops.hpp"
#include "worker/backend/onednn/unary_op.hpp"

namespace rackmark::worker::onednn {
namespace {

class MaxPoolOp final : public UnaryOp {
 public:
  using UnaryOp::UnaryOp;

  void plan_forward(Assembly& assembly) override {
    UnaryOp::plan_forward(assembly);
    want_picture(assembly);
    layer_ = std::get<MaxPool>(assembly.node(node_).layer);
    if (layer_.kernel > kLargestMaxPool) {
      throw std::invalid_argument("onednn: node '" + name_ + "': max pool over " +
                                  std::to_string(layer_.kernel) + " pixels, allowed: 1 to " +
                                  std::to_string(kLargestMaxPool));
    }
    taps_slot_ = assembly.add_buffer(padded_values(assembly.values[node_].desc));
  }

  std::vector<int> plan_backward(Assembly& assembly) override {
    assembly.arena.use(taps_slot_, assembly.event);
    return UnaryOp::plan_backward(assembly);
  }

  void bind(const Binding& where) override {
    UnaryOp::bind(where);
    taps_ = reinterpret_cast<std::uint8_t*>(where.address(taps_slot_));
  }

 private:
  std::string implementation(const Pass& pass) const override { return pass.kernels.isa; }
  void compute(Pass& pass) override {
    max_pool(pass.kernels, layer_, {batch_, block_, in_}, out_, x_, y_, taps_);
  }
  void propagate(Pass& pass) override {
    max_pool_gradient(pass.kernels, layer_, {batch_, block_, in_}, out_, dy_, dx_, taps_);
  }

  MaxPool layer_;
  int taps_slot_ = -1;
  std::uint8_t* taps_ = nullptr;
};

}  // namespace

std::unique_ptr<Op> make_max_pool_op(int node) { return std::make_unique<MaxPoolOp>(node); }

}  // namespace rackmark::worker::onednn

// Local response normalisation. oneDNN's fast kernels are for a window of 5 only; others would run
// in its reference code, so the loop is our own.
#include "worker/backend/onednn/picture_loops.hpp"
#include "worker/backend/onednn/unary_op.hpp"

namespace rackmark::worker::onednn {
namespace {

class ResponseNormOp final : public UnaryOp {
 public:
  using UnaryOp::UnaryOp;

  void plan_forward(Assembly& assembly) override {
    UnaryOp::plan_forward(assembly);
    want_picture(assembly);
    layer_ = std::get<LocalResponseNorm>(assembly.node(node_).layer);
  }

 private:
  bool reads_input_in_backward() const override { return true; }
  std::string implementation(const Pass& pass) const override { return pass.kernels.isa; }
  void compute(Pass& pass) override {
    response_norm(pass.kernels, layer_, {batch_, block_, in_}, x_, {}, y_);
  }
  void propagate(Pass& pass) override {
    response_norm(pass.kernels, layer_, {batch_, block_, in_}, x_, dy_, dx_);
  }

  LocalResponseNorm layer_;
};

}  // namespace

std::unique_ptr<Op> make_response_norm_op(int node) {
  return std::make_unique<ResponseNormOp>(node);
}

}  // namespace rackmark::worker::onednn

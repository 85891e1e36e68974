// Local response normalisation. oneDNN's fast kernels are for a window of 5 only; others would run
// in its reference code, so the loop is our own.
#include "worker/backend/onednn/threads.hpp"
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
  void compute(Pass& pass) override { run(pass.kernels, nullptr, y_); }
  void propagate(Pass& pass) override { run(pass.kernels, dy_, dx_); }

  void run(const Kernels& kernels, const float* dy, float* out) const {
    ResponseNormRange all{};
    all.pixels = std::int64_t{out_.height} * out_.width;
    all.blocks = static_cast<int>(blocks());
    all.before = layer_.size / 2;  // of an even size, the longer half lies before the channel
    all.after = (layer_.size - 1) / 2;
    all.k = static_cast<float>(layer_.k);
    all.scale = static_cast<float>(layer_.alpha / layer_.size);
    all.beta = static_cast<float>(layer_.beta);
    const std::int64_t image_floats = all.pixels * all.blocks * block_;
    const auto scratch_floats = static_cast<std::size_t>(
        3 * response_norm_scratch(block_, all.blocks, all.before, all.after));
#pragma omp parallel
    {
      std::vector<float> scratch(scratch_floats);
#pragma omp for schedule(static)
      for (std::int64_t row = 0; row < std::int64_t{batch_} * out_.height; ++row) {
        const std::int64_t image = row / out_.height;
        ResponseNormRange t = all;
        t.x = x_ + image * image_floats;
        t.dy = dy == nullptr ? nullptr : dy + image * image_floats;
        t.out = out + image * image_floats;
        t.first = row % out_.height * out_.width;
        t.last = t.first + out_.width;
        t.scratch = scratch.data();
        kernels.response_norm(t);
      }
    }
  }

  LocalResponseNorm layer_;
};

}  // namespace

std::unique_ptr<Op> make_response_norm_op(int node) {
  return std::make_unique<ResponseNormOp>(node);
}

}  // namespace rackmark::worker::onednn

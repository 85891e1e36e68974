// Batch norm fused with the residual add and the ReLU after it.
//
// Forward: one pass over x for the statistics, one for relu?(a*x + b + residual). Backward: one
// pass that masks the gradient and sums it (with dz stored where it is used again), one for dx.
// With N*H*W = m values a channel:
//   a = weight / sqrt(var + eps)    b = bias - mean * a
//   dweight = sum dz*(x-mean) / sqrt(var + eps)    dbias = sum dz
//   dx = a*dz - a*rstd*dweight/m * (x - mean) - a*dbias/m  =  p*dz + q*x + r
// Sums are taken per image and block of channels and combined in image order in double, so the
// result does not depend on the number of threads. Squares are taken about a value sampled from x,
// so that a large mean costs no digits, and no earlier batch has a part in the result.
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "worker/backend/graph.hpp"
#include "worker/backend/onednn/op.hpp"

namespace rackmark::worker::onednn {
namespace {

// One of the (at most two) batch norms of a group, with its per-channel numbers.
struct Norm {
  int node = -1, input = -1, weight = -1, bias = -1, running_mean = -1, running_var = -1;
  double epsilon = 0, momentum = 0;
  int channels = 0;
  std::string name;
  int x_slot = -1, dx_slot = -1;

  Cells x, dx;
  const float *weight_values = nullptr, *bias_values = nullptr;
  float *weight_gradient = nullptr, *bias_gradient = nullptr;
  std::vector<float>*mean_running = nullptr, *var_running = nullptr;
  // By channel, zero in the channels that fill the last block.
  std::vector<float> shift, mean, a, b, p, q, r;
  std::vector<double> rstd;

  void plan(Assembly& assembly, int norm_node) {
    node = norm_node;
    const NodeInfo& info = assembly.node(node);
    const auto& layer = std::get<BatchNorm>(info.layer);
    name = info.name;
    input = info.inputs[0];
    epsilon = layer.epsilon;
    momentum = layer.momentum;
    channels = info.shape.channels;
    if (assembly.values[input].desc != assembly.picture(info.shape)) {
      throw std::invalid_argument("onednn: node '" + name +
                                  "': batch norm after a flat layer is not supported");
    }
    if (assembly.batch * info.shape.height * info.shape.width < 2) {
      throw std::invalid_argument("onednn: node '" + name +
                                  "': batch norm needs more than one value a channel");
    }
    weight = assembly.parameter(node, "weight");
    bias = assembly.parameter(node, "bias");
    running_mean = assembly.statistic(node, "running_mean");
    running_var = assembly.statistic(node, "running_var");
    x_slot = assembly.use(input);
    for (const int parameter : {weight, bias})
      assembly.parameter_layouts[parameter] = make_desc({channels}, Tag::a);
    const auto padded = static_cast<std::size_t>(assembly.block_count(info.shape) * assembly.block);
    for (auto* values : {&shift, &mean, &a, &b, &p, &q, &r}) values->assign(padded, 0.0F);
    rstd.assign(padded, 0.0);
  }

  void bind(const Binding& where) {
    x = where.at(x_slot);
    dx = where.at(dx_slot);
    weight_values = where.parameters[weight];
    bias_values = where.parameters[bias];
    weight_gradient = where.gradients[weight];
    bias_gradient = where.gradients[bias];
    mean_running = where.running + running_mean;
    var_running = where.running + running_var;
  }

  void set_affine(int c, double channel_mean, double variance) {
    mean[c] = static_cast<float>(channel_mean);
    rstd[c] = 1 / std::sqrt(variance + epsilon);
    a[c] = static_cast<float>(weight_values[c] * rstd[c]);
    b[c] = static_cast<float>(bias_values[c] - channel_mean * weight_values[c] * rstd[c]);
  }

  void use_running() {
    for (int c = 0; c < channels; ++c) set_affine(c, (*mean_running)[c], (*var_running)[c]);
  }

  // From sums of (x - shift) and its square over `count` values.
  void use_batch(int c, double sum, double squares, double count) {
    const double offset = sum / count;
    const double channel_mean = shift[c] + offset;
    const double variance = std::max(squares / count - offset * offset, 0.0);  // NaN stays
    set_affine(c, channel_mean, variance);
    const auto blend = [&](float& running, double now) {
      running = static_cast<float>((1 - momentum) * running + momentum * now);
    };
    blend((*mean_running)[c], channel_mean);
    blend((*var_running)[c], variance * count / (count - 1));
  }

  void set_gradient(int c, double sum, double centred, double count) {
    const double dweight = centred * rstd[c], scale = weight_values[c] * rstd[c];
    weight_gradient[c] = static_cast<float>(dweight);
    bias_gradient[c] = static_cast<float>(sum);
    const double slope = -scale * rstd[c] * dweight / count;
    p[c] = static_cast<float>(scale);
    q[c] = static_cast<float>(slope);
    r[c] = static_cast<float>(-scale * sum / count - slope * mean[c]);
  }
};

// Smaller values are not worth a pass over memory.
constexpr std::int64_t kRecomputeFromBytes = std::int64_t{4} << 20;

class NormOp final : public Op, public Recipe {
 public:
  explicit NormOp(const NormGroup& group) : group_(group) {}
  int output() const override { return group_.output; }

  void plan_forward(Assembly& assembly) override {
    const Shape& shape = assembly.node(group_.output).shape;
    block_ = assembly.block;
    blocks_ = assembly.block_count(shape);
    planes_ = assembly.batch * blocks_;
    pixels_ = std::int64_t{shape.height} * shape.width;
    batch_ = assembly.batch;
    norms_.resize(group_.second_norm >= 0 ? 2 : 1);
    norms_[0].plan(assembly, group_.norm);
    if (group_.second_norm >= 0) norms_[1].plan(assembly, group_.second_norm);
    if (group_.residual >= 0) residual_slot_ = assembly.use(group_.residual);
    if (assembly.placements[group_.output].concat >= 0)
      assembly.define_in_place(group_.output);
    else
      assembly.define(group_.output, assembly.picture(shape));
    const Value& value = assembly.values[group_.output];
    y_slot_ = value.slot;
    y_offset_ = value.offset;
    y_image_stride_ = value.is_view() ? value.image_stride : blocks_ * plane_values();
    bytes_ = static_cast<double>(padded_bytes(value.desc));
    if (may_be_made_again(assembly)) assembly.values[group_.output].recipe = this;
    assembly.need_scratch(planes_ * 3 * block_ * static_cast<std::int64_t>(sizeof(double)));
  }

  std::vector<int> plan_backward(Assembly& assembly) override {
    const std::vector<int> taken = sum_.plan(assembly, group_.output, 2);
    gradient_slot_ = taken[0];
    second_gradient_slot_ = taken.size() > 1 ? taken[1] : -1;
    for (const Norm& norm : norms_) assembly.use(norm.input);
    const bool joins = has_residual() || norms_.size() > 1;
    mask_ = !group_.relu ? Mask::kNone : joins ? Mask::kFromOutput : Mask::kFromAffine;
    if (mask_ == Mask::kFromOutput) assembly.use(group_.output);
    // dz goes over the gradient that came in. The residual keeps it as its gradient, a second norm
    // turns it into its own dx at the end; only a lone norm can write its dx there at once.
    stores_dz_ = joins || second_gradient_slot_ >= 0;
    norms_[0].dx_slot = gradient_slot_;
    if (joins || assembly.values[group_.output].is_view())
      norms_[0].dx_slot = assembly.add_gradient(assembly.values[group_.output].desc);
    if (norms_.size() > 1) norms_[1].dx_slot = gradient_slot_;
    if (has_residual() && assembly.values[group_.residual].needs_gradient)
      assembly.values[group_.residual].gradients.push_back(gradient_slot_);
    std::vector<int> parameters;
    for (const Norm& norm : norms_) {
      if (assembly.values[norm.input].needs_gradient)
        assembly.values[norm.input].gradients.push_back(norm.dx_slot);
      parameters.insert(parameters.end(), {norm.weight, norm.bias});
    }
    return parameters;
  }

  void bind(const Binding& where) override {
    for (Norm& norm : norms_) norm.bind(where);
    sum_.bind(where);
    residual_ = where.at(residual_slot_);
    y_ = where.at(y_slot_);
    gradient_ = where.at(gradient_slot_);
    second_gradient_ = where.at(second_gradient_slot_);
    sums_ = reinterpret_cast<double*>(where.scratch);
  }

  void forward(Pass& pass) override {
    for (Norm& norm : norms_) {
      if (!pass.training) {
        norm.use_running();
      } else {
        pass.run(norm.name, "forward", std::string("statistics ") + pass.kernels.isa, 0, bytes_,
                 [&] { take_statistics(pass.kernels, norm); });
      }
    }
    pass.run(norms_[0].name, "forward", std::string("apply ") + pass.kernels.isa, 0,
             bytes_ * (has_residual() || norms_.size() > 1 ? 3 : 2), [&] { apply(pass.kernels); });
  }

  void backward(Pass& pass) override {
    sum_.run(pass, norms_[0].name);
    const int reads = 2 + static_cast<int>(norms_.size() > 1) +
                      static_cast<int>(second_gradient_ != nullptr) +
                      static_cast<int>(mask_ == Mask::kFromOutput) + static_cast<int>(stores_dz_);
    pass.run(norms_[0].name, "backward_weights", std::string("reduce ") + pass.kernels.isa, 0,
             bytes_ * reads, [&] { reduce(pass.kernels); });
    for (const Norm& norm : norms_) {
      pass.ready(norm.weight);
      pass.ready(norm.bias);
    }
    for (Norm& norm : norms_) {
      pass.run(norm.name, "backward_data", std::string("gradient ") + pass.kernels.isa, 0,
               bytes_ * 3, [&] { spread(pass.kernels, norm); });
    }
  }

  void make_again(Pass& pass, Cells into) override {
    pass.run(norms_[0].name, "backward_data", std::string("apply again ") + pass.kernels.isa, 0,
             2 * bytes_, [&] {
               const Cells kept = std::exchange(y_, into);
               apply(pass.kernels);
               y_ = kept;
             });
  }

 private:
  // A lone norm needs its input in backward anyway, and its output only one convolution.
  bool may_be_made_again(const Assembly& assembly) const {
    const Value& value = assembly.values[group_.output];
    if (!assembly.recompute || has_residual() || norms_.size() > 1 || value.is_view()) return false;
    if (padded_bytes(value.desc) < kRecomputeFromBytes) return false;
    const auto readers = consumers(assembly.net)[group_.output];
    return readers.size() == 1 &&
           std::holds_alternative<Conv2d>(assembly.node(readers.front()).layer);
  }

  bool has_residual() const { return group_.residual >= 0; }
  std::int64_t plane_values() const { return pixels_ * block_; }
  // Where a plane of the output, or of its gradient, begins.
  std::int64_t output_at(std::int64_t plane) const {
    return y_offset_ + plane / blocks_ * y_image_stride_ + plane % blocks_ * plane_values();
  }
  int first_channel(std::int64_t plane) const { return static_cast<int>(plane % blocks_) * block_; }
  double values_per_channel() const { return static_cast<double>(batch_ * pixels_); }

  // Sum number `which` of channel c, over all images in order.
  double combined(int sums_per_plane, int which, int c) const {
    double total = 0;
    const std::int64_t stride = blocks_ * sums_per_plane * block_;
    const double* first = sums_ + (c / block_ * sums_per_plane + which) * block_ + c % block_;
    for (int n = 0; n < batch_; ++n) total += first[n * stride];
    return total;
  }

  // Mean of a few pixels of the first image: near the channel's mean, and cheap.
  void sample_shift(Norm& norm) const {
    constexpr int kSamples = 8;
#pragma omp parallel for schedule(static)
    for (int c = 0; c < norm.channels; ++c) {
      const Cells plane = norm.x + (c / block_ * plane_values() + c % block_);
      float sum = 0;
      for (int k = 0; k < kSamples; ++k) sum += plane.value(pixels_ * k / kSamples * block_);
      norm.shift[c] = sum / kSamples;
    }
  }

  void take_statistics(const Kernels& kernels, Norm& norm) {
    sample_shift(norm);
#pragma omp parallel for schedule(static)
    for (std::int64_t plane = 0; plane < planes_; ++plane) {
      kernels.moments(norm.x + plane * plane_values(), pixels_,
                      norm.shift.data() + first_channel(plane), sums_ + plane * 2 * block_);
    }
#pragma omp parallel for schedule(static)
    for (int c = 0; c < norm.channels; ++c)
      norm.use_batch(c, combined(2, 0, c), combined(2, 1, c), values_per_channel());
  }

  void apply(const Kernels& kernels) const {
#pragma omp parallel for schedule(static)
    for (std::int64_t plane = 0; plane < planes_; ++plane) {
      const std::int64_t at = plane * plane_values();
      const int c = first_channel(plane);
      NormalizePlane t{};
      t.x = norms_[0].x + at;
      t.a = norms_[0].a.data() + c;
      t.b = norms_[0].b.data() + c;
      if (residual_ != nullptr) t.x2 = residual_ + at;
      if (norms_.size() > 1) {
        t.x2 = norms_[1].x + at;
        t.a2 = norms_[1].a.data() + c;
        t.b2 = norms_[1].b.data() + c;
      }
      t.y = y_ + output_at(plane);
      t.pixels = pixels_;
      t.relu = group_.relu;
      kernels.normalize(t);
    }
  }

  void reduce(const Kernels& kernels) {
    const bool two = norms_.size() > 1;
    const int sums_per_plane = two ? 3 : 2;
#pragma omp parallel for schedule(static)
    for (std::int64_t plane = 0; plane < planes_; ++plane) {
      const std::int64_t at = plane * plane_values(), out = output_at(plane);
      const int c = first_channel(plane);
      ReducePlane t{};
      t.g = gradient_ + out;
      if (second_gradient_ != nullptr) t.g2 = second_gradient_ + out;
      t.x = norms_[0].x + at;
      t.mean = norms_[0].mean.data() + c;
      if (two) {
        t.x2 = norms_[1].x + at;
        t.mean2 = norms_[1].mean.data() + c;
      }
      t.a = norms_[0].a.data() + c;
      t.b = norms_[0].b.data() + c;
      t.y = y_ + out;
      if (stores_dz_) t.dz = gradient_ + out;
      t.sums = sums_ + plane * sums_per_plane * block_;
      t.pixels = pixels_;
      t.mask = mask_;
      kernels.reduce(t);
    }
    for (std::size_t k = 0; k < norms_.size(); ++k) {
#pragma omp parallel for schedule(static)
      for (int c = 0; c < norms_[k].channels; ++c) {
        norms_[k].set_gradient(c, combined(sums_per_plane, 0, c),
                               combined(sums_per_plane, 1 + static_cast<int>(k), c),
                               values_per_channel());
      }
    }
  }

  void spread(const Kernels& kernels, const Norm& norm) const {
    const bool masked = !stores_dz_ && mask_ == Mask::kFromAffine;
#pragma omp parallel for schedule(static)
    for (std::int64_t plane = 0; plane < planes_; ++plane) {
      const std::int64_t at = plane * plane_values();
      const int c = first_channel(plane);
      GradientPlane t{};
      t.g = gradient_ + output_at(plane);
      t.x = norm.x + at;
      t.a = masked ? norm.a.data() + c : nullptr;
      t.b = norm.b.data() + c;
      t.p = norm.p.data() + c;
      t.q = norm.q.data() + c;
      t.r = norm.r.data() + c;
      t.dx = norm.dx + at;
      t.pixels = pixels_;
      kernels.gradient(t);
    }
  }

  NormGroup group_;
  std::vector<Norm> norms_;
  int block_ = 16, batch_ = 0;
  std::int64_t blocks_ = 0, planes_ = 0, pixels_ = 0, y_offset_ = 0, y_image_stride_ = 0;
  int residual_slot_ = -1, y_slot_ = -1, gradient_slot_ = -1, second_gradient_slot_ = -1;
  bool stores_dz_ = false;
  Mask mask_ = Mask::kNone;
  Cells residual_, second_gradient_, y_, gradient_;
  double* sums_ = nullptr;
  double bytes_ = 0;
  GradientSum sum_;
};

}  // namespace

std::unique_ptr<Op> make_norm_op(const NormGroup& group) { return std::make_unique<NormOp>(group); }

}  // namespace rackmark::worker::onednn

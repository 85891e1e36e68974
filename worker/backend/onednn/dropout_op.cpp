// Dropout: in training y = x / (1 - probability) where kept, 0 elsewhere. Whether an element is
// kept follows from node, pass (DropoutMasks) and element, so backward makes the same mask again
// and none is stored.
#include <cstring>

#include "worker/backend/onednn/threads.hpp"
#include "worker/backend/onednn/unary_op.hpp"

namespace rackmark::worker::onednn {
namespace {

class DropoutOp final : public UnaryOp {
 public:
  DropoutOp(int node, bool active, const DropoutMasks& masks)
      : UnaryOp(node),
        active_(active),
        masks_(masks),
        node_key_(splitmix64(splitmix64(masks.seed) + node)) {}

  void plan_forward(Assembly& assembly) override {
    UnaryOp::plan_forward(assembly);
    const double probability = std::get<Dropout>(assembly.node(node_).layer).probability;
    count_ = padded_values(assembly.values[node_].desc);
    scale_ = static_cast<float>(1 / (1 - probability));
    least_kept_ = static_cast<std::uint32_t>(probability * 4294967296.0);
  }

 private:
  std::string implementation(const Pass& pass) const override {
    return active_ && pass.training ? "counter-based mask" : "copy";
  }

  void compute(Pass& pass) override {
    if (!active_ || !pass.training) {
      parallel_ranges(count_, [&](std::int64_t first, std::int64_t last) {
        std::memcpy(y_ + first, x_ + first, static_cast<std::size_t>((last - first) * x_.width()));
      });
      return;
    }
    pass_key_ = splitmix64(node_key_ + masks_.number(passes_++));
    mask(x_, y_);
  }

  void propagate(Pass& pass) override {
    if (active_) return mask(dy_, dx_);
    parallel_ranges(count_, [&](std::int64_t first, std::int64_t last) {
      pass.kernels.scale(dy_ + first, 1.0F, dx_ + first, last - first);
    });
  }

  void mask(Cells from, Cells to) const {
    by_storage(from.storage(), [&](auto kind) {
      using T = decltype(kind);
      mask(from.as<const T>(), to.as<T>());
    });
  }

  // One draw of 64 bits decides two elements.
  template <class T>
  void mask(const T* from, T* to) const {
    parallel_ranges(count_, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; i += 2) {  // ranges begin at multiples of 16
        const std::uint64_t draw = splitmix64(pass_key_ + static_cast<std::uint64_t>(i));
        const bool one = static_cast<std::uint32_t>(draw) >= least_kept_;
        const bool two = static_cast<std::uint32_t>(draw >> 32) >= least_kept_;
        put(to[i], one ? to_float(from[i]) * scale_ : 0.0F);
        if (i + 1 < last) put(to[i + 1], two ? to_float(from[i + 1]) * scale_ : 0.0F);
      }
    });
  }

  bool active_;
  DropoutMasks masks_;
  std::int64_t passes_ = 0;  // in training
  std::uint64_t node_key_, pass_key_ = 0;
  std::int64_t count_ = 0;
  float scale_ = 1;
  std::uint32_t least_kept_ = 0;
};

}  // namespace

std::unique_ptr<Op> make_dropout_op(int node, bool active, const DropoutMasks& masks) {
  return std::make_unique<DropoutOp>(node, active, masks);
}

}  // namespace rackmark::worker::onednn

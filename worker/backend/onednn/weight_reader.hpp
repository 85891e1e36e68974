// Passes over weights whose layout or type need not be the one in which the plan keeps them.
#pragma once

#include "worker/backend/onednn/op.hpp"
#include "worker/backend/onednn/threads.hpp"

namespace rackmark::worker::onednn {

// A primitive that reads weights, with the reorder before it if its kernel wants another layout
// than `master` (the float32 layout of parameters, gradients and momentum). With values in bf16 the
// weights that it reads are rounded to bf16 too, at every pass.
class WeightReader {
 public:
  // `make(weights)` creates the primitive for given weights. Takes the kernel that oneDNN chooses
  // freely; if the same kernel also reads `master` as it is, there is no reorder.
  template <class Make>
  Made choose(const Desc& master, const Desc& any, const Make& make) {
    Made made = make(any);
    if (type_of(any) != type_of(master) || made.weights == master) return made;
    try {
      Made direct = make(master);
      if (direct.implementation == made.implementation) return direct;
    } catch (const DnnlError& error) {
      if (!error.unimplemented) throw;
    }
    return made;
  }

  // Of a primitive that choose() gave.
  void plan(Assembly& assembly, const Desc& master, Made made,
            const std::vector<StoredOperand>& operands) {
    rounds_ = assembly.stored == DataType::bf16 && type_of(made.weights) == DataType::f32;
    reorders_ = made.weights != master;
    if (reorders_) reorder_.plan(assembly, make_reorder(assembly.engine, master, made.weights));
    if (reorders_ || rounds_) slot_ = assembly.add_buffer(padded_bytes(made.weights));
    call_.plan(assembly, std::move(made), operands);
  }

  // `with` holds all arguments but the weights.
  void bind(const Binding& where, float* master, std::unordered_map<int, dnnl::memory> with) {
    from_ = master;
    void* weights = slot_ < 0 ? static_cast<void*>(master) : where.address(slot_);
    with.insert({DNNL_ARG_WEIGHTS, where.memory(made().weights, weights)});
    call_.bind(where, std::move(with));
    to_ = static_cast<float*>(weights);
    if (!reorders_) return;
    from_ = to_;
    reorder_.bind(where, {{DNNL_ARG_FROM, where.memory(reorder_.made().src, master)},
                          {DNNL_ARG_TO, where.memory(reorder_.made().dst, weights)}});
  }

  void run(Pass& pass, const std::string& node, const char* name, double flop, double bytes) {
    const auto weight_bytes = static_cast<double>(padded_bytes(made().weights));
    if (reorders_) {
      pass.run(node, name, "weights " + reorder_.made().implementation, 0, 2 * weight_bytes,
               [&] { reorder_(pass); });
    }
    if (rounds_) {
      pass.run(node, name, "weights rounded to bf16", 0, 2 * weight_bytes, [&] { round(pass); });
    }
    pass.run(node, name, made().implementation, flop, bytes, [&] { call_(pass); });
  }

  const Made& made() const { return call_.made(); }

 private:
  void round(const Pass& pass) const {
    parallel_ranges(padded_values(made().weights), [&](std::int64_t first, std::int64_t last) {
      pass.kernels.round(from_ + first, to_ + first, last - first);
    });
  }

  Call call_, reorder_;
  bool reorders_ = false, rounds_ = false;
  int slot_ = -1;  // of the weights that it reads, if they are not the plan's own
  const float* from_ = nullptr;
  float* to_ = nullptr;
};

}  // namespace rackmark::worker::onednn

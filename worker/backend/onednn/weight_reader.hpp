// Passes over weights whose layout need not be the one in which the plan keeps them.
#pragma once

#include "worker/backend/onednn/op.hpp"

namespace rackmark::worker::onednn {

// A primitive that reads weights, with the reorder before it if its kernel wants another layout
// than `master` (the layout of parameters, gradients and momentum).
class WeightReader {
 public:
  // `make` creates the primitive for given weights. Takes the kernel that oneDNN chooses freely;
  // if the same kernel also reads `master` as it is, there is no reorder.
  template <class Make>
  void plan(Assembly& assembly, const Desc& master, const Desc& any, const Make& make) {
    call_.made = make(any);
    if (call_.made.weights != master) {
      try {
        const Made direct = make(master);
        if (direct.implementation == call_.made.implementation) call_.made = direct;
      } catch (const DnnlError& error) {
        if (!error.unimplemented) throw;
      }
    }
    assembly.need_scratch(call_.made);
    if (call_.made.weights == master) return;
    reorder_.made = make_reorder(assembly.engine, master, call_.made.weights);
    assembly.need_scratch(reorder_.made);
    slot_ = assembly.add_buffer(padded_bytes(call_.made.weights));
  }

  // `with` holds all arguments but the weights.
  void bind(const Binding& where, float* master, std::unordered_map<int, dnnl::memory> with) {
    float* weights = slot_ < 0 ? master : where.at(slot_);
    with.insert({DNNL_ARG_WEIGHTS, where.memory(call_.made.weights, weights)});
    call_.bind(where, std::move(with));
    if (slot_ < 0) return;
    reorder_.bind(where, {{DNNL_ARG_FROM, where.memory(reorder_.made.src, master)},
                          {DNNL_ARG_TO, where.memory(reorder_.made.dst, weights)}});
  }

  void run(Pass& pass, const std::string& node, const char* name, double flop, double bytes) {
    if (slot_ >= 0) {
      pass.run(node, name, "weights " + reorder_.made.implementation, 0,
               2.0 * static_cast<double>(padded_bytes(reorder_.made.dst)), [&] { reorder_(pass); });
    }
    pass.run(node, name, call_.made.implementation, flop, bytes, [&] { call_(pass); });
  }

  const Made& made() const { return call_.made; }

 private:
  Call call_, reorder_;
  int slot_ = -1;  // of the reordered weights
};

}  // namespace rackmark::worker::onednn

// Primitives that only inference needs: post-ops, narrow number formats, scales. With
// dnnl_bridge.hpp the only place that knows oneDNN 2.6 from 3.x.
//
// Quantities are "real" unless they are called stored: a stored integer q stands for q * scale.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "worker/backend/onednn/dnnl_bridge.hpp"

namespace rackmark::worker::onednn {

// What happens to a sum of products before it is stored, in this order: times `scales`, plus bias,
// plus what dst holds, ReLU, divided by dst_scale, rounded and clamped to dst's type.
struct Epilogue {
  std::vector<float> scales;  // real value of 1 in the accumulator, per output channel; empty: 1
  bool sum = false;           // add what dst holds
  float sum_scale = 1;        // real value of a stored 1 there
  DataType sum_type = DataType::undef;  // how to read it; undef: as dst
  bool relu = false;
  float dst_scale = 1;
};

// A primitive and the numbers it wants at run time (3.x takes scales as arguments).
struct InferenceMade : Made {
  std::vector<std::pair<int, std::vector<float>>> scales;  // argument, values
};

struct InferenceConvolution {  // weights OIHW, or GOIHW for one channel a group
  ConvolutionShape shape;      // has_bias is taken as true
  Epilogue epilogue;
};
InferenceMade make_inference_convolution(const dnnl::engine& engine, const InferenceConvolution& c);

struct InferenceLinear {
  LinearShape shape;  // has_bias is taken as true
  Epilogue epilogue;
};
InferenceMade make_inference_linear(const dnnl::engine& engine, const InferenceLinear& linear);

// The bias that such a primitive wants for a real one.
std::vector<float> stored_bias(const std::vector<float>& bias, const Epilogue& epilogue);

InferenceMade make_inference_pooling(const dnnl::engine& engine, const PoolingShape& shape);

// Joins along channels; dst chooses its layout.
InferenceMade make_concat(const dnnl::engine& engine, const std::vector<Desc>& parts);

// to = from * factor, in the types of both.
InferenceMade make_scaling_reorder(const dnnl::engine& engine, const Desc& from, const Desc& to,
                                   float factor);

Desc with_type_any(const Desc& desc, DataType type);  // same dimensions, layout left open

}  // namespace rackmark::worker::onednn

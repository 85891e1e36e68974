#include "worker/backend/onednn/inference/dnnl_inference_bridge.hpp"

#include <string_view>

namespace rackmark::worker::onednn {
namespace {

constexpr auto kInference = dnnl::prop_kind::forward_inference;

template <class Make>
InferenceMade checked_inference(const char* call, Make make) {
  try {
    return make();
  } catch (const dnnl::error& error) {
    throw DnnlError(call, error);
  }
}

dnnl::primitive_attr inference_scratch() {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attr;
}

// 2.x describes an operation first, then asks an engine for it; 3.x does both in one call.
// use(desc) while what was described still exists, which next_impl() of 2.x reads again.
template <class P, class Use, class... Args>
auto with_description(const Use& use, const dnnl::engine& engine, const dnnl::primitive_attr& attr,
                      const Args&... args) {
#if DNNL_VERSION_MAJOR >= 3
  return use(typename P::primitive_desc(engine, args..., attr));
#else
  const typename P::desc description(args...);
  return use(typename P::primitive_desc(description, attr, engine));
#endif
}

template <class P, class... Args>
typename P::primitive_desc ask_inference(const dnnl::engine& engine,
                                         const dnnl::primitive_attr& attr, const Args&... args) {
  return with_description<P>([](auto desc) { return desc; }, engine, attr, args...);
}

// The first implementation whose name begins so, instead of `first`; that one where there is none.
template <class P, class... Args>
typename P::primitive_desc ask_for(std::string_view name, const typename P::primitive_desc& first,
                                   const dnnl::engine& engine, const dnnl::primitive_attr& attr,
                                   const Args&... args) {
  const auto search = [&](typename P::primitive_desc desc) {
    do {
      if (std::string_view(desc.impl_info_str()).starts_with(name)) return desc;
    } while (desc.next_impl());
    return first;
  };
  return with_description<P>(search, engine, attr, args...);
}

template <class P>
InferenceMade make_inference(const typename P::primitive_desc& desc) {
  InferenceMade made;
  if (!describes_only()) made.primitive = P(desc);
  made.scratch_bytes = static_cast<std::int64_t>(desc.scratchpad_desc().get_size());
  made.implementation = desc.impl_info_str();
  made.dst = desc.dst_desc();
  return made;
}

void append_relu(dnnl::post_ops& operations) {
#if DNNL_VERSION_MAJOR >= 3
  operations.append_eltwise(dnnl::algorithm::eltwise_relu, 0, 0);
#else
  operations.append_eltwise(1, dnnl::algorithm::eltwise_relu, 0, 0);
#endif
}

void append_sum(dnnl::post_ops& operations, const Epilogue& e) {
#if DNNL_VERSION_MAJOR >= 3
  operations.append_sum(e.sum_scale, 0, e.sum_type);  // before the division by dst_scale
#else
  operations.append_sum(e.sum_scale / e.dst_scale, e.sum_type);  // 2.x has divided already
#endif
}

// 2.x multiplies once, by scales / dst_scale, after the bias; 3.x does as Epilogue says.
dnnl::primitive_attr attributes(const Epilogue& e, bool grouped, InferenceMade& made) {
  dnnl::primitive_attr attr = inference_scratch();
  dnnl::post_ops operations;
  if (e.sum) append_sum(operations, e);
  if (e.relu) append_relu(operations);
  attr.set_post_ops(operations);
  if (e.scales.empty()) return attr;
#if DNNL_VERSION_MAJOR >= 3
  attr.set_scales_mask(DNNL_ARG_WEIGHTS, grouped ? 3 : 1);
  made.scales.emplace_back(DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS, e.scales);
  if (e.dst_scale != 1) {
    attr.set_scales_mask(DNNL_ARG_DST, 0);
    made.scales.emplace_back(DNNL_ARG_ATTR_SCALES | DNNL_ARG_DST, std::vector<float>{e.dst_scale});
  }
#else
  (void)grouped;
  (void)made;
  std::vector<float> factors = e.scales;
  for (float& factor : factors) factor /= e.dst_scale;
  attr.set_output_scales(2, factors);
#endif
  return attr;
}

// oneDNN 2.6 lists its brgemm kernel for 1x1 convolutions first. With a sum of integers after it
// that one takes two to three times as long as the older kernel (64 -> 256 channels at 56 x 56,
// batch 16, two Zen 5 cores: 3.8 against 1.3 ms; 128 -> 512 at 28 x 28: 2.3 against 1.1) where
// channels are few, and as long where they are many. Without a sum it is the better one.
bool is_slow_with_sum(const char* implementation) {
  return std::string_view(implementation).starts_with("brgconv_1x1");
}

template <class P, class... Args>
InferenceMade make_with_epilogue(const dnnl::engine& engine, const Epilogue& epilogue, bool grouped,
                                 const Args&... args) {
  InferenceMade scales;
  const auto attr = attributes(epilogue, grouped, scales);
  auto desc = ask_inference<P>(engine, attr, args...);
  const bool integers = !epilogue.scales.empty();
  if (integers && epilogue.sum && is_slow_with_sum(desc.impl_info_str()))
    desc = ask_for<P>("jit_int8_1x1", desc, engine, attr, args...);
  InferenceMade made = make_inference<P>(desc);
  made.src = desc.src_desc();
  made.weights = desc.weights_desc();
  made.bias = desc.bias_desc();
  made.scales = std::move(scales.scales);
  return made;
}

}  // namespace

InferenceMade make_inference_convolution(const dnnl::engine& engine,
                                         const InferenceConvolution& c) {
  return checked_inference("convolution inference", [&] {
    const ConvolutionShape& s = c.shape;
    const auto algorithm = dnnl::algorithm::convolution_direct;
    const bool grouped = dims_of(s.weights).size() == 5;
    return make_with_epilogue<dnnl::convolution_forward>(engine, c.epilogue, grouped, kInference,
                                                         algorithm, s.src, s.weights, s.bias, s.dst,
                                                         s.strides, s.pad_before, s.pad_after);
  });
}

InferenceMade make_inference_linear(const dnnl::engine& engine, const InferenceLinear& linear) {
  return checked_inference("inner product inference", [&] {
    const LinearShape& s = linear.shape;
    return make_with_epilogue<dnnl::inner_product_forward>(
        engine, linear.epilogue, false, kInference, s.src, s.weights, s.bias, s.dst);
  });
}

std::vector<float> stored_bias(const std::vector<float>& bias, const Epilogue& epilogue) {
  std::vector<float> stored = bias;
#if DNNL_VERSION_MAJOR < 3
  if (!epilogue.scales.empty()) {
    for (std::size_t c = 0; c < stored.size(); ++c) stored[c] /= epilogue.scales[c];
  }
#else
  (void)epilogue;
#endif
  return stored;
}

InferenceMade make_inference_pooling(const dnnl::engine& engine, const PoolingShape& s) {
  return checked_inference("pooling inference", [&] {
    const auto kind = s.kind == PoolingKind::kMax ? dnnl::algorithm::pooling_max
                                                  : dnnl::algorithm::pooling_avg_include_padding;
#if DNNL_VERSION_MAJOR >= 3
    const Dims dilation(s.kernel.size(), 0);
    const auto desc = ask_inference<dnnl::pooling_forward>(engine, inference_scratch(), kInference,
                                                           kind, s.src, s.dst, s.strides, s.kernel,
                                                           dilation, s.pad_before, s.pad_after);
#else
    const auto desc =
        ask_inference<dnnl::pooling_forward>(engine, inference_scratch(), kInference, kind, s.src, s.dst,
                                   s.strides, s.kernel, s.pad_before, s.pad_after);
#endif
    return make_inference<dnnl::pooling_forward>(desc);
  });
}

InferenceMade make_concat(const dnnl::engine& engine, const std::vector<Desc>& parts) {
  return checked_inference("concat", [&] {
#if DNNL_VERSION_MAJOR >= 3
    const dnnl::concat::primitive_desc desc(engine, 1, parts, inference_scratch());
#else
    const dnnl::concat::primitive_desc desc(1, parts, engine, inference_scratch());
#endif
    return make_inference<dnnl::concat>(desc);
  });
}

InferenceMade make_scaling_reorder(const dnnl::engine& engine, const Desc& from, const Desc& to,
                                   float factor) {
  return checked_inference("reorder", [&] {
    dnnl::primitive_attr attr = inference_scratch();
    InferenceMade made;
    if (factor != 1) {
#if DNNL_VERSION_MAJOR >= 3
      attr.set_scales_mask(DNNL_ARG_SRC, 0);
      made.scales.emplace_back(DNNL_ARG_ATTR_SCALES | DNNL_ARG_SRC, std::vector<float>{factor});
#else
      attr.set_output_scales(0, {factor});
#endif
    }
    const dnnl::reorder::primitive_desc desc(engine, from, engine, to, attr);
    if (!describes_only()) made.primitive = dnnl::reorder(desc);
    made.scratch_bytes = static_cast<std::int64_t>(desc.scratchpad_desc().get_size());
    made.implementation = desc.impl_info_str();
    made.src = from;
    made.dst = to;
    return made;
  });
}

Desc with_type_any(const Desc& desc, DataType type) { return Desc(dims_of(desc), type, Tag::any); }

}  // namespace rackmark::worker::onednn

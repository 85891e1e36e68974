#include "worker/backend/onednn/dnnl_bridge.hpp"

#include <oneapi/dnnl/dnnl_version.h>

#include <set>
#include <unordered_map>
#include <utility>

namespace rackmark::worker::onednn {
namespace {

constexpr auto kFloat = dnnl::memory::data_type::f32;
constexpr auto kTraining = dnnl::prop_kind::forward_training;

thread_local bool describe_only = false;  // see DescribeOnly

const char* status_name(dnnl_status_t status) {
  switch (status) {
    case dnnl_out_of_memory:
      return "out of memory";
    case dnnl_invalid_arguments:
      return "invalid arguments";
    case dnnl_unimplemented:
      return "not implemented";
    case dnnl_runtime_error:
      return "runtime error";
    default:
      return "error";
  }
}

template <class Make>
Made checked(const char* call, Make make) {
  try {
    return make();
  } catch (const dnnl::error& error) {
    throw DnnlError(call, error);
  }
}

dnnl::primitive_attr user_scratch() {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attr;
}

// 2.x describes an operation first, then asks an engine for it; 3.x does both in one call.
template <class P, class... Args>
typename P::primitive_desc ask(const dnnl::engine& engine, const Args&... args) {
#if DNNL_VERSION_MAJOR >= 3
  return typename P::primitive_desc(engine, args..., user_scratch());
#else
  return typename P::primitive_desc(typename P::desc(args...), user_scratch(), engine);
#endif
}
template <class P, class Forward, class... Args>
typename P::primitive_desc ask_backward(const dnnl::engine& engine, const Forward& forward,
                                        const Args&... args) {
#if DNNL_VERSION_MAJOR >= 3
  return typename P::primitive_desc(engine, args..., forward, user_scratch());
#else
  return typename P::primitive_desc(typename P::desc(args...), user_scratch(), engine, forward);
#endif
}

template <class P>
Made make(const typename P::primitive_desc& desc) {
  Made made;
  if (!describe_only) made.primitive = P(desc);
  made.scratch_bytes = static_cast<std::int64_t>(desc.scratchpad_desc().get_size());
  made.implementation = desc.impl_info_str();
  return made;
}

constexpr auto kDirect = dnnl::algorithm::convolution_direct;

// Backward passes only need a forward description as a hint; it need not be the one that runs.
dnnl::convolution_forward::primitive_desc convolution_hint(const dnnl::engine& engine,
                                                           const ConvolutionShape& s) {
  const Desc any = make_desc(dims_of(s.weights), type_of(s.src), Tag::any);
  return ask<dnnl::convolution_forward>(engine, kTraining, kDirect, s.src, any, s.dst, s.strides,
                                        s.pad_before, s.pad_after);
}

dnnl::inner_product_forward::primitive_desc linear_hint(const dnnl::engine& engine,
                                                        const LinearShape& s) {
  const bool gradient = type_of(s.weights) != type_of(s.src);  // float32 beside bf16
  const Desc weights =
      gradient ? make_desc(dims_of(s.weights), type_of(s.src), Tag::any) : s.weights;
  return ask<dnnl::inner_product_forward>(engine, kTraining, s.src, weights, s.dst);
}

dnnl::pooling_forward::primitive_desc pooling(const dnnl::engine& engine, const PoolingShape& s) {
  const auto kind = s.kind == PoolingKind::kMax ? dnnl::algorithm::pooling_max
                                                : dnnl::algorithm::pooling_avg_include_padding;
#if DNNL_VERSION_MAJOR >= 3
  const Dims dilation(s.kernel.size(), 0);
  return ask<dnnl::pooling_forward>(engine, kTraining, kind, s.src, s.dst, s.strides, s.kernel,
                                    dilation, s.pad_before, s.pad_after);
#else
  return ask<dnnl::pooling_forward>(engine, kTraining, kind, s.src, s.dst, s.strides, s.kernel,
                                    s.pad_before, s.pad_after);
#endif
}

}  // namespace

DnnlError::DnnlError(const std::string& call, const dnnl::error& error)
    : std::runtime_error("oneDNN " + library_version() + ": " + call + ": " +
                         status_name(error.status) + " (" + std::to_string(error.status) +
                         "): " + error.message),
      unimplemented(error.status == dnnl_unimplemented) {}

Made make_convolution_forward(const dnnl::engine& engine, const ConvolutionShape& s) {
  return checked("convolution forward", [&] {
    const auto desc =
        s.has_bias
            ? ask<dnnl::convolution_forward>(engine, kTraining, kDirect, s.src, s.weights, s.bias,
                                             s.dst, s.strides, s.pad_before, s.pad_after)
            : ask<dnnl::convolution_forward>(engine, kTraining, kDirect, s.src, s.weights, s.dst,
                                             s.strides, s.pad_before, s.pad_after);
    Made made = make<dnnl::convolution_forward>(desc);
    made.src = desc.src_desc();
    made.weights = desc.weights_desc();
    made.bias = desc.bias_desc();
    made.dst = desc.dst_desc();
    return made;
  });
}

Made make_convolution_data(const dnnl::engine& engine, const ConvolutionShape& s) {
  return checked("convolution backward data", [&] {
    const auto desc = ask_backward<dnnl::convolution_backward_data>(
        engine, convolution_hint(engine, s), kDirect, s.src, s.weights, s.dst, s.strides,
        s.pad_before, s.pad_after);
    Made made = make<dnnl::convolution_backward_data>(desc);
    made.src = desc.diff_src_desc();
    made.weights = desc.weights_desc();
    made.dst = desc.diff_dst_desc();
    return made;
  });
}

Made make_convolution_weights(const dnnl::engine& engine, const ConvolutionShape& s) {
  return checked("convolution backward weights", [&] {
    const auto hint = convolution_hint(engine, s);
    const auto desc = s.has_bias ? ask_backward<dnnl::convolution_backward_weights>(
                                       engine, hint, kDirect, s.src, s.weights, s.bias, s.dst,
                                       s.strides, s.pad_before, s.pad_after)
                                 : ask_backward<dnnl::convolution_backward_weights>(
                                       engine, hint, kDirect, s.src, s.weights, s.dst, s.strides,
                                       s.pad_before, s.pad_after);
    Made made = make<dnnl::convolution_backward_weights>(desc);
    made.src = desc.src_desc();
    made.weights = desc.diff_weights_desc();
    made.bias = desc.diff_bias_desc();
    made.dst = desc.diff_dst_desc();
    return made;
  });
}

Made make_linear_forward(const dnnl::engine& engine, const LinearShape& s) {
  return checked("inner product forward", [&] {
    const auto desc =
        s.has_bias
            ? ask<dnnl::inner_product_forward>(engine, kTraining, s.src, s.weights, s.bias, s.dst)
            : ask<dnnl::inner_product_forward>(engine, kTraining, s.src, s.weights, s.dst);
    Made made = make<dnnl::inner_product_forward>(desc);
    made.src = desc.src_desc();
    made.weights = desc.weights_desc();
    made.bias = desc.bias_desc();
    made.dst = desc.dst_desc();
    return made;
  });
}

Made make_linear_data(const dnnl::engine& engine, const LinearShape& s) {
  return checked("inner product backward data", [&] {
    const auto desc = ask_backward<dnnl::inner_product_backward_data>(
        engine, linear_hint(engine, s), s.src, s.weights, s.dst);
    Made made = make<dnnl::inner_product_backward_data>(desc);
    made.src = desc.diff_src_desc();
    made.weights = desc.weights_desc();
    made.dst = desc.diff_dst_desc();
    return made;
  });
}

Made make_linear_weights(const dnnl::engine& engine, const LinearShape& s) {
  return checked("inner product backward weights", [&] {
    const auto hint = linear_hint(engine, s);
    const auto desc = s.has_bias ? ask_backward<dnnl::inner_product_backward_weights>(
                                       engine, hint, s.src, s.weights, s.bias, s.dst)
                                 : ask_backward<dnnl::inner_product_backward_weights>(
                                       engine, hint, s.src, s.weights, s.dst);
    Made made = make<dnnl::inner_product_backward_weights>(desc);
    made.src = desc.src_desc();
    made.weights = desc.diff_weights_desc();
    made.bias = desc.diff_bias_desc();
    made.dst = desc.diff_dst_desc();
    return made;
  });
}

Made make_pooling_forward(const dnnl::engine& engine, const PoolingShape& s) {
  return checked("pooling forward", [&] {
    const auto desc = pooling(engine, s);
    Made made = make<dnnl::pooling_forward>(desc);
    made.src = desc.src_desc();
    made.dst = desc.dst_desc();
    made.workspace = desc.workspace_desc();
    return made;
  });
}

Made make_pooling_backward(const dnnl::engine& engine, const PoolingShape& s) {
  return checked("pooling backward", [&] {
    const auto kind = s.kind == PoolingKind::kMax ? dnnl::algorithm::pooling_max
                                                  : dnnl::algorithm::pooling_avg_include_padding;
#if DNNL_VERSION_MAJOR >= 3
    const Dims dilation(s.kernel.size(), 0);
    const auto desc = ask_backward<dnnl::pooling_backward>(engine, pooling(engine, s), kind, s.src,
                                                           s.dst, s.strides, s.kernel, dilation,
                                                           s.pad_before, s.pad_after);
#else
    const auto desc =
        ask_backward<dnnl::pooling_backward>(engine, pooling(engine, s), kind, s.src, s.dst,
                                             s.strides, s.kernel, s.pad_before, s.pad_after);
#endif
    Made made = make<dnnl::pooling_backward>(desc);
    made.src = desc.diff_src_desc();
    made.dst = desc.diff_dst_desc();
    made.workspace = desc.workspace_desc();
    return made;
  });
}

Made make_reorder(const dnnl::engine& engine, const Desc& from, const Desc& to) {
  return checked("reorder", [&] {
    const dnnl::reorder::primitive_desc desc(engine, from, engine, to, user_scratch());
    Made made;
    if (!describe_only) made.primitive = dnnl::reorder(desc);
    made.scratch_bytes = static_cast<std::int64_t>(desc.scratchpad_desc().get_size());
    made.implementation = desc.impl_info_str();
    made.src = from;
    made.dst = to;
    return made;
  });
}

void reorder_now(const dnnl::engine& engine, const Desc& from_desc, const void* from,
                 const Desc& to_desc, void* to) {
  Made made = make_reorder(engine, from_desc, to_desc);
  std::vector<std::byte> scratch(static_cast<std::size_t>(made.scratch_bytes) + 64);
  dnnl::stream stream(engine);
  std::unordered_map<int, dnnl::memory> arguments{
      {DNNL_ARG_FROM, dnnl::memory(from_desc, engine, const_cast<void*>(from))},
      {DNNL_ARG_TO, dnnl::memory(to_desc, engine, to)}};
  if (made.scratch_bytes > 0) {
    const Desc bytes({made.scratch_bytes}, DataType::u8, Tag::a);
    arguments.insert({DNNL_ARG_SCRATCHPAD, dnnl::memory(bytes, engine, scratch.data())});
  }
  made.primitive.execute(stream, arguments);
  stream.wait();
}

Desc make_desc(const Dims& dims, Tag tag) { return Desc(dims, kFloat, tag); }
Desc make_desc(const Dims& dims, DataType type, Tag tag) { return Desc(dims, type, tag); }

Dims dims_of(const Desc& desc) {
#if DNNL_VERSION_MAJOR >= 3
  return desc.get_dims();
#else
  return desc.dims();
#endif
}

DataType type_of(const Desc& desc) {
#if DNNL_VERSION_MAJOR >= 3
  return desc.get_data_type();
#else
  return desc.data_type();
#endif
}

// No version has a call for it.
Desc with_type(const Desc& desc, DataType type) {
  const DataType before = type_of(desc);
  if (type == before) return desc;
  const Dims dims = dims_of(desc);
  const auto tags = dims.size() == 4
                        ? std::vector<Tag>{Tag::nChw16c, Tag::nChw8c, Tag::nchw, Tag::any}
                        : std::vector<Tag>{dims.size() == 2 ? Tag::ab : Tag::a, Tag::any};
  for (const Tag tag : tags)
    if (make_desc(dims, before, tag) == desc) return make_desc(dims, type, tag);
  throw std::logic_error("onednn: no other type for the layout " + layout_text(desc));
}

std::int64_t padded_bytes(const Desc& desc) { return static_cast<std::int64_t>(desc.get_size()); }

std::int64_t padded_values(const Desc& desc) {
  return padded_bytes(desc) /
         static_cast<std::int64_t>(dnnl::memory::data_type_size(type_of(desc)));
}

bool is_reference(const Made& made) {
  return made.implementation.rfind("ref", 0) == 0 ||
         made.implementation.find(":ref") != std::string::npos;
}

std::string layout_text(const Desc& desc) {
  std::string text;
  const auto list = [&text](const char* what, const Dims& values) {
    text += what;
    for (const auto value : values) text += ' ' + std::to_string(value);
    text += ';';
  };
#if DNNL_VERSION_MAJOR >= 3
  list("dims", desc.get_dims());
  list("padded", desc.get_padded_dims());
  if (desc.get_format_kind() != dnnl::memory::format_kind::blocked)
    return text + "opaque " + std::to_string(desc.get_size());
  list("strides", desc.get_strides());
  list("blocks", desc.get_inner_blks());
  list("of", desc.get_inner_idxs());
#else
  const dnnl_memory_desc_t& d = desc.data;
  const auto dims = [](const dnnl_dim_t* first, int count) { return Dims(first, first + count); };
  list("dims", dims(d.dims, d.ndims));
  list("padded", dims(d.padded_dims, d.ndims));
  if (d.format_kind != dnnl_blocked) return text + "opaque " + std::to_string(desc.get_size());
  const dnnl_blocking_desc_t& blocking = d.format_desc.blocking;
  list("strides", dims(blocking.strides, d.ndims));
  list("blocks", dims(blocking.inner_blks, blocking.inner_nblks));
  list("of", dims(blocking.inner_idxs, blocking.inner_nblks));
#endif
  return text;
}

std::string library_version() {
  const dnnl_version_t* v = dnnl_version();
  return std::to_string(v->major) + '.' + std::to_string(v->minor) + '.' + std::to_string(v->patch);
}

std::string isa_name() {
  switch (dnnl::get_effective_cpu_isa()) {
    case dnnl::cpu_isa::sse41:
      return "sse41";
    case dnnl::cpu_isa::avx:
      return "avx";
    case dnnl::cpu_isa::avx2:
      return "avx2";
    case dnnl::cpu_isa::avx2_vnni:
      return "avx2_vnni";
    case dnnl::cpu_isa::avx512_core:
      return "avx512_core";
    case dnnl::cpu_isa::avx512_core_vnni:
      return "avx512_core_vnni";
    case dnnl::cpu_isa::avx512_core_bf16:
      return "avx512_core_bf16";
    case dnnl::cpu_isa::avx512_core_amx:
      return "avx512_core_amx";
#if DNNL_VERSION_MAJOR >= 3
    case dnnl::cpu_isa::avx2_vnni_2:
      return "avx2_vnni_2";
    case dnnl::cpu_isa::avx512_core_fp16:
      return "avx512_core_fp16";
    case dnnl::cpu_isa::avx512_core_amx_fp16:
      return "avx512_core_amx_fp16";
#endif
    default:
      return "other";
  }
}

int channel_block() { return isa_name().starts_with("avx512") ? 16 : 8; }
Tag blocked_pictures(int block) { return block == 16 ? Tag::nChw16c : Tag::nChw8c; }
Tag blocked_weights(int block) { return block == 16 ? Tag::OIhw16i16o : Tag::OIhw8i8o; }

bool has_bf16() {
  const std::string isa = isa_name();
  for (const char* part : {"_bf16", "_fp16", "_amx"})
    if (isa.find(part) != std::string::npos) return true;
  return false;
}

bool has_integer_dot_products() {
  const std::string isa = isa_name();
  for (const char* part : {"vnni", "bf16", "fp16", "amx"})
    if (isa.find(part) != std::string::npos) return true;
  return false;
}

std::string bf16_in_words(const std::vector<std::string>& in_float32) {
  const std::string cpu = "this CPU (" + isa_name() + ")";
  if (!has_bf16()) {
    return "emulated by Rackmark: stored as bf16, computed in fp32; " + cpu +
           " has no bf16 products";
  }
  std::string text = "native: bf16 products of " + cpu;
  const std::set<std::string> names(in_float32.begin(), in_float32.end());
  if (names.empty()) return text;
  text += "; stored as bf16 but computed in fp32, for want of a kernel:";
  for (const auto& name : names) text += " " + name;
  return text;
}

DescribeOnly::DescribeOnly() : before_(describe_only) { describe_only = true; }
DescribeOnly::~DescribeOnly() { describe_only = before_; }
bool describes_only() { return describe_only; }

namespace {

// All implementations of one description; the plain ones only where there is no other. With 2.x
// next_impl() reads the description and the hint again: both must outlive this call.
template <class P, class Describe>
std::vector<Made> every(typename P::primitive_desc desc, const Describe& describe) {
  std::vector<Made> all;
  do {
    if (!all.empty() && std::string(desc.impl_info_str()).rfind("ref", 0) == 0) break;
    all.push_back(make<P>(desc));
    describe(desc, all.back());
  } while (desc.next_impl());
  return all;
}

template <class P, class Describe, class... Args>
std::vector<Made> every_backward(const Describe& describe, const dnnl::engine& engine,
                                 const ConvolutionShape& s, const Args&... args) {
  const auto hint = convolution_hint(engine, s);
#if DNNL_VERSION_MAJOR >= 3
  return every<P>(typename P::primitive_desc(engine, args..., hint, user_scratch()), describe);
#else
  const typename P::desc described(args...);
  return every<P>(typename P::primitive_desc(described, user_scratch(), engine, hint), describe);
#endif
}

template <class P, class Describe, class... Args>
std::vector<Made> every_forward(const Describe& describe, const dnnl::engine& engine,
                                const Args&... args) {
#if DNNL_VERSION_MAJOR >= 3
  return every<P>(typename P::primitive_desc(engine, args..., user_scratch()), describe);
#else
  const typename P::desc described(args...);
  return every<P>(typename P::primitive_desc(described, user_scratch(), engine), describe);
#endif
}

}  // namespace

std::vector<Made> every_convolution(const dnnl::engine& engine, const ConvolutionShape& s,
                                    ConvolutionPass pass) try {
  if (pass == ConvolutionPass::kData) {
    const auto describe = [](const auto& desc, Made& made) {
      made.src = desc.diff_src_desc();
      made.weights = desc.weights_desc();
      made.dst = desc.diff_dst_desc();
    };
    return every_backward<dnnl::convolution_backward_data>(describe, engine, s, kDirect, s.src,
                                                           s.weights, s.dst, s.strides,
                                                           s.pad_before, s.pad_after);
  }
  if (pass == ConvolutionPass::kWeights) {
    const auto describe = [](const auto& desc, Made& made) {
      made.src = desc.src_desc();
      made.weights = desc.diff_weights_desc();
      made.dst = desc.diff_dst_desc();
    };
    return every_backward<dnnl::convolution_backward_weights>(describe, engine, s, kDirect, s.src,
                                                              s.weights, s.dst, s.strides,
                                                              s.pad_before, s.pad_after);
  }
  const auto describe = [](const auto& desc, Made& made) {
    made.src = desc.src_desc();
    made.weights = desc.weights_desc();
    made.dst = desc.dst_desc();
  };
  return every_forward<dnnl::convolution_forward>(describe, engine, kTraining, kDirect, s.src,
                                                  s.weights, s.dst, s.strides, s.pad_before,
                                                  s.pad_after);
} catch (const dnnl::error& error) {
  throw DnnlError("convolution", error);
}

Made make_matrix_product(const dnnl::engine& engine, std::int64_t m, std::int64_t n, std::int64_t k,
                         MatrixType type) {
  using Type = dnnl::memory::data_type;
  return checked("matrix product", [&] {
    const bool whole = type == MatrixType::kInt8, half = type == MatrixType::kBf16;
    const Type left = whole ? Type::u8 : half ? Type::bf16 : Type::f32;
    const Type right = whole ? Type::s8 : left;
    const Type out = whole ? Type::s32 : Type::f32;
    const auto desc = ask<dnnl::matmul>(engine, Desc({m, k}, left, Tag::ab),
                                        Desc({k, n}, right, Tag::any), Desc({m, n}, out, Tag::ab));
    Made made = make<dnnl::matmul>(desc);
    made.src = desc.src_desc();
    made.weights = desc.weights_desc();
    made.dst = desc.dst_desc();
    return made;
  });
}

}  // namespace rackmark::worker::onednn

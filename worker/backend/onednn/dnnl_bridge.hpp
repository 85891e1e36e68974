// The only place that knows oneDNN 2.6 from 3.x: every primitive is created here and handed out as
// a Made, which looks the same for both. Needs no other header of this folder.
//
// A call that oneDNN refuses throws DnnlError, whose text holds library, call and status. All
// primitives take their scratch memory from the caller (DNNL_ARG_SCRATCHPAD).
#pragma once

#include <cstdint>
#include <oneapi/dnnl/dnnl.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace rackmark::worker::onednn {

using Desc = dnnl::memory::desc;
using Dims = dnnl::memory::dims;
using Tag = dnnl::memory::format_tag;
using DataType = dnnl::memory::data_type;

struct DnnlError : std::runtime_error {
  DnnlError(const std::string& call, const dnnl::error& error);
  bool unimplemented = false;  // oneDNN has no kernel for what was asked
};

// A primitive with the layouts it settled on. In a backward pass src, weights, bias and dst
// describe the gradient where the pass writes or reads the gradient of that tensor.
struct Made {
  dnnl::primitive primitive;
  Desc src, weights, bias, dst, workspace;
  std::int64_t scratch_bytes = 0;
  std::string implementation;  // oneDNN's name of the kernel
};

// src NCHW, weights OIHW, dst NCHW in logical order; weights may have layout `any`. All of one
// type, float32 or bf16; bias and gradients of weights and bias are float32 always, and dst may be.
struct ConvolutionShape {
  Desc src, weights, bias, dst;
  Dims strides, pad_before, pad_after;
  bool has_bias = false;
};
Made make_convolution_forward(const dnnl::engine& engine, const ConvolutionShape& shape);
Made make_convolution_data(const dnnl::engine& engine, const ConvolutionShape& shape);
Made make_convolution_weights(const dnnl::engine& engine, const ConvolutionShape& shape);

// src (N, in), weights (out, in), dst (N, out).
struct LinearShape {
  Desc src, weights, bias, dst;
  bool has_bias = false;
};
Made make_linear_forward(const dnnl::engine& engine, const LinearShape& shape);
Made make_linear_data(const dnnl::engine& engine, const LinearShape& shape);
Made make_linear_weights(const dnnl::engine& engine, const LinearShape& shape);

enum class PoolingKind { kMax, kAverageWithPadding };
struct PoolingShape {
  Desc src, dst;
  Dims kernel, strides, pad_before, pad_after;
  PoolingKind kind = PoolingKind::kMax;
};
Made make_pooling_forward(const dnnl::engine& engine, const PoolingShape& shape);
Made make_pooling_backward(const dnnl::engine& engine, const PoolingShape& shape);

Made make_reorder(const dnnl::engine& engine, const Desc& from, const Desc& to);
// Copies and changes the layout at once, with memory of its own.
void reorder_now(const dnnl::engine& engine, const Desc& from_desc, const void* from,
                 const Desc& to_desc, void* to);

Desc make_desc(const Dims& dims, Tag tag);  // float32
Desc make_desc(const Dims& dims, DataType type, Tag tag);
Dims dims_of(const Desc& desc);
DataType type_of(const Desc& desc);
// The same layout of another type. Only for what make_desc() makes of 1, 2 or 4 dimensions.
Desc with_type(const Desc& desc, DataType type);
std::int64_t padded_bytes(const Desc& desc);
std::int64_t padded_values(const Desc& desc);
bool is_reference(const Made& made);  // one of oneDNN's plain loops
// The whole layout in words, equal for equal layouts only: part of a plan's layout key.
std::string layout_text(const Desc& desc);

std::string library_version();  // of the library that is loaded: "2.6.3"
std::string isa_name();         // what oneDNN uses on this host: "avx512_core_vnni"
// Channels that its fast kernels keep together on this host: 16 with AVX-512, otherwise 8; and
// pictures (nChw16c) and weights (OIhw16i16o) in such blocks.
int channel_block();
Tag blocked_pictures(int block);
Tag blocked_weights(int block);
// This CPU has bf16 products and oneDNN kernels for them. Where it has not, values are stored as
// bf16 and computed in float32 by us: oneDNN's emulation (AVX-512) takes 2.5 times as long.
bool has_bf16();
// Products of bytes are summed in 32 bits (VNNI, AMX); without, pairs are summed in 16 bits.
bool has_integer_dot_products();

// Who computes in bf16 on this host: what a reader of a result should know. `in_float32`: layers
// (a layer may be named several times) for which oneDNN has no bf16 kernel though it has others.
std::string bf16_in_words(const std::vector<std::string>& in_float32);

// While one lives, what this thread makes is described but not built (Made::primitive is empty):
// enough to plan memory, in a fraction of the time.
class DescribeOnly {
 public:
  DescribeOnly();
  ~DescribeOnly();
  DescribeOnly(const DescribeOnly&) = delete;
  DescribeOnly& operator=(const DescribeOnly&) = delete;

 private:
  bool before_;
};
bool describes_only();  // whether one lives on this thread

// --- for measuring what the library can do at most
enum class ConvolutionPass { kForward, kData, kWeights };
// Every implementation that the library has for this shape (without bias), the one it would take
// first; plain loops ("ref") only where there is no other. Never empty: throws DnnlError.
std::vector<Made> every_convolution(const dnnl::engine& engine, const ConvolutionShape& shape,
                                    ConvolutionPass pass);

enum class MatrixType { kFp32, kBf16, kInt8 };  // results: float32, float32, int32
// (m, k) x (k, n), plain but for the right-hand side, whose layout the library chooses.
Made make_matrix_product(const dnnl::engine& engine, std::int64_t m, std::int64_t n, std::int64_t k,
                         MatrixType type);

}  // namespace rackmark::worker::onednn

// Every convolution that training and inference of a net ask of a GPU, as a backend would: NHWC,
// the input padded to what tensor cores load at once.
#pragma once

#include <set>
#include <string>

#include "worker/backend/cuda/device/device.hpp"
#include "worker/net/net.hpp"

namespace rackmark::worker::cuda {

struct ConvolutionKind {
  Type type = Type::kFloat;
  Arithmetic arithmetic = Arithmetic::kFull;
  const char* name = "fp32";
};
inline constexpr ConvolutionKind kConvolutionKinds[] = {
    {Type::kFloat, Arithmetic::kFull, "fp32"},
    {Type::kFloat, Arithmetic::kTensor, "tf32"},
    {Type::kBfloat, Arithmetic::kTensor, "bf16"},
    {Type::kHalf, Arithmetic::kTensor, "fp16"}};

// Of inference alone; its engines are compiled at run time.
inline constexpr ConvolutionKind kIntegers{Type::kInteger, Arithmetic::kTensor, "int8"};

// Distinct ones. All three passes; outputs that go into a concat with its stride, too; data
// gradients that are added to others', too; forward passes with the epilogues of inference; of fp16
// also those that do work of the batch norms around them.
std::set<ConvolutionTask> convolutions_of(const Net& net, int batch, const ConvolutionKind& kind);

}  // namespace rackmark::worker::cuda

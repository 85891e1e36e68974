// The convolutions that plans ask a device for, of every sort that this backend multiplies: real
// plans of a net, on the device of plain loops, which notes what it is asked.
#pragma once

#include <set>

#include "worker/backend/cuda/device/device.hpp"
#include "worker/net/net.hpp"

namespace rackmark::worker::cuda {

struct ConvolutionKind {
  Type type = Type::kFloat;
  Arithmetic arithmetic = Arithmetic::kFull;
  const char* name = "fp32";  // the precision
};
inline constexpr ConvolutionKind kConvolutionKinds[] = {
    {Type::kFloat, Arithmetic::kFull, "fp32"},
    {Type::kFloat, Arithmetic::kTensor, "tf32"},
    {Type::kBfloat, Arithmetic::kTensor, "bf16"},
    {Type::kHalf, Arithmetic::kTensor, "fp16"}};

// Of inference alone; its engines are compiled at run time.
inline constexpr ConvolutionKind kIntegers{Type::kInteger, Arithmetic::kTensor, "int8"};

// Distinct ones, for `batch` pictures: of training at every fusion level and of inference at both.
// Seconds for the largest nets in int8, whose calibration computes.
std::set<ConvolutionTask> convolutions_of(const Net& net, int batch, const ConvolutionKind& kind);

}  // namespace rackmark::worker::cuda

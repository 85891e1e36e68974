#include "worker/backend/cuda/plan/precision.hpp"

#include <stdexcept>

namespace rackmark::worker::cuda {

std::vector<std::string> precision_names() { return {"fp32", "tf32", "bf16", "fp16"}; }
std::vector<std::string> inference_precision_names() {
  auto names = precision_names();
  names.emplace_back("int8");
  return names;
}

Precision parse_precision(const std::string& name) {
  if (name == "fp32") return {};
  if (name == "tf32") return {.arithmetic = Arithmetic::kTensor};
  if (name == "bf16") return {Type::kBfloat, Arithmetic::kTensor, false};
  if (name == "fp16") return {Type::kHalf, Arithmetic::kTensor, true};
  throw std::invalid_argument("cuda: precision '" + name +
                              "' is not known; known: fp32, tf32, bf16, fp16, and in inference "
                              "int8");
}

Precision parse_inference_precision(const std::string& name) {
  if (name != "int8") return parse_precision(name);
  return {.type = Type::kHalf, .arithmetic = Arithmetic::kTensor, .integers = true};
}

}  // namespace rackmark::worker::cuda

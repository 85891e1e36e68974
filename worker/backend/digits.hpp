// How many significant binary digits the narrow precisions keep of a value.
#pragma once

#include <string>

namespace rackmark::worker {

// 8 of bf16, 11 of fp16 and of the factors of a TF32 product; 0 of what keeps all of float32 or
// more. fp16's narrow range is not meant: loss scaling keeps values inside it.
inline int kept_digits(const std::string& precision) {
  if (precision == "bf16") return 8;
  return precision == "fp16" || precision == "tf32" ? 11 : 0;
}

}  // namespace rackmark::worker

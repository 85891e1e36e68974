// Whole networks against tests/golden in every precision, on the host device; and that wrong
// gradients are found.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "worker/verify/verify.hpp"

namespace rackmark::worker {
namespace {

int verify(const std::string& file, const std::string& precision = "fp32",
           const std::string& inject = "") {
  setenv("RACKMARK_PLUGIN_DIR", RACKMARK_HOST_DEVICE_PLUGIN, 1);
  VerifyOptions options;
  options.precision = precision;
  options.references = {std::string(RACKMARK_SOURCE_DIR) + "/tests/golden/" + file};
  options.backend = "cuda-on-host";
  options.inject = inject;
  return run_verify(options);
}

// The others are left to a call by hand, for the time that plain loops take.
TEST(CudaGolden, Resnet50) {
  EXPECT_EQ(verify("resnet50-b4-s64-seed1.json"), 0);
  EXPECT_EQ(verify("resnet50-b4-s64-seed1.json", "fp32", "negate-gradient=layer4.1.bn1.weight"), 1);
}
TEST(CudaGolden, SmallNetworksInEveryPrecision) {
  for (const std::string precision : {"fp32", "tf32", "bf16", "fp16"}) {
    SCOPED_TRACE(precision);
    EXPECT_EQ(verify("cifar10-b8-s24-seed1-decay.json", precision), 0);
    EXPECT_EQ(verify("catsdogs_original-b8-s64-seed1.json", precision), 0);
    EXPECT_EQ(verify("cifar10-b8-s24-seed1-decay.json", precision, "negate-gradient=conv2.weight"),
              1);
  }
}

}  // namespace
}  // namespace rackmark::worker

// Whole networks against tests/golden, on the host device; and that wrong gradients are found.
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

// The others are left to a call by hand, for the time that plain loops take:
// RACKMARK_PLUGIN_DIR=<the plug-in's folder> rackmark-worker verify --backend cuda-on-host
// --reference FILE ...
TEST(CudaGolden, Cifar10) {
  for (const std::string precision : {"fp32", "fp16"})
    EXPECT_EQ(verify("cifar10-b8-s24-seed1-decay.json", precision), 0) << precision;
}
TEST(CudaGolden, SeesANegatedGradient) {
  EXPECT_EQ(verify("cifar10-b8-s24-seed1-decay.json", "fp16", "negate-gradient=conv2.weight"), 1);
}

}  // namespace
}  // namespace rackmark::worker

// The plug-in, loaded as the worker loads it, against the reference results; and that wrong
// gradients are found.
#include <gtest/gtest.h>

#include <string>

#include "worker/verify/verify.hpp"

namespace rackmark::worker {
namespace {

int verify(const std::string& file, const std::string& inject = "",
           const std::string& precision = "fp32") {
  VerifyOptions options;
  options.precision = precision;
  options.references = {std::string(RACKMARK_SOURCE_DIR) + "/tests/golden/" + file};
  options.backend = "onednn";
  options.inject = inject;
  return run_verify(options);
}

TEST(OnednnGolden, Resnet50At64) { EXPECT_EQ(verify("resnet50-b4-s64-seed1.json"), 0); }
TEST(OnednnGolden, Resnet50At224) { EXPECT_EQ(verify("resnet50-b2-s224-seed1.json"), 0); }
// Left to a call by hand, for their time: AlexNet with its 61 million parameters, and
// catsdogs_deep, whose flipped ReLUs want four runs of the plain backend beside it.
TEST(OnednnGolden, GoogLeNet) { EXPECT_EQ(verify("googlenet-b4-s224-seed1.json"), 0); }
TEST(OnednnGolden, InceptionV3) { EXPECT_EQ(verify("inception_v3-b2-s299-seed1.json"), 0); }
TEST(OnednnGolden, SmallNetworks) {
  for (const char* file :
       {"cifar10-b8-s24-seed1.json", "cifar10-b8-s24-seed1-decay.json",
        "catsdogs_original-b8-s64-seed1.json", "catsdogs_improved-b4-s128-seed1-decay.json"})
    EXPECT_EQ(verify(file), 0) << file;
}
TEST(OnednnGolden, SmallNetworksInBf16) {
  EXPECT_EQ(verify("cifar10-b8-s24-seed1-decay.json", "", "bf16"), 0);
  EXPECT_EQ(verify("catsdogs_original-b8-s64-seed1.json", "", "bf16"), 0);
  EXPECT_EQ(verify("cifar10-b8-s24-seed1.json", "negate-gradient=conv2.weight", "bf16"), 1);
}
TEST(OnednnGolden, SeesANegatedGradient) {
  EXPECT_EQ(verify("resnet50-b4-s64-seed1.json", "negate-gradient=layer4.1.bn1.weight"), 1);
}
TEST(OnednnGolden, SeesANegatedResidualBranch) {
  EXPECT_EQ(verify("resnet50-b4-s64-seed1.json", "negate-residual-gradient"), 1);
}

}  // namespace
}  // namespace rackmark::worker

// The plug-in, loaded as the worker loads it, against the reference results; and that wrong
// gradients are found.
#include <gtest/gtest.h>

#include <string>

#include "worker/verify/verify.hpp"

namespace rackmark::worker {
namespace {

int verify(const std::string& file, const std::string& inject = "") {
  VerifyOptions options;
  options.references = {std::string(RACKMARK_SOURCE_DIR) + "/tests/golden/" + file};
  options.backend = "onednn";
  options.inject = inject;
  return run_verify(options);
}

TEST(OnednnGolden, Resnet50At64) { EXPECT_EQ(verify("resnet50-b4-s64-seed1.json"), 0); }
TEST(OnednnGolden, Resnet50At224) { EXPECT_EQ(verify("resnet50-b2-s224-seed1.json"), 0); }
TEST(OnednnGolden, SeesANegatedGradient) {
  EXPECT_EQ(verify("resnet50-b4-s64-seed1.json", "negate-gradient=layer4.1.bn1.weight"), 1);
}
TEST(OnednnGolden, SeesANegatedResidualBranch) {
  EXPECT_EQ(verify("resnet50-b4-s64-seed1.json", "negate-residual-gradient"), 1);
}

}  // namespace
}  // namespace rackmark::worker

// The plain backend in double against what torchvision computed: the sharp test of graph, gradients
// and update. Then deliberate mistakes, which must be seen.
#include <gmock/gmock.h>

#include "common/json/json.hpp"
#include "worker/verify/verify.hpp"

namespace rackmark::worker {
namespace {

struct Outcome {
  int status = -1;
  nlohmann::json groups;  // name -> {distance, allowed, passed, worst}
};

Outcome verify(const std::string& file, const std::string& precision,
               const std::string& inject = "") {
  testing::internal::CaptureStdout();
  Outcome outcome;
  outcome.status = run_verify({.references = {RACKMARK_SOURCE_DIR "/tests/golden/" + file},
                               .backend = "reference",
                               .precision = precision,
                               .inject = inject,
                               .json = true});
  const auto document = nlohmann::json::parse(testing::internal::GetCapturedStdout());
  for (const auto& group : document.at("references").at(0).at("groups")) {
    outcome.groups[group.at("group")] = group;
  }
  return outcome;
}

TEST(ResNet50, AgreesInDouble) {
  const auto outcome = verify("resnet50-b4-s64-seed1.json", "fp64");
  EXPECT_EQ(outcome.status, 0) << outcome.groups.dump(1);
  EXPECT_EQ(outcome.groups.size(), 10u);
  for (const auto& group : outcome.groups) {
    EXPECT_LE(group.at("distance").get<double>(), 1e-8) << group;
  }
}

TEST(ResNet50, AgreesInFloat) {
  const auto outcome = verify("resnet50-b4-s64-seed1.json", "fp32");
  EXPECT_EQ(outcome.status, 0) << outcome.groups.dump(1);
}

// A norm cannot see the sign of a gradient; the probe does, and what follows from it.
TEST(ResNet50, ANegatedGradientIsSeen) {
  const std::string fault = "negate-gradient=layer4.1.bn1.weight";
  for (const char* precision : {"fp64", "fp32"}) {
    const auto outcome = verify("resnet50-b4-s64-seed1.json", precision, fault);
    EXPECT_EQ(outcome.status, 1) << precision;
    EXPECT_TRUE(outcome.groups["logits"]["passed"]);
    EXPECT_TRUE(outcome.groups["gradient_l2"]["passed"]);
    EXPECT_FALSE(outcome.groups["gradient_probe"]["passed"]) << precision;
    EXPECT_EQ(outcome.groups["gradient_probe"]["worst"], "layer4.1.bn1.weight");
  }
}

TEST(ResNet50, ANegatedResidualGradientIsSeen) {
  for (const char* precision : {"fp64", "fp32"}) {
    const auto outcome =
        verify("resnet50-b4-s64-seed1.json", precision, "negate-residual-gradient");
    EXPECT_EQ(outcome.status, 1) << precision;
    EXPECT_TRUE(outcome.groups["logits"]["passed"]);
    EXPECT_FALSE(outcome.groups["gradient_l2"]["passed"]) << precision;
    EXPECT_FALSE(outcome.groups["gradient_probe"]["passed"]) << precision;
  }
}

// Response normalisation, padded pools, large weight decay; one logit with sigmoid cross entropy.
TEST(SmallModels, AgreeInBothPrecisions) {
  for (const char* file :
       {"cifar10-b8-s24-seed1-decay.json", "catsdogs_original-b8-s64-seed1.json"}) {
    for (const char* precision : {"fp64", "fp32"}) {
      const auto outcome = verify(file, precision);
      EXPECT_EQ(outcome.status, 0) << file << " " << precision << outcome.groups.dump(1);
    }
  }
}

}  // namespace
}  // namespace rackmark::worker

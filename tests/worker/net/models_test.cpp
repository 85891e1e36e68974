#include <gmock/gmock.h>

#include <fstream>
#include <stdexcept>

#include "common/domain/spec.hpp"
#include "common/json/json.hpp"
#include "worker/models/registry.hpp"

namespace rackmark::worker {
namespace {

using testing::Contains;
using testing::HasSubstr;

std::string refusal_of_model(const std::string& name, int image_size) {
  try {
    build_model(name, image_size);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

TEST(ResNet50, HasTorchvisionsParameters) {
  std::ifstream in(RACKMARK_SOURCE_DIR "/tests/golden/resnet50-b4-s64-seed1.json");
  const auto wanted = nlohmann::json::parse(in).at("shapes");
  const Net net = build_model("resnet50");
  EXPECT_EQ(net.parameters().size(), 161u);
  EXPECT_EQ(wanted.size(), 161u);
  for (const auto& parameter : net.parameters()) {
    ASSERT_TRUE(wanted.contains(parameter.name)) << parameter.name;
    EXPECT_EQ(nlohmann::json(parameter.dims), wanted[parameter.name]) << parameter.name;
  }
  EXPECT_EQ(net.parameter_count(), 25'557'032);
  EXPECT_EQ(net.running_statistics().size(), 106u);
}

TEST(ResNet50, HasTheKnownWork) {
  const Net net = build_model("resnet50");
  EXPECT_NEAR(net.forward_flop_per_image(), 8.178e9, 8.178e6);
  EXPECT_NEAR(net.training_flop_per_image(), 24.299e9, 24.299e6);
}

// Version 1.5: the first 3x3 of a stage halves the picture, not the 1x1 before it.
TEST(ResNet50, StridesInTheThreeByThree) {
  const Net net = build_model("resnet50");
  for (const auto& node : net.nodes()) {
    const auto* conv = std::get_if<Conv2d>(&node.layer);
    if (conv == nullptr || !node.name.starts_with("layer2.0.conv")) continue;
    EXPECT_EQ(conv->stride, node.name == "layer2.0.conv2" ? 2 : 1) << node.name;
  }
}

TEST(Models, AllBuildAtTheirDefaultAndSmallestSize) {
  for (const auto& model : models()) {
    EXPECT_FALSE(build_model(model.name).heads().empty()) << model.name;
    EXPECT_NO_THROW(build_model(model.name, model.minimum_image_size)) << model.name;
  }
}

// Counted by torchvision (the first four) and PyTorch.
TEST(Models, HaveTheKnownNumberOfParameters) {
  const std::map<std::string, std::int64_t> known{
      {"resnet50", 25'557'032},         {"inception_v3", 27'161'264},
      {"googlenet", 13'004'888},        {"alexnet", 61'100'840},
      {"cifar10", 1'068'298},           {"catsdogs_original", 3'937'409},
      {"catsdogs_improved", 1'681'537}, {"catsdogs_deep", 2'789'377}};
  EXPECT_EQ(models().size(), known.size());
  for (const auto& model : models()) {
    EXPECT_EQ(build_model(model.name).parameter_count(), known.at(model.name)) << model.name;
  }
}

TEST(Models, TakeOtherSizesAndClasses) {
  const Net net = build_model("resnet50", 64, 7);
  EXPECT_EQ(net.image_size(), 64);
  EXPECT_EQ(net.shape({net.heads()[0].node}), (Shape{7, 1, 1}));
}

TEST(Models, RefuseUnknownNamesAndSizes) {
  EXPECT_THAT(refusal_of_model("resnet51", 0), HasSubstr("unknown model 'resnet51', known: "));
  EXPECT_THAT(refusal_of_model("cifar10", 32), HasSubstr("image size is 32, allowed: 24"));
  EXPECT_THAT(refusal_of_model("resnet50", 31), HasSubstr("image size is 31, allowed: 32 to 4096"));
}

// What the controller offers is what the engine builds.
TEST(Models, AgreeWithTheSpec) {
  for (const auto& facts : model_facts()) {
    if (!facts.available) continue;
    ASSERT_THAT(model_names(), Contains(facts.name));
    const ModelEntry& model = *find_model(facts.name);
    EXPECT_EQ(model.image_size, facts.image_size);
    EXPECT_EQ(model.classes, facts.classes);
    EXPECT_EQ(model.minimum_image_size, facts.minimum_image_size);
    EXPECT_EQ(std::min(model.maximum_image_size, 1024),
              facts.maximum_image_size);  // the spec's limit
    const bool one_logit = build_model(facts.name).loss_kind() == LossKind::kSigmoidCrossEntropy;
    EXPECT_EQ(one_logit, facts.two_classes_only) << facts.name;
    const Net net = build_model(facts.name);
    EXPECT_EQ(net.parameter_count(), facts.parameters);
    EXPECT_NEAR(net.forward_flop_per_image() / 1e9, facts.forward_gflop_per_image, 1e-3);
    EXPECT_NEAR(net.training_flop_per_image() / 1e9, facts.training_gflop_per_image, 1e-3);
  }
}

}  // namespace
}  // namespace rackmark::worker

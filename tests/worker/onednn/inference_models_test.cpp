// Whole models in inference against the plain backend: minutes under a sanitizer, so not among the
// unit tests.
#include "tests/worker/onednn/compare_inference.hpp"
#include "worker/models/registry.hpp"

namespace rackmark::worker {
namespace {

struct SmallModel {
  const char* name;
  int size, batch;
};
class InferenceModels : public testing::TestWithParam<SmallModel> {};
TEST_P(InferenceModels, AnswersAsThePlainBackend) {
  const auto [name, size, batch] = GetParam();
  test::expect_same(build_model(name, size), batch, "", 5e-5, "fp32", 1);
}
INSTANTIATE_TEST_SUITE_P(
    All, InferenceModels,
    testing::Values(SmallModel{"resnet50", 32, 1}, SmallModel{"resnet50", 64, 2},
                    SmallModel{"googlenet", 64, 1}, SmallModel{"googlenet", 64, 2},
                    SmallModel{"inception_v3", 299, 1}, SmallModel{"alexnet", 63, 2},
                    SmallModel{"cifar10", 24, 4}, SmallModel{"catsdogs_original", 64, 2},
                    SmallModel{"catsdogs_improved", 128, 1}, SmallModel{"catsdogs_deep", 128, 1}),
    [](const auto& model) {
      return std::string(model.param.name) + "_b" + std::to_string(model.param.batch) + "_s" +
             std::to_string(model.param.size);
    });

}  // namespace
}  // namespace rackmark::worker

// What `verify` refuses. Whole models are compared in golden_test.cpp.
#include "worker/verify/verify.hpp"

#include <gmock/gmock.h>

#include <filesystem>

#include "sample_reference.hpp"

namespace rackmark::worker {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

class Verify : public testing::Test {
 protected:
  Verify() {
    std::string name = (fs::temp_directory_path() / "rackmark-verify-XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  ~Verify() override { fs::remove_all(folder_); }

  std::string write(const nlohmann::json& reference) {
    const fs::path path = folder_ / "reference.json";
    std::ofstream(path) << reference.dump();
    return path;
  }

  // The one line that it says, after checking that it is one and that the exit status is 2.
  std::string refusal(VerifyOptions options) {
    if (options.backend.empty()) options.backend = "reference";
    testing::internal::CaptureStderr();
    testing::internal::CaptureStdout();
    const int status = run_verify(options);
    const std::string line = testing::internal::GetCapturedStderr();
    EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
    EXPECT_EQ(status, 2);
    EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1) << line;
    return line;
  }

  fs::path folder_;
};

TEST_F(Verify, RefusesWhatItCannotUse) {
  const auto sample = write(sample_reference());
  EXPECT_THAT(refusal({}), HasSubstr("--reference is missing"));
  EXPECT_THAT(refusal({.references = {folder_ / "absent.json"}}),
              AllOf(HasSubstr("absent.json"), HasSubstr("cannot be opened")));
  EXPECT_THAT(refusal({.references = {sample}, .backend = "abacus"}),
              HasSubstr("backend 'abacus' is not here"));
  EXPECT_THAT(
      refusal({.references = {sample}, .precision = "fp8"}),
      HasSubstr(
          "--precision is 'fp8', allowed for backend reference: fp32, bf16, fp16, tf32, fp64"));
  EXPECT_THAT(refusal({.references = {sample}, .inject = "bug"}),
              HasSubstr("--inject is 'bug', allowed: negate-gradient="));
  EXPECT_THAT(refusal({.references = {sample}, .inject = "negate-gradient=nothing"}),
              HasSubstr("no parameter 'nothing'"));
}

TEST_F(Verify, RefusesUnknownModelsAndOtherDefinitions) {
  auto reference = sample_reference();
  reference["model"] = "resnet51";
  EXPECT_THAT(refusal({.references = {write(reference)}}), HasSubstr("unknown model 'resnet51'"));
  reference = sample_reference();
  reference["batch_norm"]["epsilon"] = 1e-3;
  EXPECT_THAT(refusal({.references = {write(reference)}}), HasSubstr("batch-norm epsilon"));
  reference = sample_reference();
  reference["image_size"] = 16;
  EXPECT_THAT(refusal({.references = {write(reference)}}),
              HasSubstr("image size is 16, allowed: 32 to"));
}

TEST_F(Verify, ReadsEveryFileBeforeTheFirstIsRun) {
  const std::string good = RACKMARK_SOURCE_DIR "/tests/golden/resnet50-b2-s224-seed1.json";
  EXPECT_THAT(refusal({.references = {good, folder_ / "absent.json"}}), HasSubstr("absent.json"));
}

TEST_F(Verify, SaysThatMemoryIsShort) {
  auto reference = sample_reference();
  reference["batch"] = 65536;
  reference["image_size"] = 4096;
  reference["logits"] = nlohmann::json::array();
  for (int n = 0; n < 65536; ++n) reference["logits"].push_back({1, 2, 3});
  reference["eval_logits"] = reference["logits"];
  EXPECT_THAT(refusal({.references = {write(reference)}}),
              AllOf(HasSubstr("out of memory"), HasSubstr("bytes wanted")));
}

}  // namespace
}  // namespace rackmark::worker

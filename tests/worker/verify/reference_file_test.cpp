#include "worker/verify/reference_file.hpp"

#include <gmock/gmock.h>

#include <filesystem>
#include <stdexcept>

#include "sample_reference.hpp"

namespace rackmark::worker {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class ReferenceFile : public testing::Test {
 protected:
  ReferenceFile() {
    std::string name = (fs::temp_directory_path() / "rackmark-reference-XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  ~ReferenceFile() override { fs::remove_all(folder_); }

  fs::path write(const std::string& text) {
    const fs::path path = folder_ / "reference.json";
    std::ofstream(path) << text;
    return path;
  }
  std::string refusal_of(const std::string& text) {
    const fs::path path = write(text);
    try {
      read_reference(path);
    } catch (const std::runtime_error& error) {
      EXPECT_THAT(error.what(), AllOf(HasSubstr(path.string()), Not(HasSubstr("\n"))));
      return error.what();
    }
    return "accepted";
  }
  std::string refusal_with(const std::string& pointer, const Json& value) {
    Json changed = sample_reference();
    changed[Json::json_pointer(pointer)] = value;
    return refusal_of(changed.dump());
  }

  fs::path folder_;
};

TEST_F(ReferenceFile, IsRead) {
  const Reference r = read_reference(write(sample_reference().dump(1)));
  EXPECT_EQ(r.model, "resnet50");
  EXPECT_EQ(r.optimizer.learning_rate, 0.1);
  EXPECT_EQ(r.logits[1][2], 6);
  EXPECT_EQ(r.shapes.at("fc.weight"), (std::vector<std::int64_t>{3, 4}));
  EXPECT_EQ(r.float32_error.loss[1], 1e-3);
}

TEST_F(ReferenceFile, GoldenFilesAreRead) {
  for (const auto& entry : fs::directory_iterator(RACKMARK_SOURCE_DIR "/tests/golden")) {
    if (entry.path().extension() != ".json") continue;
    if (!entry.path().filename().string().starts_with("resnet50-")) continue;
    EXPECT_EQ(read_reference(entry.path()).parameters, 25'557'032) << entry.path();
  }
}

// Cut anywhere, it must be refused, never read in part.
TEST_F(ReferenceFile, CutOffIsRefused) {
  const std::string whole = sample_reference().dump();
  for (std::size_t length = 0; length < whole.size(); length += 7) {
    EXPECT_NE(refusal_of(whole.substr(0, length)), "accepted") << length;
  }
  EXPECT_THAT(refusal_of(whole.substr(0, whole.size() / 2)), HasSubstr("not JSON at byte"));
  EXPECT_THAT(refusal_of(""), HasSubstr("empty"));
}

TEST_F(ReferenceFile, EveryMemberIsRequired) {
  const Json whole = sample_reference();
  for (const auto& [name, value] : whole.items()) {
    Json without = whole;
    without.erase(name);
    if (name == "pytorch") continue;
    EXPECT_THAT(refusal_of(without.dump()), HasSubstr("'" + name + "' is missing"));
  }
  Json without = whole;
  without["optimizer"].erase("momentum");
  EXPECT_THAT(refusal_of(without.dump()), HasSubstr("'optimizer.momentum' is missing"));
  without = whole;
  without["float32_error"].erase("running");
  EXPECT_THAT(refusal_of(without.dump()), HasSubstr("'float32_error.running' is missing"));
}

TEST_F(ReferenceFile, WrongTypesAndValuesAreRefused) {
  EXPECT_THAT(refusal_with("/batch", "four"), HasSubstr("'batch'"));
  EXPECT_THAT(refusal_with("/batch", 0), HasSubstr("batch is 0, allowed: 1 to 65536"));
  EXPECT_THAT(refusal_with("/image_size", 100000), HasSubstr("image_size is 100000"));
  EXPECT_THAT(refusal_with("/steps", -1), HasSubstr("steps is -1"));
  EXPECT_THAT(refusal_with("/classes", 1), HasSubstr("classes is 1"));
  EXPECT_THAT(refusal_with("/optimizer/kind", "adam"), HasSubstr("allowed: sgd"));
  EXPECT_THAT(refusal_with("/optimizer", 3), HasSubstr("optimizer."));
  EXPECT_THAT(refusal_with("/loss", {1.0}), HasSubstr("loss has 1 values, not 2"));
  EXPECT_THAT(refusal_with("/float32_error/loss", Json::array()), HasSubstr("loss has 0 values"));
  EXPECT_THAT(refusal_with("/logits", Json::array({{1, 2, 3}})), HasSubstr("1 rows, not 2"));
  EXPECT_THAT(refusal_with("/eval_logits/1", Json::array()), HasSubstr("row of 0 values"));
  EXPECT_THAT(refusal_with("/shapes", Json::object()), HasSubstr("shapes is empty"));
  EXPECT_THAT(refusal_with("/gradient_l2", {{"fc.bias", 1}}),
              HasSubstr("gradient_l2 lacks 'fc.weight'"));
  EXPECT_THAT(refusal_with("/parameter_probe/extra", 1), HasSubstr("in no shape"));
  EXPECT_THAT(refusal_with("/gradient_probe/fc.bias", nullptr),
              HasSubstr("gradient_probe.fc.bias"));
  EXPECT_THAT(refusal_of("[]"), HasSubstr("is missing"));
  EXPECT_THAT(refusal_of("NaN"), HasSubstr("not JSON"));
  EXPECT_NE(refusal_of(R"({"batch": 1e999})"), "accepted");
}

TEST_F(ReferenceFile, UnreadableIsRefused) {
  EXPECT_THROW(read_reference(folder_ / "absent.json"), std::runtime_error);
  EXPECT_THROW(read_reference(folder_), std::runtime_error);
}

}  // namespace
}  // namespace rackmark::worker

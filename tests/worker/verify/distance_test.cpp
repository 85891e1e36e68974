#include "worker/verify/distance.hpp"

#include <gmock/gmock.h>

#include <cmath>

#include "common/json/described.hpp"
#include "sample_reference.hpp"

namespace rackmark::worker {
namespace {

const double kNaN = std::nan("");

Reference wanted() { return *json::decode<Reference>(sample_reference(), json::Unknown::kIgnore); }

const GroupDistance& group_of(const std::vector<GroupDistance>& groups, const std::string& name) {
  for (const auto& group : groups) {
    if (group.group == name) return group;
  }
  throw std::logic_error("no group " + name);
}

// The group's distance when one change is made to a run that equals the reference.
template <class Change>
GroupDistance changed(const std::string& group, const Change& change,
                      const std::string& precision = "fp32") {
  Results results = wanted();
  change(results);
  const auto groups = distances(results, wanted(), precision);
  for (const auto& other : groups) {
    EXPECT_EQ(other.passed(), other.group != group || other.distance <= other.allowed)
        << other.group;
  }
  return group_of(groups, group);
}

TEST(Distance, IsZeroOfAnEqualRun) {
  const auto groups = distances(wanted(), wanted(), "fp64");
  EXPECT_EQ(groups.size(), 10u);
  for (const auto& group : groups) {
    EXPECT_EQ(group.distance, 0) << group.group;
    EXPECT_TRUE(group.passed());
  }
}

TEST(Distance, OfLogitsIsRelativeOverTheWholeList) {
  const auto group = changed("logits", [](Results& r) { r.logits[1][2] += 1; });
  EXPECT_DOUBLE_EQ(group.distance, 1 / std::sqrt(91.0));
  EXPECT_DOUBLE_EQ(changed("eval_logits", [](Results& r) { r.eval_logits[0][0] -= 1; }).distance,
                   1 / std::sqrt(91.0));
}

TEST(Distance, OfLossIsPerStep) {
  // Step 1 is farther away, but step 0 is farther outside what it may be.
  const auto group = changed("loss", [](Results& r) { r.loss = {2.004, 1.004}; });
  EXPECT_NEAR(group.distance, 0.002, 1e-12);
  EXPECT_DOUBLE_EQ(group.allowed, 5e-4);
  EXPECT_EQ(group.worst, "step 0");
  EXPECT_FALSE(group.passed());
}

TEST(Distance, OfNormsIsRelativeToTheEntry) {
  const auto group = changed("gradient_l2", [](Results& r) {
    r.gradient_l2["fc.weight"] = 2.1;
    r.gradient_l2["fc.bias"] = 0.6;
  });
  EXPECT_NEAR(group.distance, 0.2, 1e-12);
  EXPECT_EQ(group.worst, "fc.bias");
  EXPECT_NEAR(changed("running", [](Results& r) { r.running["bn.running_var"] = 4; }).distance, 0.2,
              1e-12);
}

TEST(Distance, OfProbesIsRelativeToTheNormOfTheTensor) {
  Results results = wanted();
  Reference reference = wanted();
  reference.gradient_probe["fc.weight"] = 1e-9;  // near zero by chance
  results.gradient_probe["fc.weight"] = 0.02;
  const auto group = group_of(distances(results, reference, "fp32"), "gradient_probe");
  EXPECT_NEAR(group.distance, 0.01, 1e-8);
  EXPECT_EQ(group.worst, "fc.weight");
}

TEST(Distance, AllowsFiveTimesTheFloat32ErrorWithAFloor) {
  const auto groups = distances(wanted(), wanted(), "fp32");
  EXPECT_DOUBLE_EQ(group_of(groups, "logits").allowed, 5e-3);
  EXPECT_DOUBLE_EQ(group_of(groups, "eval_logits").allowed, 1e-5);  // 5e-7 is below the floor
  EXPECT_DOUBLE_EQ(group_of(groups, "running").allowed, 1e-5);
}

TEST(Distance, AllowsLittleInDouble) {
  for (const auto& group : distances(wanted(), wanted(), "fp64")) {
    const bool counted = group.group == "parameters" || group.group == "shapes";
    EXPECT_DOUBLE_EQ(group.allowed, counted ? 0 : 1e-8) << group.group;
  }
}

TEST(Distance, NaNFailsInEveryGroup) {
  const auto nan_in = [](Entries& entries) { entries.begin()->second = kNaN; };
  EXPECT_FALSE(changed("logits", [](Results& r) { r.logits[0][0] = kNaN; }).passed());
  EXPECT_FALSE(changed("eval_logits", [](Results& r) { r.eval_logits[0][0] = kNaN; }).passed());
  EXPECT_FALSE(changed("loss", [](Results& r) { r.loss[0] = kNaN; }).passed());
  EXPECT_FALSE(changed("loss", [](Results& r) { r.loss[1] = kNaN; }).passed());
  EXPECT_FALSE(changed("gradient_l2", [&](Results& r) { nan_in(r.gradient_l2); }).passed());
  EXPECT_FALSE(changed("gradient_probe", [&](Results& r) { nan_in(r.gradient_probe); }).passed());
  EXPECT_FALSE(changed("running", [&](Results& r) { nan_in(r.running); }).passed());
  EXPECT_FALSE(changed("parameter_l2", [&](Results& r) { nan_in(r.parameter_l2); }).passed());
  EXPECT_FALSE(changed("parameter_probe", [&](Results& r) { nan_in(r.parameter_probe); }).passed());
}

// NaN in one entry is the worst one, whatever comes after it.
TEST(Distance, NaNIsNotOvertaken) {
  const Entries wanted{{"a", 1}, {"b", 1}, {"c", 1}};
  const auto worst = worst_entry({{"a", 1}, {"b", kNaN}, {"c", 100}}, wanted, wanted);
  EXPECT_TRUE(std::isnan(worst.distance));
  EXPECT_EQ(worst.name, "b");
}

TEST(Distance, MissingEntriesFail) {
  EXPECT_FALSE(changed("gradient_l2", [](Results& r) { r.gradient_l2.erase("fc.bias"); }).passed());
  EXPECT_FALSE(changed("loss", [](Results& r) { r.loss.pop_back(); }).passed());
  EXPECT_FALSE(changed("logits", [](Results& r) { r.logits.pop_back(); }).passed());
  EXPECT_FALSE(changed("logits", [](Results& r) { r.logits[0].pop_back(); }).passed());
}

TEST(Distance, ParametersAndShapesMustBeEqual) {
  EXPECT_FALSE(changed("parameters", [](Results& r) { r.parameters = 16; }).passed());
  const auto reshaped = changed("shapes", [](Results& r) { r.shapes["fc.weight"] = {4, 3}; });
  EXPECT_FALSE(reshaped.passed());
  EXPECT_EQ(reshaped.worst, "fc.weight");
  EXPECT_EQ(changed("shapes", [](Results& r) { r.shapes["new"] = {1}; }).worst, "new");
  EXPECT_EQ(changed("shapes", [](Results& r) { r.running["new.running_mean"] = 1; }).worst,
            "new.running_mean");
}

}  // namespace
}  // namespace rackmark::worker

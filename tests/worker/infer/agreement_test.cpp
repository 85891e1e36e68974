// How int8 is judged, and the values that it is judged with.
#include "worker/infer/agreement.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "worker/backend/reference/reference.hpp"
#include "worker/infer/trained_values.hpp"

namespace rackmark::worker {
namespace {

// Three classes, four pictures: a large common part, and a small one that tells them apart.
const std::vector<double> kExact{100.3, 50.0, 10.1, 100.0, 50.4, 10.0,
                                 100.1, 50.0, 10.5, 100.0, 50.0, 10.0};

TEST(Agreement, EqualLogitsAgreeFully) {
  const auto a = compare_logits(kExact, kExact, 3);
  EXPECT_EQ(a.pictures, 4);
  EXPECT_EQ(a.top1, 1);
  EXPECT_NEAR(a.cosine, 1, 1e-12);
  EXPECT_TRUE(is_enough(a));
}

TEST(Agreement, TheCommonPartDoesNotCount) {
  std::vector<double> same_for_all;  // class 0 wins everywhere, as it does in kExact
  for (int picture = 0; picture < 4; ++picture) {
    same_for_all.insert(same_for_all.end(), {100.1, 50.1, 10.15});
  }
  const auto a = compare_logits(kExact, same_for_all, 3);
  EXPECT_LT(a.cosine, 0.2);
  EXPECT_FALSE(is_enough(a));
}

TEST(Agreement, AConstantErrorCounts) {
  std::vector<double> shifted = kExact;
  for (std::size_t i = 0; i < shifted.size(); i += 3) shifted[i] += 3;
  EXPECT_LT(compare_logits(kExact, shifted, 3).cosine, 0.3);
}

TEST(Agreement, ASingleLogitIsJudgedByItsSign) {
  const std::vector<double> exact{5, 7, 5.5, 6.6}, other{5.1, 6.9, 5.4, 6.7};
  const auto a = compare_logits(exact, other, 1);
  EXPECT_EQ(a.top1, 1);
  EXPECT_GT(a.cosine, 0.99);
}

TEST(Agreement, NotANumberIsNotEnough) {
  std::vector<double> broken = kExact;
  broken[4] = NAN;
  EXPECT_FALSE(is_enough(compare_logits(kExact, broken, 3)));
  EXPECT_THROW(compare_logits(kExact, std::vector<double>(3), 3), std::invalid_argument);
}

TEST(TestCards, DifferFromEachOtherAndNotFromThemselves) {
  EXPECT_EQ(test_card(1, 0, 16), test_card(1, 0, 16));
  EXPECT_NE(test_card(1, 0, 16), test_card(1, 1, 16));
  EXPECT_NE(test_card(1, 0, 16), test_card(2, 0, 16));
}

// After settling, a batch norm's output over the same kind of pictures has mean 0 and variance 1.
TEST(TrainedValues, SettledStatisticsAreThoseOfTheValues) {
  Net net("test", 12, 4);
  const Node x = net.conv2d(net.input(), "conv", {.out = 6, .kernel_h = 3, .kernel_w = 3});
  net.loss(net.linear(net.flatten(net.batch_norm(x, "bn")), "fc", {.out = 4}));
  JobSpec spec;
  spec.image_size = 12;
  PictureStream pictures(spec, std::nullopt);
  TrainedValues values = initial_values(net, 1);
  for (float& weight : values.parameters[0]) weight *= 5;
  settle_statistics(*make_reference_backend(), net, 1, pictures, values);

  InferOptions options;
  options.batch = 64;
  Net normed("test", 12, 600);
  const Node y = normed.conv2d(normed.input(), "conv", {.out = 6, .kernel_h = 3, .kernel_w = 3});
  normed.loss(normed.flatten(normed.batch_norm(y, "bn")));
  TrainedValues plain = values;
  plain.parameters.resize(3);
  std::fill(plain.parameters[1].begin(), plain.parameters[1].end(), 1.0F);
  std::fill(plain.parameters[2].begin(), plain.parameters[2].end(), 0.0F);
  const auto plan = make_reference_backend()->compile_inference(normed, options, plain);
  const auto taken = pictures.take_values(64);
  plan->run({.images = taken});
  double sum = 0, squares = 0;
  for (const double value : plan->logits()) sum += value, squares += value * value;
  const double count = 64 * 600;
  EXPECT_NEAR(sum / count, 0, 0.15);
  EXPECT_NEAR(squares / count, 1, 0.35);
}

}  // namespace
}  // namespace rackmark::worker

#include "worker/train/profile.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace rackmark::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

OpTime op(const char* node, const char* pass, const char* implementation, double ms,
          double gflop = 0, double bytes = 0) {
  return {node, pass, implementation, ms, gflop, bytes};
}

TEST(ProfileTable, HasTheMedianOfEveryOperation) {
  const auto table =
      profile_table({{op("a", "forward", "jit", 1, 0.5, 1e6), op("b", "load", "copy", 9)},
                     {op("a", "forward", "jit", 5, 0.5, 1e6), op("b", "load", "copy", 3)},
                     {op("a", "forward", "jit", 2, 0.5, 1e6), op("b", "load", "copy", 2)}},
                    {5.5, 100, 5});
  EXPECT_EQ(table.passes, 3);
  ASSERT_EQ(table.rows.size(), 2U);
  EXPECT_EQ(table.rows[0].layer, "a");
  EXPECT_EQ(table.rows[0].ms, 2);
  EXPECT_EQ(table.rows[0].share, 0.4);
  EXPECT_EQ(table.rows[0].gflops, 250);
  EXPECT_EQ(table.rows[0].gbps, 0.5);
  EXPECT_EQ(table.rows[1].gflops, std::nullopt) << "no arithmetic is no number, not 0";
  EXPECT_EQ(table.sum_ms, 5);
  EXPECT_EQ(table.step_ms, 5.5);
  EXPECT_NEAR(table.sum_over_step, 5 / 5.5, 1e-12);
  EXPECT_EQ(table.convolution_bound_share, std::nullopt);
}

TEST(ProfileTable, PlainLoopsAreFlaggedWhereTheyTakeTime) {
  const auto table = profile_table(
      {{op("hot", "forward", "ref:any", 50), op("cold", "forward", "ref:any", 0.5),
        op("moved", "forward", "weights ref:any", 20), op("fast", "forward", "jit:avx2", 29.5)}},
      {100});
  EXPECT_THAT(table.warnings, ElementsAre(HasSubstr("hot forward"), HasSubstr("moved forward")));
  EXPECT_TRUE(table.rows[1].plain_loops);
  EXPECT_FALSE(table.rows[3].plain_loops);
  const std::string text = profile_text(table);
  EXPECT_LT(text.find("hot "), text.find("fast ")) << "dearest first";
  EXPECT_THAT(text, HasSubstr("separate pass"));
  EXPECT_THAT(text,
              HasSubstr("sum of all rows 100.0 ms, plain step in between 100.0 ms, ratio 1.000"));
}

TEST(ProfileTable, IsBounded) {
  std::vector<OpTime> many;
  for (int i = 0; i < 5000; ++i) many.push_back(op("layer", "forward", "jit", 1 + i));
  many[17].node = std::string(1000, 'x');
  many[17].ms = 1e6;
  const auto table = profile_table({many}, {1});
  EXPECT_LE(table.rows.size(), kProfileRowsKept);
  EXPECT_EQ(table.rows.size() + static_cast<std::size_t>(table.rows_left_out), many.size());
  EXPECT_LE(table.rows[0].layer.size(), 120U) << "the dearest one is kept, shortened";
  double sum = 0;
  for (const auto& time : many) sum += time.ms;
  EXPECT_EQ(table.sum_ms, sum) << "of all rows";
}

}  // namespace
}  // namespace rackmark::worker

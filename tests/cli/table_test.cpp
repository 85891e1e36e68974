#include "cli/table.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <sstream>

#include "cli/export_columns.hpp"

namespace rackmark::cli {
namespace {

TEST(Table, NumbersStandRightAndUmlautsCountOnce) {
  Table table({{"id", true}, {"name"}, {"spread", true}, {"end"}});
  table.add({"7", "ärger", "±0.4 %", "x"});
  table.add({"12", "b", "±10.4 %", ""});
  std::ostringstream out;
  table.print(out);
  EXPECT_EQ(out.str(),
            "id  name    spread  end\n"
            " 7  ärger   ±0.4 %  x\n"
            "12  b      ±10.4 %\n");
}

TEST(Table, CellsAreMadePrintable) {
  Table table({{"name"}});
  table.add({"\x1b]0;evil\x07"});
  std::ostringstream out;
  table.print(out);
  EXPECT_EQ(out.str(), "name\n?]0;evil?\n");
}

TEST(Csv, QuotesOnlyWhereNeeded) {
  EXPECT_EQ(csv_row({"a", "", "b c"}), "a,,b c\r\n");
  EXPECT_EQ(csv_row({"a,b", "say \"x\"", "two\nlines", "cr\r"}),
            "\"a,b\",\"say \"\"x\"\"\",\"two\nlines\",\"cr\r\"\r\n");
}

TEST(Export, HeaderAndRowsHaveTheSameColumns) {
  const auto header = export_header();
  EXPECT_EQ(header.size(), export_row({}).size());
  EXPECT_EQ(std::set<std::string>(header.begin(), header.end()).size(), header.size());
  EXPECT_THAT(header, testing::IsSupersetOf({"images_per_second", "step_median_ms", "window_s",
                                             "peak_rss_bytes", "power_w", "fingerprint"}));
}

TEST(Export, WhatIsNotAvailableIsEmptyAndNumbersAreExact) {
  protocol::ResultView result;
  result.id = 3;
  result.images_per_second = 7.6123456789;
  result.validity.verdict = measure::Verdict::kSuspect;
  result.validity.causes = {"few steps: 4", "drift"};
  result.validity.not_checked = {"steal time"};
  const auto header = export_header();
  const auto row = export_row(result);
  const auto cell = [&](const std::string& name) {
    return row[static_cast<std::size_t>(std::find(header.begin(), header.end(), name) -
                                        header.begin())];
  };
  EXPECT_EQ(cell("result_id"), "3");
  EXPECT_EQ(cell("images_per_second"), "7.6123456789");
  EXPECT_EQ(cell("power_w"), "");
  EXPECT_EQ(cell("step_median_ms"), "");
  EXPECT_EQ(cell("verdict"), "suspect");
  EXPECT_EQ(cell("verdict_causes"), "few steps: 4; drift");
  EXPECT_EQ(cell("verdict_not_checked"), "steal time");
}

}  // namespace
}  // namespace rackmark::cli

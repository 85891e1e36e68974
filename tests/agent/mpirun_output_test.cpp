#include "agent/runs/mpirun_output.hpp"

#include <gtest/gtest.h>

#include "agent/runs/line_reader.hpp"

namespace rackmark::agent {
namespace {

TEST(TaggedLine, RankAndStreamComeFromTheTag) {
  const auto line = parse_tagged_line("[1,12]<stderr>:it [x]<stdout>: broke", "stdout");
  EXPECT_EQ(line.rank, 12);
  EXPECT_EQ(line.stream, "stderr");
  EXPECT_EQ(line.text, "it [x]<stdout>: broke");
}

TEST(TaggedLine, WithoutATagItIsMpirunsOwn) {
  for (const char* text : {"mpirun noticed something", "[1,x]<stdout>:a", "[1,2]<stdin>:a", "[", "",
                           "[1,2]", "]<stdout>:[1,2"}) {
    const auto line = parse_tagged_line(text, "stderr");
    EXPECT_EQ(line.rank, -1) << text;
    EXPECT_EQ(line.stream, "stderr") << text;
    EXPECT_EQ(line.text, text);
  }
}

TEST(TaggedLine, BrokenUtf8BecomesTextThatJsonCanCarry) {
  EXPECT_EQ(parse_tagged_line("[1,0]<stdout>:a\xff z", "stdout").text, "a\xEF\xBF\xBD z");
  EXPECT_EQ(valid_utf8("g\xC3\xBCltig"), "g\xC3\xBCltig");
}

TEST(AbortReport, NamesRankAndSignal) {
  const std::string lines[] = {
      "--------------------------------------------------------------------------",
      "mpirun noticed that process rank 3 with PID 0 on node n1 exited on signal 11 (Segmentation "
      "fault).",
  };
  const auto report = parse_abort_report(lines);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->rank, 3);
  EXPECT_EQ(report->signal, 11);
}

TEST(AbortReport, NamesRankAndExitCode) {
  const std::string lines[] = {"mpirun detected that one or more processes exited", "",
                               "  Process name: [[59341,1],2]", "  Exit code:    3"};
  const auto report = parse_abort_report(lines);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->rank, 2);
  EXPECT_EQ(report->exit_code, 3);
  EXPECT_EQ(report->signal, 0);
}

TEST(AbortReport, OfOpenMpi5) {
  const std::string killed[] = {
      "prterun noticed that process rank 2 with PID 23854 on node vm exited on",
      "signal 9 (Killed)."};
  const auto signalled = parse_abort_report(killed);
  ASSERT_TRUE(signalled);
  EXPECT_EQ(signalled->rank, 2);
  EXPECT_EQ(signalled->signal, 9);
  const std::string failed[] = {"   Process name: [prterun-vm-23942@1,2]", "   Exit code:    3"};
  const auto exited = parse_abort_report(failed);
  ASSERT_TRUE(exited);
  EXPECT_EQ(exited->rank, 2);
  EXPECT_EQ(exited->exit_code, 3);
  const std::string stray[] = {"signal 9 (Killed).", "Process name: [", "Exit code: 3"};
  EXPECT_FALSE(parse_abort_report(stray));
}

TEST(AbortReport, AbsentWhenMpirunSaysNothing) {
  const std::string lines[] = {"Exit code: 4", "something else"};
  EXPECT_FALSE(parse_abort_report(lines));
}

TEST(LineReader, CutsWhatIsTooLongAndGoesOnAfterwards) {
  LineReader reader(4);
  std::vector<std::pair<std::string, bool>> got;
  auto take = [&](std::string_view line, bool cut) { got.emplace_back(line, cut); };
  reader.feed("ab", take);
  reader.feed("cd\nabcdef", take);
  EXPECT_TRUE(reader.overflowed());
  reader.feed("g\r\nx\r\ny", take);
  reader.end(take);
  const std::vector<std::pair<std::string, bool>> expected{
      {"abcd", false}, {"abcd", true}, {"x", false}, {"y", false}};
  EXPECT_EQ(got, expected);
}

}  // namespace
}  // namespace rackmark::agent

#include "agent/spool.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <fstream>
#include <system_error>

#include "tests/agent/support/temp_folder.hpp"

namespace rackmark::agent {
namespace {

namespace fs = std::filesystem;
using protocol::EventBatch;

EventBatch batch(std::int64_t run, int number, int log_lines = 1, std::size_t line_bytes = 10) {
  EventBatch out;
  out.run_id = run;
  out.events = {{{"type", "steps"}, {"n", number}}, {{"type", "telemetry"}, {"n", number}}};
  for (int i = 0; i < log_lines; ++i)
    out.logs.push_back({0, "stdout", "", std::string(line_bytes, 'x')});
  return out;
}

TEST(Spool, NumbersFromOneAndKeepsUntilAccepted) {
  TempFolder folder;
  Spool spool(folder.path());
  EXPECT_FALSE(spool.has_pending());
  for (int i = 1; i <= 3; ++i) EXPECT_EQ(spool.append(batch(7, i)), i);
  EXPECT_EQ(spool.append(batch(8, 1)), 1);
  auto pending = spool.pending(1 << 20);
  ASSERT_EQ(pending.size(), 4U);
  EXPECT_EQ(pending[1].seq, 2);
  EXPECT_EQ(pending[1].events[0]["n"], 2);
  EXPECT_EQ(pending[3].run_id, 8);
  spool.accepted(7, 2);
  EXPECT_EQ(spool.pending(1 << 20).at(0).seq, 3);
  spool.accepted(7, 3);
  EXPECT_FALSE(spool.has_pending(7));
  EXPECT_TRUE(spool.has_pending(8));
  EXPECT_EQ(spool.append(batch(7, 4)), 4);
  spool.forget(7);
  spool.forget(8);
  EXPECT_FALSE(spool.has_pending());
  EXPECT_EQ(spool.bytes(), 0U);
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(Spool, SurvivesARestartAndGoesOnCounting) {
  TempFolder folder;
  {
    Spool spool(folder.path());
    for (int i = 1; i <= 3; ++i) spool.append(batch(7, i));
    spool.accepted(7, 3);
  }
  Spool again(folder.path());
  EXPECT_EQ(again.last_seq(7), 3);
  EXPECT_EQ(again.append(batch(7, 4)), 4);
  EXPECT_EQ(again.pending(1 << 20).back().events[0]["n"], 4);
}

TEST(Spool, HandsOutAboutWhatIsAskedForButAtLeastOne) {
  TempFolder folder;
  Spool spool(folder.path());
  for (int i = 1; i <= 5; ++i) spool.append(batch(7, i));
  EXPECT_EQ(spool.pending(1).size(), 1U);
  EXPECT_LT(spool.pending(300).size(), 5U);
}

TEST(Spool, AcceptedSegmentsLeaveTheDisk) {
  TempFolder folder;
  Spool spool(folder.path());
  for (int i = 1; i <= 40; ++i) spool.append(batch(7, i, 1, 100'000));
  const auto before = spool.bytes();
  EXPECT_GT(before, 4'000'000U);
  spool.accepted(7, 35);
  EXPECT_LT(spool.bytes(), before / 2);
  EXPECT_EQ(spool.pending(1).at(0).seq, 36);
}

// A crash can leave any prefix of what was being written.
TEST(Spool, CutAnywhereItKeepsEveryWholeBatchAndGoesOn) {
  TempFolder source;
  std::vector<std::uint64_t> ends;
  fs::path segment;
  {
    Spool spool(source.path());
    for (int i = 1; i <= 3; ++i) {
      spool.append(batch(7, i));
      ends.push_back(spool.bytes());
    }
    segment = fs::directory_iterator(source.path() / "7")->path();
  }
  std::ifstream in(segment, std::ios::binary);
  const std::string whole{std::istreambuf_iterator<char>(in), {}};
  ASSERT_EQ(whole.size(), ends.back());
  for (std::size_t cut = 0; cut <= whole.size(); ++cut) {
    TempFolder folder;
    fs::create_directories(folder.path() / "7");
    std::ofstream(folder.path() / "7" / segment.filename(), std::ios::binary)
        << whole.substr(0, cut);
    const auto kept = std::count_if(ends.begin(), ends.end(), [&](auto end) { return end <= cut; });
    Spool spool(folder.path());
    ASSERT_EQ(spool.last_seq(7), kept) << cut;
    ASSERT_EQ(spool.append(batch(7, 9)), kept + 1) << cut;
    const auto pending = spool.pending(1 << 20);
    ASSERT_EQ(pending.size(), static_cast<std::size_t>(kept) + 1) << cut;
    for (std::size_t i = 0; i < pending.size(); ++i) {
      ASSERT_EQ(pending[i].seq, static_cast<std::int64_t>(i) + 1);
      ASSERT_EQ(pending[i].events.size(), 2U) << "cut at " << cut << ", batch " << i;
    }
  }
}

TEST(Spool, ADamagedBatchLeavesNoHoleInTheNumbers) {
  TempFolder folder;
  Spool spool(folder.path());
  for (int i = 1; i <= 3; ++i) spool.append(batch(7, i));
  std::fstream file(fs::directory_iterator(folder.path() / "7")->path(),
                    std::ios::binary | std::ios::in | std::ios::out);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  // Still JSON: only the sum tells.
  file.seekp(static_cast<std::streamoff>(text.find("\"n\":2") + 4));
  file << "5";
  file.close();
  const Spool after_restart(folder.path());
  for (const Spool* one : {static_cast<const Spool*>(&spool), &after_restart}) {
    const auto pending = one->pending(1 << 20);
    ASSERT_EQ(pending.size(), 3U);
    EXPECT_EQ(pending[1].run_id, 7);
    EXPECT_EQ(pending[1].seq, 2);
    EXPECT_TRUE(pending[1].events.empty());
    EXPECT_EQ(pending[1].dropped, 1);
    EXPECT_EQ(pending[2].events[0]["n"], 3);
  }
}

TEST(Spool, WhatCannotBeReadNowIsNotLost) {
  TempFolder folder;
  Spool spool(folder.path());
  spool.append(batch(7, 1));
  rlimit files{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &files), 0);
  const rlimit none{0, files.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  std::string why;
  try {
    spool.pending(1 << 20);
  } catch (const std::system_error& error) {
    why = error.what();
  }
  EXPECT_EQ(spool.append(batch(7, 2)), 2) << "its file is open";
  ::setrlimit(RLIMIT_NOFILE, &files);
  EXPECT_NE(why.find("cannot read " + folder.path().string()), std::string::npos) << why;
  ASSERT_EQ(spool.pending(7, 1 << 20).size(), 2U);
  EXPECT_EQ(spool.pending(7, 1 << 20).at(0).events.at(0)["n"], 1);
}

TEST(Spool, RunsTakeTurns) {
  TempFolder folder;
  Spool spool(folder.path());
  EXPECT_FALSE(spool.next_pending(0));
  for (const int run : {7, 8, 9}) spool.append(batch(run, 1));
  spool.accepted(8, 1);
  EXPECT_EQ(spool.next_pending(0), 7);
  EXPECT_EQ(spool.next_pending(7), 9);
  EXPECT_EQ(spool.next_pending(9), 7);
  spool.accepted(7, 1);
  EXPECT_EQ(spool.next_pending(9), 9);
  EXPECT_TRUE(spool.pending(7, 1 << 20).empty());
}

TEST(Spool, WhenFullItDropsLogLinesFirstAndCountsThem) {
  TempFolder folder;
  Spool spool(folder.path(), 40'000);
  for (int i = 1; i <= 100; ++i) spool.append(batch(7, i, 3, 1000));
  EXPECT_LE(spool.bytes(), 40'000U);
  const auto pending = spool.pending(1 << 30);
  ASSERT_EQ(pending.size(), 100U);
  std::int64_t dropped = 0, kept = 0;
  for (const auto& one : pending) {
    EXPECT_EQ(one.events[0]["type"], "steps");
    dropped += one.dropped;
    kept += static_cast<std::int64_t>(one.logs.size());
  }
  EXPECT_EQ(dropped + kept, 300);
  EXPECT_GT(dropped, 200);
  EXPECT_TRUE(pending.front().logs.empty()) << "the oldest lines go first";
  EXPECT_EQ(spool.append(batch(7, 101, 0)), 101);
  Spool again(folder.path(), 40'000);
  EXPECT_EQ(again.last_seq(7), 101);
}

TEST(Spool, StepsStayWhenNothingElseIsLeftToDrop) {
  TempFolder folder;
  Spool spool(folder.path(), 500);
  for (int i = 1; i <= 20; ++i) spool.append(batch(7, i, 0));
  const auto pending = spool.pending(1 << 20);
  ASSERT_EQ(pending.size(), 20U);
  for (const auto& one : pending) EXPECT_EQ(one.events.at(0)["type"], "steps");
  EXPECT_EQ(pending.back().events.size(), 1U) << "telemetry goes before results";
}

}  // namespace
}  // namespace rackmark::agent

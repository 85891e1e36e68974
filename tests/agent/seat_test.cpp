// A rank as Slurm starts it, by the real program: it finds its seat, becomes what lies there, and
// the watch ends when it does.
#include "agent/process/seat.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>
#include <utility>

#include "agent/process/files.hpp"
#include "agent/process/spawn.hpp"
#include "tests/agent/support/temp_folder.hpp"

namespace rackmark::agent {
namespace {

namespace fs = std::filesystem;

class SeatTest : public testing::Test {
 protected:
  SeatTest() : run_(::getpid()), seats_(seat_folder(seat_mark(kKey, "node1"), run_)) {
    fs::remove_all(seats_);
  }
  ~SeatTest() override {
    if (rank_ > 0 && ::kill(rank_, SIGKILL) == 0) ::waitpid(rank_, nullptr, 0);
    fs::remove_all(seats_);
  }

  void make(const std::string& script, bool watched) {
    ::mkdir(seats_.c_str(), 0700);
    make_seats(
        seats_,
        {{"sh", "-c", script}, {"PATH=/usr/bin:/bin", "OUT=" + out_.string(), "OMPI_MCA_pml=mine"}},
        watched);
  }
  void start_rank() {
    rank_ = spawn(
        {.argv = {kAgent, "take-seat"},
         .environment = {"RACKMARK_RUN=" + std::to_string(run_),
                         std::string("RACKMARK_SEAT=") + kKey, "SLURMD_NODENAME=node1",
                         "SLURM_PROCID=3", "PMIX_RANK=3", "OMPI_MCA_pml=srun", "HOME=/of/srun"}});
  }
  pid_t start_watch() {
    return spawn(
        {.argv = {kAgent, kWatchSeats, seats_.string()}, .environment = {"PATH=/usr/bin:/bin"}});
  }
  static int status_of(pid_t pid) {
    int status = 0;
    ::waitpid(pid, &status, 0);
    return exit_status_of(status).code;
  }
  std::string written() {
    for (int i = 0; i < 1000; ++i) {
      if (const auto text = read_file(out_); text && text->ends_with("done\n")) return *text;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return "nothing";
  }

  static constexpr const char* kKey = "5eed5eed";
  static constexpr const char* kAgent = RACKMARK_BIN_DIR "/rackmark-agent";
  TempFolder folder_;
  const fs::path out_ = folder_.path() / "out";
  const std::int64_t run_;
  const fs::path seats_;
  pid_t rank_ = 0;
};

TEST_F(SeatTest, TheWorkerHasTheSeatsEnvironmentAndTheLaunchersOwn) {
  start_rank();  // before the agent has heard of the run
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  make("{ env; echo done; } > $OUT; exit 5", false);
  const std::string text = "\n" + written();
  for (const char* here : {"SLURM_PROCID=3", "PMIX_RANK=3", "OMPI_MCA_pml=mine"})
    EXPECT_NE(text.find(std::string("\n") + here + "\n"), std::string::npos) << here << text;
  EXPECT_EQ(text.find("HOME="), std::string::npos) << text;
  EXPECT_EQ(text.find("RACKMARK_SEAT="), std::string::npos) << text;
  EXPECT_EQ(status_of(std::exchange(rank_, 0)), 5);
}

TEST_F(SeatTest, TheWatchEndsWithTheRankHoweverThatEnds) {
  make("echo done > $OUT; exec sleep 600", true);
  start_rank();  // it waits for the watch
  const pid_t watch = start_watch();
  EXPECT_EQ(written(), "done\n");
  EXPECT_EQ(::waitpid(watch, nullptr, WNOHANG), 0);
  ::kill(rank_, SIGKILL);
  EXPECT_EQ(status_of(watch), 0);
  ::waitpid(std::exchange(rank_, 0), nullptr, 0);
}

TEST_F(SeatTest, AFolderThatOthersMayWriteToIsNotOurs) {
  make("echo done > $OUT", false);
  ::chmod(seats_.c_str(), 0777);
  start_rank();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_FALSE(fs::exists(out_));
  ::chmod(seats_.c_str(), 0700);
  EXPECT_EQ(written(), "done\n");
}

TEST_F(SeatTest, OutsideOfAStepThereIsNoSeat) {
  const pid_t rank = spawn({.argv = {kAgent, "take-seat"}, .environment = {"RACKMARK_RUN=1"}});
  EXPECT_EQ(status_of(rank), 126);
  const pid_t watch = start_watch();
  EXPECT_EQ(status_of(watch), 1);
}

}  // namespace
}  // namespace rackmark::agent

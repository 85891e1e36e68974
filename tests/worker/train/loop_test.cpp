#include "worker/train/loop.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "worker/failure.hpp"
#include "worker/train/cpus.hpp"

namespace rackmark::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class LoopTest : public ::testing::Test {
 protected:
  // Every step takes 0.5 s more than the one before: 0.5, 1.0, 1.5 ...
  StepRecord step() {
    ++steps_made_;
    clock_.advance_s(0.5 * steps_made_);
    StepRecord record;
    record.loss =
        steps_made_ == nan_at_ ? std::numeric_limits<double>::quiet_NaN() : 10.0 - steps_made_;
    return record;
  }
  Window run(const LoopOptions& options) {
    LoopHooks hooks;
    hooks.phase = [this](const std::string& name, std::optional<std::int64_t> planned) {
      phases_.push_back(name + (planned ? " " + std::to_string(*planned) : ""));
      clock_.advance_s(100);  // between the phases: in no step and not in the window
    };
    hooks.step = [this](const StepRecord& record, bool measured) {
      (measured ? measured_ms_ : warmup_ms_).push_back(record.ms);
      clock_.advance_s(0.25);  // work between two steps belongs to the next one
    };
    hooks.check = [] {};
    const auto ranks = make_single_communicator();
    return run_loop(
        options, [this] { return step(); }, *ranks, clock_, hooks);
  }

  ManualClock clock_;
  int steps_made_ = 0, nan_at_ = -1;
  std::vector<std::string> phases_;
  std::vector<double> warmup_ms_, measured_ms_;
};

TEST_F(LoopTest, TheWindowRunsFromTheBarrierToTheEndOfTheLastStep) {
  LoopOptions options;
  options.warmup = 2;
  options.measured = 3;
  const Window window = run(options);
  EXPECT_THAT(phases_, ElementsAre("warmup 2", "measuring 3"));
  EXPECT_THAT(warmup_ms_, ElementsAre(500, 1250));
  EXPECT_THAT(measured_ms_, ElementsAre(1500, 2250, 2750));
  EXPECT_EQ(window.steps, 3);
  EXPECT_EQ(window.end_ns - window.start_ns, 6'500'000'000) << "the sum of the measured steps";
  EXPECT_EQ(window.first_loss, 7.0) << "the first measured one, after two of warm-up";
  EXPECT_EQ(window.final_loss, 5.0);
}

TEST_F(LoopTest, SecondsEndAfterTheStepInWhichTheyRunOut) {
  LoopOptions options;
  options.warmup = 0;
  options.measured_seconds = 3.0;
  const Window window = run(options);
  EXPECT_EQ(window.steps, 3);  // 0.5 + 1.25 + 1.75 = 3.5
  EXPECT_THAT(phases_, ElementsAre("warmup 0", "measuring"));
}

TEST_F(LoopTest, NaNLossNamesTheStep) {
  nan_at_ = 4;
  LoopOptions options;
  options.warmup = 2;
  options.measured = 3;
  try {
    run(options);
    FAIL();
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.reason, Reason::kNanLoss);
    EXPECT_THAT(failure.what(), HasSubstr("measuring step 2 of rank 0"));
  }
  EXPECT_EQ(measured_ms_.size(), 1U) << "the NaN is no step";
}

TEST_F(LoopTest, NoMeasuredStepIsAFailure) {
  LoopOptions options;
  options.warmup = 1;
  options.measured = 0;
  EXPECT_THROW(run(options), Failure);
}

TEST(ShareOf, SplitsCoresWithoutOverlap) {
  const std::vector<std::vector<int>> cores = {{0, 4}, {1, 5}, {2, 6}, {3, 7}};
  EXPECT_THAT(share_of(cores, 0, 2), ElementsAre(0, 4, 1, 5));
  EXPECT_THAT(share_of(cores, 1, 2), ElementsAre(2, 6, 3, 7));
  EXPECT_THAT(share_of(cores, 1, 3), ElementsAre(1, 5));
  EXPECT_THAT(share_of(cores, 3, 5), ElementsAre(0, 4, 1, 5, 2, 6, 3, 7));
  // A worker with three threads and a server; two of each with too many threads.
  EXPECT_THAT(share_of(cores, HostRanks{1, 1, 3, 0}), ElementsAre(0, 4, 1, 5, 2, 6));
  EXPECT_THAT(share_of(cores, HostRanks{1, 1, 3, 1}), ElementsAre(3, 7));
  EXPECT_THAT(share_of(cores, HostRanks{2, 2, 2, 1}), ElementsAre(2, 6, 3, 7));
  EXPECT_THAT(share_of(cores, HostRanks{2, 2, 2, 2}), ElementsAre(0, 4, 1, 5, 2, 6, 3, 7));
}

TEST(SharedCores, ABoundRankCountsTheWholeHost) {
  UsableCpus cpus;
  cpus.cores = {{0}};
  cpus.online_cores = 8;
  cpus.restricted = true;
  EXPECT_EQ(shared_cores(cpus, {.size = 4, .local_size = 4}), 8);
  EXPECT_EQ(shared_cores(cpus, {.size = 5, .local_size = 1}), 8) << "two ranks on other hosts";
  EXPECT_EQ(shared_cores(cpus, {.size = 1, .local_size = 1}), 1) << "a cpuset is a limit";
  cpus.quota = CpuQuota{2.5};
  EXPECT_EQ(shared_cores(cpus, {.size = 4, .local_size = 4}), 2);
}

// Eight CPUs, two threads a core: core 1's first is switched off, and 2 to 7 are allowed. The mask
// goes on beyond the CPUs that there are, as in virtual machines.
TEST(UsableCpus, NumbersHaveGapsAndTheMaskCounts) {
  namespace fs = std::filesystem;
  const fs::path root = fs::temp_directory_path() / ("usable-cpus-" + std::to_string(getpid()));
  const auto write = [&root](const std::string& path, const std::string& text) {
    fs::create_directories((root / path).parent_path());
    std::ofstream(root / path) << text;
  };
  const std::string cpus = "sys/devices/system/cpu/";
  write(cpus + "online", "0,2-7\n");
  write("proc/self/status", "Name:\tx\nCpus_allowed:\tfffc\nCpus_allowed_list:\t2-15\n");
  for (const int cpu : {0, 2, 3, 4, 5, 6, 7}) {
    const std::string topology = cpus + "cpu" + std::to_string(cpu) + "/topology/";
    write(topology + "physical_package_id", "0\n");
    write(topology + "core_id", std::to_string(cpu % 4) + "\n");
  }
  const UsableCpus some = usable_cpus(root.string());
  EXPECT_THAT(some.cores,
              ElementsAre(ElementsAre(4), ElementsAre(5), ElementsAre(2, 6), ElementsAre(3, 7)));
  EXPECT_EQ(some.online_cores, 4);
  EXPECT_TRUE(some.restricted);
  write("proc/self/status", "Cpus_allowed_list:\t0-15\n");
  EXPECT_FALSE(usable_cpus(root.string()).restricted);
  EXPECT_THAT(usable_cpus(root.string()).cores[0], ElementsAre(0, 4));
  fs::remove_all(root);
  EXPECT_EQ(usable_cpus(root.string()).online_cores, sysconf(_SC_NPROCESSORS_ONLN))
      << "a host that says nothing has one CPU a core";

  cpu_set_t mask;
  ASSERT_EQ(sched_getaffinity(0, sizeof mask, &mask), 0);
  int own = 0;
  for (const auto& core : usable_cpus().cores) own += static_cast<int>(core.size());
  EXPECT_EQ(own, CPU_COUNT(&mask));
}

}  // namespace
}  // namespace rackmark::worker

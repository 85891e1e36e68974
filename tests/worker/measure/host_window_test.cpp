#include "worker/measure/host_window.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace rackmark::worker {
namespace {

namespace fs = std::filesystem;

class HostWindowTest : public testing::Test {
 protected:
  HostWindowTest()
      : root_(fs::temp_directory_path() / ("host-window-" + std::to_string(getpid()))) {
    write("proc/stat", "cpu 100 0 50 1000 10 0 5 20 0 0\n");
    write("proc/sys/kernel/random/boot_id", "one-boot\n");
    write("sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "performance\n");
    write("proc/self/cgroup", "0::/box\n");
    quota("throttled_usec 700000\n");
    package("intel-rapl:0", "package-0", 1'000'000);
    package("intel-rapl:0:0", "core", 1);
    package("intel-rapl:1", "package-1", 0);
    package("intel-rapl:2", "psys", 1);
  }
  ~HostWindowTest() override { fs::remove_all(root_); }

  void write(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  void quota(const std::string& stat) {
    write("sys/fs/cgroup/box/cpu.max", "150000 100000\n");
    write("sys/fs/cgroup/box/cpu.stat", stat);
  }
  void package(const std::string& zone, const std::string& name, std::int64_t energy_uj) {
    write("sys/class/powercap/" + zone + "/name", name);
    write("sys/class/powercap/" + zone + "/max_energy_range_uj", "5000000");
    write("sys/class/powercap/" + zone + "/energy_uj", std::to_string(energy_uj));
  }

  const fs::path root_;
};

TEST_F(HostWindowTest, CountsWhatGrewAndCountersThatWrapped) {
  HostWindow window(root_.string());
  package("intel-rapl:0", "package-0", 1'500'000);  // before the window
  window.begin();
  EXPECT_FALSE(window.use());
  package("intel-rapl:0", "package-0", 4'500'000);
  window.keep_up();
  package("intel-rapl:0", "package-0", 2'500'000);  // 3 J more, over the range of 5 J
  package("intel-rapl:1", "package-1", 7'000);
  write("proc/stat", "cpu 300 0 150 1100 20 0 5 30 0 0\n");
  write("sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "powersave\n");
  quota("nr_periods 7\nthrottled_usec 1200000\n");
  window.end();
  const auto use = window.use();
  ASSERT_TRUE(use);
  const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  EXPECT_EQ(use->boot_id, "one-boot");
  EXPECT_NEAR(use->package_energy_j.value(), 6.007, 1e-9);
  EXPECT_NEAR(use->cpu_s.value(), 300 / ticks, 1e-9) << "user and system, neither idle nor stolen";
  EXPECT_NEAR(use->cpu_capacity_s.value(), 420 / ticks, 1e-9);
  EXPECT_EQ(use->governor_before, "performance");
  EXPECT_EQ(use->governor_after, "powersave");
  EXPECT_EQ(use->quota_cpus, 1.5);
  EXPECT_NEAR(use->quota_throttled_s.value(), 0.5, 1e-9);
  EXPECT_GE(use->own_cpu_s, 0);
}

TEST_F(HostWindowTest, WhatAHostDoesNotSayIsNull) {
  fs::remove(root_ / "sys/class/powercap/intel-rapl:1/energy_uj");  // one package is no host
  fs::remove(root_ / "proc/stat");
  fs::remove_all(root_ / "sys/devices");
  fs::remove_all(root_ / "sys/fs");
  HostWindow window(root_.string());
  window.begin();
  window.end();
  const auto use = window.use();
  ASSERT_TRUE(use);
  EXPECT_FALSE(use->package_energy_j || use->cpu_s || use->cpu_capacity_s || use->governor_before ||
               use->governor_after || use->quota_cpus || use->quota_throttled_s);
}

}  // namespace
}  // namespace rackmark::worker

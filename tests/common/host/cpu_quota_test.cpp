#include "common/host/cpu_quota.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace rackmark {
namespace {

namespace fs = std::filesystem;

class CpuQuotaTest : public testing::Test {
 protected:
  ~CpuQuotaTest() override { fs::remove_all(root_); }
  void write(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  std::optional<CpuQuota> quota() const { return cpu_quota(root_.string()); }

  const fs::path root_ = fs::temp_directory_path() / ("cpu-quota-" + std::to_string(getpid()));
};

TEST_F(CpuQuotaTest, OfVersion2IsTheSmallestOnTheWayUp) {
  EXPECT_FALSE(quota());
  write("proc/self/cgroup", "0::/pod/box\n");
  write("sys/fs/cgroup/pod/box/cpu.max", "max 100000\n");
  EXPECT_FALSE(quota());
  write("sys/fs/cgroup/pod/cpu.max", "175000 50000\n");
  write("sys/fs/cgroup/pod/cpu.stat", "usage_usec 9\nnr_throttled 3\nthrottled_usec 2500000\n");
  ASSERT_TRUE(quota());
  EXPECT_DOUBLE_EQ(quota()->cpus, 3.5);
  EXPECT_DOUBLE_EQ(quota()->throttled_s, 2.5);
  write("sys/fs/cgroup/cpu.max", "100000 100000\n");  // of a container that sees only its own
  EXPECT_DOUBLE_EQ(quota()->cpus, 1);
}

TEST_F(CpuQuotaTest, OfVersion1) {
  write("proc/self/cgroup", "9:name=systemd:/\n3:cpuset:/x\n1:cpu,cpuacct:/docker/1f\n0::/\n");
  write("sys/fs/cgroup/cpu/docker/1f/cpu.cfs_period_us", "100000\n");
  write("sys/fs/cgroup/cpu/docker/1f/cpu.cfs_quota_us", "-1\n");
  EXPECT_FALSE(quota());
  write("sys/fs/cgroup/cpu/docker/1f/cpu.cfs_quota_us", "50000\n");
  write("sys/fs/cgroup/cpu/docker/1f/cpu.stat", "nr_throttled 3\nthrottled_time 1500000000\n");
  ASSERT_TRUE(quota());
  EXPECT_DOUBLE_EQ(quota()->cpus, 0.5);
  EXPECT_DOUBLE_EQ(quota()->throttled_s, 1.5);
}

TEST(CoresWithin, AreWholeOnesAndAtLeastOne) {
  EXPECT_EQ(cores_within(std::nullopt, 8), 8);
  EXPECT_EQ(cores_within(CpuQuota{64}, 8), 8);
  EXPECT_EQ(cores_within(CpuQuota{3.5}, 8), 3);
  EXPECT_EQ(cores_within(CpuQuota{0.2}, 8), 1);
}

}  // namespace
}  // namespace rackmark

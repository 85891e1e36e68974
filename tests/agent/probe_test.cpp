#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "agent/probe/inventory.hpp"
#include "tests/agent/support/temp_folder.hpp"

namespace rackmark::agent {
namespace {

TEST(CpuInfo, TakesTheFirstProcessor) {
  const auto cpu = parse_cpuinfo(
      "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\n"
      "model name\t: Intel(R) Xeon(R)\nstepping\t: 8\nflags\t\t: fpu sse4_1 avx2 fma\n\n"
      "processor\t: 1\nmodel\t\t: 1\nflags\t\t: fpu\n");
  EXPECT_EQ(cpu.vendor, "GenuineIntel");
  EXPECT_EQ(cpu.model_name, "Intel(R) Xeon(R)");
  EXPECT_EQ(cpu.family, 6);
  EXPECT_EQ(cpu.model, 143);
  EXPECT_EQ(cpu.stepping, 8);
  EXPECT_EQ(cpu.isa, "avx2");
}

TEST(CpuInfo, MissingLinesAreUnknown) {
  const auto cpu = parse_cpuinfo("Processor : ARMv8\n: odd\nlonely\n");
  EXPECT_EQ(cpu.vendor, "unknown");
  EXPECT_EQ(cpu.isa, "unknown");
  EXPECT_EQ(parse_cpuinfo("").family, 0);
}

TEST(Isa, TheHighestLevelWithAllItsParts) {
  const std::string avx512 = "sse4_1 avx2 fma avx512f avx512bw avx512vl avx512dq";
  EXPECT_EQ(isa_level("sse2"), "baseline");
  EXPECT_EQ(isa_level("sse4_1"), "sse4_1");
  EXPECT_EQ(isa_level("sse4_1 avx2"), "sse4_1");  // without FMA no kernel of that level runs
  EXPECT_EQ(isa_level("sse4_1 avx2 fma avx512f"), "avx2");
  EXPECT_EQ(isa_level(avx512), "avx512");
  EXPECT_EQ(isa_level(avx512 + " avx512_vnni"), "avx512_vnni");
  EXPECT_EQ(isa_level(avx512 + " avx512_vnni avx512_bf16"), "avx512_bf16");
  EXPECT_EQ(isa_level(avx512 + " avx512_vnni avx512_bf16 amx_tile amx_bf16"), "amx");
}

TEST(Governor, NullWithoutFrequencyControlAndMixedWhenTheyDiffer) {
  TempFolder folder;
  namespace fs = std::filesystem;
  EXPECT_EQ(governor(folder.path()), std::nullopt);
  EXPECT_EQ(governor(folder.path() / "absent"), std::nullopt);
  for (const char* cpu : {"cpu0", "cpu1", "cpufreq"}) {
    fs::create_directories(folder.path() / cpu / "cpufreq");
    std::ofstream(folder.path() / cpu / "cpufreq" / "scaling_governor") << "performance\n";
  }
  EXPECT_EQ(governor(folder.path()), "performance");
  std::ofstream(folder.path() / "cpu1" / "cpufreq" / "scaling_governor") << "powersave\n";
  EXPECT_EQ(governor(folder.path()), "mixed");
}

TEST(Os, PrettyName) {
  EXPECT_EQ(os_name("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            "Debian GNU/Linux 12 (bookworm)");
  EXPECT_EQ(os_name(""), "unknown");
}

TEST(Probe, ThisHostMakesSense) {
  TempFolder state;
  const auto kind = detect_containment();
  const auto inventory = probe(
      {std::string(RACKMARK_BIN_DIR) + "/rackmark-test-worker", state.path(), {"/data"}, kind});
  EXPECT_FALSE(inventory.hostname.empty());
  EXPECT_NE(inventory.os, "");
  EXPECT_TRUE(inventory.kernel.starts_with("Linux "));
  EXPECT_GE(inventory.cpu.sockets, 1);
  EXPECT_GE(inventory.cpu.physical_cores, inventory.cpu.sockets);
  EXPECT_GE(inventory.cpu.logical_cpus, inventory.cpu.physical_cores);
  EXPECT_EQ(inventory.cpu.smt, inventory.cpu.logical_cpus > inventory.cpu.physical_cores);
  EXPECT_GE(inventory.cpu.numa_domains, 1);
  EXPECT_GT(inventory.memory_bytes, std::int64_t{100} << 20);
  EXPECT_GT(inventory.free_disk_bytes, 0);
  EXPECT_EQ(inventory.versions.at("rackmark"), RACKMARK_VERSION);
  EXPECT_EQ(inventory.versions.at("engine_revision"), "0123456789ab");
  EXPECT_EQ(inventory.versions.at("onednn"), "2.6.3");
  EXPECT_TRUE(inventory.versions.at("openmpi").starts_with("4.") ||
              inventory.versions.at("openmpi").starts_with("5."));
  EXPECT_EQ(inventory.containment, to_string(kind));
  for (const auto& address : inventory.addresses) {
    EXPECT_NE(address.find('/'), std::string::npos);
    EXPECT_FALSE(address.starts_with("127."));
  }
}

// As hwloc describes other machines: "pack:2 ..." in its synthetic notation.
protocol::Inventory topology(const char* synthetic, const std::optional<CpuQuota>& quota = {}) {
  ::setenv("HWLOC_SYNTHETIC", synthetic, 1);
  protocol::Inventory found;
  probe_topology(found, quota);
  ::unsetenv("HWLOC_SYNTHETIC");
  return found;
}

TEST(Topology, MemoryWithoutCpusOfItsOwnIsNoDomain) {
  EXPECT_EQ(topology("pack:2 [numa] core:4 pu:2").cpu.numa_domains, 2);
  const auto fast_and_far = topology("[numa] pack:2 [numa] [numa] core:4 pu:2").cpu;
  EXPECT_EQ(fast_and_far.numa_domains, 2);
  EXPECT_EQ(fast_and_far.sockets, 2);
  EXPECT_EQ(fast_and_far.physical_cores, 8);
  EXPECT_EQ(fast_and_far.logical_cpus, 16);
  EXPECT_TRUE(fast_and_far.smt);
}

TEST(Topology, AQuotaLeavesWholeCoresAndSaysSo) {
  const auto some = topology("pack:2 [numa] core:4 pu:2", CpuQuota{3.5});
  EXPECT_EQ(some.cpu.physical_cores, 3);
  EXPECT_EQ(some.cpu.logical_cpus, 3);
  EXPECT_FALSE(some.cpu.smt) << "no core has time for a second thread";
  ASSERT_EQ(some.notes.size(), 1U);
  EXPECT_EQ(some.notes[0],
            "3 of 8 cores count: a cgroup's quota gives this agent 3.5 CPUs at a time");
  const auto plenty = topology("pack:2 [numa] core:4 pu:2", CpuQuota{12});
  EXPECT_EQ(plenty.cpu.physical_cores, 8);
  EXPECT_TRUE(plenty.notes.empty());
}

TEST(Topology, OnlyCpusOfTheAffinityMaskCount) {
  cpu_set_t before, one;
  ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
  CPU_ZERO(&one);
  for (int cpu = 0; CPU_COUNT(&one) == 0; ++cpu)
    if (CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
  ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
  protocol::Inventory found;
  probe_topology(found, std::nullopt);
  ::sched_setaffinity(0, sizeof before, &before);
  EXPECT_EQ(found.cpu.logical_cpus, 1);
  EXPECT_EQ(found.cpu.physical_cores, 1);
  EXPECT_EQ(found.cpu.sockets, 1);
  EXPECT_EQ(found.cpu.numa_domains, 1);
  if (::sysconf(_SC_NPROCESSORS_ONLN) > 1) {
    ASSERT_EQ(found.notes.size(), 1U);
    EXPECT_TRUE(found.notes[0].starts_with("1 of the host's ")) << found.notes[0];
  }
}

TEST(Inventory, NewsIsAllButALittleDiskSpace) {
  protocol::Inventory told;
  told.free_disk_bytes = 1000;
  protocol::Inventory now = told;
  EXPECT_FALSE(is_news(now, told));
  now.free_disk_bytes = 950;
  EXPECT_FALSE(is_news(now, told));
  now.free_disk_bytes = 500;
  EXPECT_TRUE(is_news(now, told));
  now = told;
  now.notes.push_back("a GPU is lost");
  EXPECT_TRUE(is_news(now, told));
}

TEST(Probe, AWorkerThatIsNotThereLeavesUnknowns) {
  const auto found = versions("/nowhere/rackmark-worker");
  EXPECT_EQ(found.at("engine_revision"), "unknown");
  EXPECT_EQ(found.at("onednn"), "unknown");
}

}  // namespace
}  // namespace rackmark::agent

#include <gtest/gtest.h>

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

TEST(Probe, AWorkerThatIsNotThereLeavesUnknowns) {
  const auto found = versions("/nowhere/rackmark-worker");
  EXPECT_EQ(found.at("engine_revision"), "unknown");
  EXPECT_EQ(found.at("onednn"), "unknown");
}

}  // namespace
}  // namespace rackmark::agent

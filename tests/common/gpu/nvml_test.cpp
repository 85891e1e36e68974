#include "common/gpu/nvml.hpp"

#include <dlfcn.h>
#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace rackmark::gpu {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr const char* kWhole =
    "uuid=GPU-a1 name=Stand-in_80GB memory=85899345920 used=4000000000 busy=97 power_mw=350500 "
    "energy=1 temperature=61 sm_mhz=1980 memory_mhz=2619 reasons=0x84 ecc_corrected=3 "
    "ecc_uncorrected=0\n";

// The stand-in with a gpus.txt of this test's own. Once it is loaded by its path, a load by its
// name finds it, as it would find the driver's.
class NvmlTest : public testing::Test {
 protected:
  NvmlTest() {
    std::string name = (fs::temp_directory_path() / "rackmark-nvml-XXXXXX").string();
    folder_ = mkdtemp(name.data());
    fs::copy_file(RACKMARK_NVML_STAND_IN, folder_ / "libnvidia-ml.so.1");
    library_ = dlopen((folder_ / "libnvidia-ml.so.1").c_str(), RTLD_NOW | RTLD_LOCAL);
  }
  ~NvmlTest() override {
    if (library_ != nullptr) dlclose(library_);
    fs::remove_all(folder_);
  }
  void are(const std::string& cards) { std::ofstream(folder_ / "gpus.txt") << cards; }

  fs::path folder_;
  void* library_ = nullptr;
};

TEST_F(NvmlTest, ReadsAllOfACardAndNullForWhatItDoesNotHave) {
  ASSERT_NE(library_, nullptr) << dlerror();
  are(kWhole + std::string("uuid=GPU-b2 name=Old\n"));
  const auto nvml = Nvml::open();
  ASSERT_TRUE(nvml);
  EXPECT_EQ(nvml->cuda_driver(), "13.0");
  const auto cards = nvml->cards();
  ASSERT_EQ(cards.size(), 2U);
  EXPECT_EQ(cards[0].name, "Stand-in 80GB");
  EXPECT_EQ(cards[0].uuid, "GPU-a1");
  EXPECT_EQ(cards[0].driver, "580.65");
  EXPECT_EQ(cards[0].memory_bytes, 85899345920);
  EXPECT_EQ(cards[1].memory_bytes, 0);
  EXPECT_EQ(cuda_name(cards[1]), "GPU-b2");
  EXPECT_EQ(cuda_name({.uuid = kUnknown, .index = 1}), "1");

  const Reading now = nvml->read(cards[0]);
  EXPECT_DOUBLE_EQ(now.busy_fraction.value(), 0.97);
  EXPECT_EQ(now.memory_bytes, 4e9);
  EXPECT_DOUBLE_EQ(now.power_w.value(), 350.5);
  EXPECT_GT(now.energy_j.value(), 0);
  EXPECT_EQ(now.temperature_c, 61);
  EXPECT_EQ(now.sm_clock_mhz, 1980);
  EXPECT_EQ(now.memory_clock_mhz, 2619);
  EXPECT_THAT(throttle_names(now.throttle_bits.value()),
              ElementsAre("sw_power_cap", "hw_power_brake_slowdown"));
  EXPECT_EQ(now.ecc_corrected, 3);
  EXPECT_EQ(now.ecc_uncorrected, 0);

  const Reading none = nvml->read(cards[1]);
  EXPECT_FALSE(none.busy_fraction || none.memory_bytes || none.power_w || none.energy_j ||
               none.temperature_c || none.sm_clock_mhz || none.memory_clock_mhz ||
               none.throttle_bits || none.ecc_corrected || none.ecc_uncorrected);
  are("");
  EXPECT_THAT(nvml->cards(), IsEmpty());
}

TEST(ThrottleNames, KnownAndUnknownBits) {
  EXPECT_THAT(throttle_names(0), IsEmpty());
  EXPECT_THAT(throttle_names(0x1 | 0x8 | 0x20 | 0x40),
              ElementsAre("gpu_idle", "hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown"));
  EXPECT_THAT(throttle_names(0x400), ElementsAre("reason_0x400"));
}

std::vector<std::string> visible_uuids(const char* list) {
  std::vector<Card> cards(3);
  cards[0].uuid = "GPU-aaaa";
  cards[1].uuid = "GPU-abbb";
  cards[2].uuid = "GPU-cccc";
  std::vector<std::string> uuids;
  for (const Card& card : visible(cards, list).cards) uuids.push_back(card.uuid);
  return uuids;
}

// As CUDA reads it: the first entry that names nothing ends the list.
TEST(VisibleCards, AreThoseOfTheVariable) {
  EXPECT_THAT(visible_uuids(nullptr), ElementsAre("GPU-aaaa", "GPU-abbb", "GPU-cccc"));
  EXPECT_THAT(visible_uuids(""), IsEmpty());
  EXPECT_THAT(visible_uuids("2,0"), ElementsAre("GPU-cccc", "GPU-aaaa"));
  EXPECT_THAT(visible_uuids("GPU-c,1"), ElementsAre("GPU-cccc", "GPU-abbb"));
  EXPECT_THAT(visible_uuids("1,-1,0"), ElementsAre("GPU-abbb"));
  EXPECT_THAT(visible_uuids("0,7,1"), ElementsAre("GPU-aaaa"));
  EXPECT_THAT(visible_uuids("GPU-x"), IsEmpty());
  EXPECT_THAT(visible_uuids("1,MIG-a,0"), ElementsAre("GPU-abbb"));
  EXPECT_EQ(visible({}, "MIG-a,0").unnamed, "MIG-a");
  EXPECT_EQ(visible({}, nullptr).unnamed, "");
}

}  // namespace
}  // namespace rackmark::gpu

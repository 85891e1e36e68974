#include "common/gpu/nvml.hpp"

#include <dlfcn.h>
#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace rackmark::gpu {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kWhole =
    "uuid=GPU-a1 name=Stand-in_80GB memory=85899345920 used=4000000000 busy=97 power_mw=350500 "
    "energy=1 temperature=61 sm_mhz=1980 memory_mhz=2619 reasons=0x84 ecc_corrected=3 "
    "ecc_uncorrected=0\n";

std::vector<std::string> uuids(const Visible& visible) {
  std::vector<std::string> found;
  for (const Card& card : visible.cards) found.push_back(card.uuid);
  return found;
}

// The stand-in with a gpus.txt of these tests' own. Once it is loaded by its path, a load by its
// name finds it, as it would find the driver's; the loader keeps it, so all tests share it.
class NvmlTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    std::string name = (fs::temp_directory_path() / "rackmark-nvml-XXXXXX").string();
    folder_ = mkdtemp(name.data());
    fs::copy_file(RACKMARK_NVML_STAND_IN, folder_ / "libnvidia-ml.so.1");
    library_ = dlopen((folder_ / "libnvidia-ml.so.1").c_str(), RTLD_NOW | RTLD_LOCAL);
  }
  static void TearDownTestSuite() {
    if (library_ != nullptr) dlclose(library_);
    fs::remove_all(folder_);
  }
  void are(const std::string& cards) { std::ofstream(folder_ / "gpus.txt") << cards; }

  static inline fs::path folder_;
  static inline void* library_ = nullptr;
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

TEST_F(NvmlTest, CardsThatAreNoWholeGpuAreLeftOutWithASentence) {
  ASSERT_NE(library_, nullptr) << dlerror();
  are("uuid=GPU-a1 name=H200 mig=1\nuuid=GPU-b2 name=H200 mig=0\nuuid=GPU-c3 handle_error=15\n"
      "uuid=GPU-d4 name=H200\n");
  const auto nvml = Nvml::open();
  ASSERT_TRUE(nvml);
  const Visible all = visible(nvml->cards(), nullptr);
  EXPECT_THAT(uuids(all), ElementsAre("GPU-b2", "GPU-d4"));
  EXPECT_THAT(all.left_out, ElementsAre(AllOf(HasSubstr("GPU 0 (H200, GPU-a1)"), HasSubstr("MIG")),
                                        "GPU 2 is left out: NVML: GPU is lost"));
  // A lost card keeps its number, and one with MIG ends no list.
  const Visible some = visible(nvml->cards(), "GPU-a1,3");
  EXPECT_THAT(uuids(some), ElementsAre("GPU-d4"));
  EXPECT_THAT(some.left_out, ElementsAre(HasSubstr("GPU-a1")));
  EXPECT_EQ(some.unnamed, "");
}

TEST_F(NvmlTest, ADriverThatDoesNotAnswerSaysWhy) {
  ASSERT_NE(library_, nullptr) << dlerror();
  are("init_error=18\n");
  std::string problem;
  EXPECT_EQ(Nvml::open(&problem), nullptr);
  EXPECT_THAT(problem, HasSubstr("NVML: Driver/library version mismatch"));
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
  return uuids(visible(cards, list));
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
  EXPECT_THAT(visible({}, "MIG-a,0").left_out, ElementsAre(HasSubstr("MIG-a")));
  EXPECT_THAT(visible({}, "").left_out, IsEmpty());
  EXPECT_EQ(visible({}, nullptr).unnamed, "");
}

}  // namespace
}  // namespace rackmark::gpu

// Where a plan lies in a device's own memory, that decides, and the host's counts for the rest.
#include <gtest/gtest.h>

#include <cstdlib>

#include "worker/train/session.hpp"

namespace rackmark::worker {
namespace {

class DeviceMemory : public testing::Test {
 protected:
  DeviceMemory() {
    setenv("RACKMARK_PLUGIN_DIR", RACKMARK_TESTING_PLUGINS, 1);
    setenv("RACKMARK_TESTING_MEMORY", "9999", 1);
  }
  ~DeviceMemory() override {
    unsetenv("RACKMARK_PLUGIN_DIR");
    unsetenv("RACKMARK_TESTING_MEMORY");
  }

  // The batch that is run.
  std::int64_t set_up(const nlohmann::json& batch_size, std::int64_t host_bytes, bool run = false) {
    const auto parsed = parse_spec({{"model", "cifar10"},
                                    {"batch_size", batch_size},
                                    {"steps", {{"warmup", 0}, {"measured", 1}}}});
    SessionOptions options;
    options.spec = resolve_for_host(*parsed, {.numa_domains = 1, .physical_cores = 1}).value();
    options.backend = "testing";
    options.memory = {host_bytes, "testing host"};
    Events events(nullptr, 0, clock_);
    Session session(options, events, clock_, stop_);
    session.connect();
    session.set_up();
    if (run) session.run();
    return session.spec().batch_size;
  }
  // {wanted, free} of the refusal.
  std::pair<std::int64_t, std::int64_t> refusal(const nlohmann::json& batch_size,
                                                std::int64_t host_bytes) {
    try {
      set_up(batch_size, host_bytes);
    } catch (const OutOfMemory& error) {
      return {error.bytes_wanted, error.bytes_free};
    }
    return {0, 0};
  }

  static constexpr std::int64_t kBytesPerPicture = 3 * 24 * 24 * 4 + 4;  // of cifar10, and a label
  static constexpr std::int64_t kPlenty = std::int64_t{1} << 40;
  SystemClock clock_;
  std::atomic<bool> stop_{false};
};

TEST_F(DeviceMemory, DecidesWhatFitsAndHowLargeABatchCanBe) {
  EXPECT_EQ(set_up(9, kPlenty), 9);
  EXPECT_EQ(set_up("max", kPlenty), 9);
  EXPECT_EQ(refusal(10, kPlenty), std::pair(std::int64_t{10000}, std::int64_t{9999}));
}

// Its products find room before the plan is there, whatever the plan leaves.
TEST_F(DeviceMemory, APlanThatFillsItComesAfterTheMatrixPeak) {
  setenv("RACKMARK_TESTING_MEMORY", "1999", 1);
  EXPECT_EQ(set_up("max", kPlenty, true), 1);
}

TEST_F(DeviceMemory, TheHostHoldsTheRest) {
  const auto [wanted, free] = refusal(9, 5000);
  EXPECT_EQ(free, 5000);
  EXPECT_GT(wanted, 5000);
  const std::int64_t fixed = wanted - 9 * kBytesPerPicture;
  EXPECT_EQ(set_up("max", fixed + 7 * kBytesPerPicture), 7) << "the device would hold 9";
}

}  // namespace
}  // namespace rackmark::worker

// A session that trains on pictures from files: those that go to a device as bytes, are cut and
// normalised there train what floats train on the plain backend.
#include "worker/train/session.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <fstream>
#include <iterator>

#include "plans.hpp"
#include "tests/worker/input/picture_tree.hpp"

namespace rackmark::worker::testing {
namespace {

class CudaSession : public PictureTree {
 protected:
  CudaSession() {
    setenv("RACKMARK_PLUGIN_DIR", RACKMARK_HOST_DEVICE_PLUGIN, 1);
    for (int i = 0; i < 6; ++i) {
      add_pattern((i % 2 == 0 ? "cats/" : "dogs/") + std::to_string(i) + ".jpg", i, 40 + 3 * i, 50);
    }
  }
  ~CudaSession() override { unsetenv("RACKMARK_PLUGIN_DIR"); }

  // Parameters and running statistics after two steps.
  std::vector<double> trained_on(const std::string& backend) {
    const auto parsed = parse_spec(
        {{"model", "cifar10"},
         {"batch_size", 2},
         {"classes", 2},
         {"steps", {{"warmup", 1}, {"measured", 1}}},
         {"input",
          {{"kind", "images"}, {"path", root_}, {"augment", {{"crop", true}, {"flip", true}}}}}});
    if (!parsed) throw std::runtime_error("spec");
    SessionOptions options;
    options.spec = resolve_for_host(*parsed, {.numa_domains = 1, .physical_cores = 1}).value();
    options.backend = backend;
    options.dump_path = root_ + "/dump";
    options.memory = {std::int64_t{1} << 40, "testing host"};
    Events events(nullptr, 0, clock_);
    Session session(options, events, clock_, stop_);
    session.connect();
    session.set_up();
    session.run();
    std::ifstream file(options.dump_path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    std::vector<float> values(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
    return {values.begin(), values.end()};
  }

  SystemClock clock_;
  std::atomic<bool> stop_{false};
};

TEST_F(CudaSession, BytesTrainWhatFloatsTrain) {
  ASSERT_TRUE(load_backend("cuda-on-host")->takes_raw_pictures());  // else both train with floats
  ASSERT_FALSE(load_backend("reference")->takes_raw_pictures());
  const auto bytes = trained_on("cuda-on-host"), floats = trained_on("reference");
  ASSERT_GT(floats.size(), 10000U);
  EXPECT_LT(test::relative_distance(bytes, floats), 1e-5);
}

}  // namespace
}  // namespace rackmark::worker::testing

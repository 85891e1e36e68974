// Sessions on pictures from files that go to a device as bytes and are cut and normalised there:
// they train what floats train on the plain backend, and infer.
#include "worker/train/session.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <fstream>
#include <iterator>

#include "plans.hpp"
#include "tests/worker/input/picture_tree.hpp"
#include "worker/infer/session.hpp"
#include "worker/train/rank_setup.hpp"

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

  JobSpec spec_of(const std::string& mode, const std::string& precision,
                  nlohmann::json augment) const {
    const auto parsed =
        parse_spec({{"model", "cifar10"},
                    {"mode", mode},
                    {"precision", precision},
                    {"batch_size", 2},
                    {"classes", 2},
                    {"steps", {{"warmup", 1}, {"measured", 1}}},
                    {"input", {{"kind", "images"}, {"path", root_}, {"augment", augment}}}});
    if (!parsed) throw std::runtime_error(parsed.error().fields.at(0).detail);
    return resolve_for_host(*parsed, {.numa_domains = 1, .physical_cores = 1}).value();
  }
  template <class AnySession>
  void run_session(const SessionOptions& options) {
    Events events(nullptr, 0, clock_);
    AnySession session(options, events, clock_, stop_);
    session.connect();
    session.set_up();
    session.run();
  }

  // Parameters and running statistics after two steps.
  std::vector<double> trained_on(const std::string& backend,
                                 rackmark::Device decode_device = rackmark::Device::kCpu) {
    SessionOptions options;
    options.spec = spec_of("training", "fp32", {{"crop", true}, {"flip", true}});
    options.spec.input.decode_device = decode_device;
    options.backend = backend;
    options.dump_path = root_ + "/dump";
    options.memory = {std::int64_t{1} << 40, "testing host"};
    run_session<Session>(options);
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

TEST_F(CudaSession, DecodesBesideTheCpuWhereTheBackendCan) {
  const auto beside = trained_on("cuda-on-host", rackmark::Device::kGpu);
  EXPECT_EQ(beside, trained_on("cuda-on-host"));
  try {
    trained_on("reference", rackmark::Device::kGpu);
    FAIL() << "decoded by nobody";
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.reason, Reason::kSpecUnsupported);
    EXPECT_STREQ(failure.what(),
                 "input.decode_device is gpu: backend reference decodes no pictures");
  }
}

// Narrow numbers are compared with fp32 ones, over bytes as well.
TEST_F(CudaSession, BytesAreInferredFromAndCompared) {
  SessionOptions options;
  options.spec = spec_of("inference", "bf16", nlohmann::json::object());
  options.backend = "cuda-on-host";
  options.memory = {std::int64_t{1} << 40, "testing host"};
  EXPECT_NO_THROW(run_session<InferenceSession>(options));
  const auto pictures = find_pictures(options.spec);
  PictureStream bytes(options.spec, pictures, true), floats(options.spec, pictures);
  EXPECT_EQ(bytes.take_values(7), floats.take_values(7));
  EXPECT_EQ(bytes.take(2).pixels.size(), 2U * 24 * 24 * 3);
}

}  // namespace
}  // namespace rackmark::worker::testing

#include <dlfcn.h>
#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "worker/backend/backend.hpp"

namespace rackmark::worker {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

// A folder of plug-ins of this test's own.
class Plugins : public testing::Test {
 protected:
  Plugins() {
    std::string name = (fs::temp_directory_path() / "rackmark-plugins-XXXXXX").string();
    folder_ = mkdtemp(name.data());
    setenv("RACKMARK_PLUGIN_DIR", folder_.c_str(), 1);
  }
  ~Plugins() override {
    unsetenv("RACKMARK_PLUGIN_DIR");
    fs::remove_all(folder_);
  }

  void add(const std::string& name, const fs::path& library) {
    fs::create_symlink(library, folder_ / ("librackmark-backend-" + name + ".so"));
  }
  void add_testing() {
    add("testing", fs::path(RACKMARK_TESTING_PLUGINS) / "librackmark-backend-testing.so");
  }
  void add_broken(const std::string& name) {
    std::ofstream(folder_ / ("librackmark-backend-" + name + ".so")) << "not a library";
  }
  std::string load_error(const std::string& name) {
    try {
      load_backend(name);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "";
  }

  // A library that certainly is no backend.
  static fs::path some_library() {
    Dl_info info{};
    dladdr(dlsym(RTLD_NEXT, "getenv"), &info);
    return info.dli_fname;
  }

  fs::path folder_;
};

Net tiny() {
  Net net("tiny", 4, 3);
  net.loss(net.linear(net.flatten(net.input()), "fc", {.out = 3}));
  return net;
}

TEST_F(Plugins, ReferenceIsLinkedIn) {
  EXPECT_THAT(backend_names(), ElementsAre("reference"));
  EXPECT_EQ(load_backend("reference")->name(), "reference");
  EXPECT_EQ(best_backend()->name(), "reference");
}

TEST_F(Plugins, TheFastestComesFirst) {
  add_testing();
  add_broken("onednn");
  add_broken("cuda");
  std::ofstream(folder_ / "librackmark-mpi.so");
  EXPECT_THAT(backend_names(), ElementsAre("cuda", "onednn", "testing", "reference"));
}

TEST_F(Plugins, TrainsThroughAPlugin) {
  add_testing();
  auto backend = best_backend();
  ASSERT_EQ(backend->name(), "testing");
  const auto plan = backend->compile(tiny(), {.batch = 2});
  const auto images = uniform("images", 2 * 3 * 4 * 4);
  const std::vector<std::int32_t> labels{0, 2};
  for (int p = 0; p < 2; ++p) {
    plan->write_parameter(p, initial_value(plan->net().parameters()[p], 1));
  }
  const double before = plan->forward({images, labels});
  plan->backward();
  plan->update({.learning_rate = 0.1});
  EXPECT_LT(plan->forward({images, labels}), before);
}

TEST_F(Plugins, AnExceptionCrossesTheBorder) {
  add_testing();
  EXPECT_THROW(load_backend("testing")->compile(tiny(), {.batch = 2'000'000'000}), OutOfMemory);
}

TEST_F(Plugins, SaysWhatIsMissing) {
  add_testing();
  const auto error = load_error("cuda");
  EXPECT_THAT(error, HasSubstr("librackmark-backend-cuda.so in " + folder_.string()));
  EXPECT_THAT(error, HasSubstr("present: testing, reference"));
}

TEST_F(Plugins, SaysWhyALibraryIsNone) {
  add_broken("onednn");
  EXPECT_THAT(load_error("onednn"), HasSubstr("backend 'onednn' cannot be loaded: dlopen: "));
  add("other", some_library());
  EXPECT_THAT(load_error("other"), HasSubstr("has no rackmark_make_backend"));
}

TEST_F(Plugins, ASlowerBackendIsNotTakenInSilence) {
  add_broken("onednn");
  testing::internal::CaptureStderr();
  const auto backend = best_backend();
  const auto said = testing::internal::GetCapturedStderr();
  EXPECT_EQ(backend->name(), "reference");
  EXPECT_THAT(said, HasSubstr("backend onednn is not used: "));
}

std::string gpu_error() {
  try {
    backend_for("gpu");
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

// A GPU's job never becomes a CPU's, nor the other way round.
TEST_F(Plugins, TheDeviceDecides) {
  EXPECT_THAT(gpu_error(), HasSubstr("resources.device gpu: backend 'cuda' is not here"));
  add_testing();
  EXPECT_EQ(backend_for("cpu")->name(), "testing");
  add("cuda", fs::path(RACKMARK_TESTING_PLUGINS) / "librackmark-backend-testing.so");
  EXPECT_EQ(backend_for("gpu")->name(), "testing") << "whatever calls itself cuda";
  setenv("RACKMARK_TESTING_UNUSABLE", "no GPU in this machine", 1);
  EXPECT_THAT(gpu_error(), HasSubstr("backend 'cuda' cannot be used here: no GPU in this machine"));
  testing::internal::CaptureStderr();
  EXPECT_EQ(backend_for("cpu")->name(), "reference");
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("backend testing is not used"));
  unsetenv("RACKMARK_TESTING_UNUSABLE");
}

}  // namespace
}  // namespace rackmark::worker

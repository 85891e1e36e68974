// The engine revision changes with what makes the numbers and with nothing else.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace {

namespace fs = std::filesystem;

class EngineRevision : public ::testing::Test {
 protected:
  EngineRevision() {
    std::string name = fs::temp_directory_path() / "rackmark-revision-XXXXXX";
    root_ = ::mkdtemp(name.data());
    for (const char* file : {"worker/net/net.cpp", "worker/train/loop.cpp", "worker/net/README.md",
                             "worker/net/CMakeLists.txt", "common/measure/statistics.cpp",
                             "controller/app.cpp", "tests/worker/net/net_test.cpp"}) {
      write(file, "before");
    }
  }
  ~EngineRevision() override { fs::remove_all(root_); }

  void write(const std::string& file, const std::string& text) {
    fs::create_directories(fs::path(root_ + "/" + file).parent_path());
    std::ofstream(root_ + "/" + file) << text;
  }
  std::string revision(const std::string& flags = "-O3") {
    const std::string output = root_ + "/out.hpp";
    const std::string command = std::string(CMAKE_PROGRAM) + " -DSOURCE_DIR=" + root_ +
                                " -DOUTPUT=" + output + " -DCOMPILER=GNU -DFLAGS=" + flags +
                                " -P " + RACKMARK_SOURCE_DIR "/cmake/engine_revision.cmake";
    EXPECT_EQ(std::system(command.c_str()), 0);
    std::stringstream text;
    text << std::ifstream(output).rdbuf();
    return text.str();
  }
  std::string root_;
};

TEST_F(EngineRevision, FollowsSourcesAndFlagsOnly) {
  const std::string first = revision();
  EXPECT_NE(first.find("#define RACKMARK_ENGINE_REVISION \""), std::string::npos);
  for (const char* other :
       {"worker/net/README.md", "controller/app.cpp", "tests/worker/net/net_test.cpp"}) {
    write(other, "after");
    EXPECT_EQ(revision(), first) << other;
  }
  EXPECT_NE(revision("-O2"), first);
  for (const char* source : {"worker/net/net.cpp", "worker/net/CMakeLists.txt",
                             "worker/train/loop.cpp", "common/measure/statistics.cpp"}) {
    write(source, "after");
    EXPECT_NE(revision(), first) << source;
    write(source, "before");
  }
  EXPECT_EQ(revision(), first);
}

TEST_F(EngineRevision, LeavesTheHeaderAloneWhenNothingHasChanged) {
  revision();
  const auto written = fs::last_write_time(root_ + "/out.hpp");
  revision();
  EXPECT_EQ(fs::last_write_time(root_ + "/out.hpp"), written) << "everything would be rebuilt";
}

}  // namespace

#include "worker/backend/cuda/device/plan_cache.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>
#include <thread>

namespace rackmark::worker::cuda {
namespace {

namespace fs = std::filesystem;

class PlanCacheTest : public testing::Test {
 protected:
  PlanCacheTest() {
    std::string name = (fs::temp_directory_path() / "plan-cache-XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  ~PlanCacheTest() override { fs::remove_all(folder_); }
  fs::path folder_;
  const std::string device_ = "NVIDIA H200 sm_90 cudnn 9.19.0";
  const PlanEntry entry_{.form = "whole", .engine = 62, .knobs = {{2, 4}, {27, 8}}, .ms = 0.25};
};

TEST_F(PlanCacheTest, KeepsEntriesForTheSameDeviceOnly) {
  PlanCache(folder_ / "made" / "by it", device_).put("conv a", entry_);
  const PlanCache again(folder_ / "made" / "by it", device_);
  EXPECT_EQ(again.find("conv a"), entry_);
  EXPECT_EQ(again.find("conv b"), std::nullopt);
  EXPECT_EQ(PlanCache(folder_ / "made" / "by it", "another").find("conv a"), std::nullopt);
  EXPECT_EQ(again.trouble(), "");
}

// Plans are large: the file that every start reads does not hold them.
TEST_F(PlanCacheTest, WhatWasCompiledHasAFileOfItsOwn) {
  PlanEntry compiled = entry_;
  compiled.compiled = true;
  compiled.plan = std::string(100'000, 'x');
  {
    PlanCache cache(folder_, device_);
    cache.put("conv a", compiled);
    cache.put("conv b", entry_);
  }
  const PlanCache again(folder_, device_);
  EXPECT_EQ(again.find("conv a"), compiled);
  EXPECT_EQ(again.find("conv b"), entry_);
  EXPECT_LT(fs::file_size(again.file()), 1000U);
  compiled.plan.clear();  // to be built again
  for (const auto& file : fs::directory_iterator(folder_)) {
    if (file.path() == again.file()) continue;
    std::ofstream(file.path()) << "conv c\nof another task";
    EXPECT_EQ(again.find("conv a"), compiled);
    fs::remove(file.path());
    EXPECT_EQ(again.find("conv a"), compiled);
  }
}

// Of drivers and libraries that are gone, mostly. An hour lies between uses here.
TEST_F(PlanCacheTest, RemovesThePlansThatWereNotUsedForLongest) {
  PlanEntry compiled = entry_;
  compiled.compiled = true;
  compiled.plan = std::string(1000, 'x');
  const auto put = [&](const std::string& device, const char* task) {
    PlanCache(folder_, device, 3500).put(task, compiled);
    for (const auto& file : fs::directory_iterator(folder_)) {
      fs::last_write_time(file, fs::last_write_time(file) - std::chrono::hours(1));
    }
  };
  const auto has_plan = [&](const std::string& device, const char* task) {
    return !PlanCache(folder_, device).find(task)->plan.empty();
  };
  put("an older driver", "conv a");
  for (const char* task : {"conv a", "conv b"}) put(device_, task);
  EXPECT_TRUE(has_plan("an older driver", "conv a"));  // which is a use
  put(device_, "conv c");
  EXPECT_FALSE(has_plan(device_, "conv a"));
  EXPECT_TRUE(has_plan("an older driver", "conv a"));
  for (const char* task : {"conv b", "conv c"}) EXPECT_TRUE(has_plan(device_, task)) << task;
}

TEST_F(PlanCacheTest, TwoWritersLoseNothing) {
  PlanCache first(folder_, device_), second(folder_, device_);
  first.put("conv a", entry_);
  second.put("conv b", entry_);
  first.save();
  second.save();
  const PlanCache all(folder_, device_);
  EXPECT_TRUE(all.find("conv a") && all.find("conv b"));
  for (const auto& file : fs::directory_iterator(folder_)) EXPECT_EQ(file.path(), all.file());
}

TEST_F(PlanCacheTest, WritersAtTheSameTimeLoseNothing) {
  const auto name = [](int writer, int entry) {
    return "conv " + std::to_string(writer) + "." + std::to_string(entry);
  };
  std::vector<std::jthread> writers;
  for (int writer = 0; writer < 4; ++writer) {
    writers.emplace_back([&, writer] {
      PlanCache cache(folder_, device_);
      for (int entry = 0; entry < 10; ++entry) {
        cache.put(name(writer, entry), entry_);
        cache.save();
      }
    });
  }
  writers.clear();  // waits
  const PlanCache all(folder_, device_);
  for (int writer = 0; writer < 4; ++writer) {
    for (int entry = 0; entry < 10; ++entry) EXPECT_TRUE(all.find(name(writer, entry)));
  }
}

TEST_F(PlanCacheTest, PassesOverWhatItCannotRead) {
  PlanCache(folder_, device_).put("conv a", entry_);
  const fs::path file = PlanCache(folder_, device_).file();
  std::stringstream whole;
  whole << std::ifstream(file).rdbuf();
  for (const std::string& text :
       {std::string(), whole.str().substr(0, whole.str().size() / 2), std::string("[1, 2]"),
        std::string(R"({"conv a": {"form": "whole", "engine": "sixty"}, "conv b": 3})")}) {
    std::ofstream(file) << text;
    PlanCache cache(folder_, device_);
    EXPECT_EQ(cache.find("conv a"), std::nullopt) << text;
    cache.put("conv b", entry_);
    cache.save();
    EXPECT_EQ(PlanCache(folder_, device_).find("conv b"), entry_) << text;
  }
}

TEST_F(PlanCacheTest, WorksWithoutAFolderToWriteTo) {
  std::ofstream(folder_ / "file") << "in the way";
  for (const fs::path& folder : {folder_ / "file" / "below", fs::path()}) {
    PlanCache cache(folder, device_);
    cache.put("conv a", entry_);
    cache.save();
    EXPECT_EQ(cache.find("conv a"), entry_);
    if (!folder.empty()) {
      EXPECT_THAT(cache.trouble(), testing::HasSubstr("file"));
    }
  }
}

TEST_F(PlanCacheTest, FolderFollowsTheEnvironment) {
  const auto saved = [](const char* name) {
    const char* value = getenv(name);
    return std::pair(name, value ? std::optional<std::string>(value) : std::nullopt);
  };
  const std::pair<const char*, std::optional<std::string>> before[] = {
      saved("RACKMARK_PLAN_CACHE"), saved("XDG_CACHE_HOME"), saved("HOME")};
  setenv("RACKMARK_PLAN_CACHE", "/a", 1);
  setenv("XDG_CACHE_HOME", "/b", 1);
  setenv("HOME", "/c", 1);
  EXPECT_EQ(plan_cache_folder(), "/a");
  unsetenv("RACKMARK_PLAN_CACHE");
  EXPECT_EQ(plan_cache_folder(), "/b/rackmark");
  setenv("XDG_CACHE_HOME", "", 1);
  EXPECT_EQ(plan_cache_folder(), "/c/.cache/rackmark");
  unsetenv("HOME");
  EXPECT_EQ(plan_cache_folder(), "");
  for (const auto& [name, value] : before) {
    value ? setenv(name, value->c_str(), 1) : unsetenv(name);
  }
}

}  // namespace
}  // namespace rackmark::worker::cuda

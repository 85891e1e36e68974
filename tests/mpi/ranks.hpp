// The worker as processes: specs, command lines, events, dumped parameters.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

namespace rackmark::mpi_test {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;

inline constexpr const char* kMpirun =
    "timeout -k 5 240 mpirun --allow-run-as-root --oversubscribe --bind-to none --mca pml ob1 "
    "--mca "
    "btl self,vader ";
// Every rank appends to the same file itself: mpirun forwards pieces of 4 KiB, and those of two
// ranks may part a long line.
inline const std::string kWorker = "sh -c 'exec \"$0\" run \"$@\" >>\"$RACKMARK_TEST_OUT\"' " +
                                   std::string(RACKMARK_BIN_DIR) + "/rackmark-worker ";

struct Outcome {
  int status = -1;
  std::string out, err;
  std::vector<json> events(const std::string& type) const {
    std::vector<json> found;
    std::istringstream in(out);
    for (std::string line; std::getline(in, line);) {
      const json event = json::parse(line, nullptr, false);
      if (event.is_object() && event.value("type", "") == type) found.push_back(event);
    }
    return found;
  }
};

class Ranks : public ::testing::Test {
 protected:
  Ranks() {
    std::string name = fs::temp_directory_path() / "rackmark-mpi-XXXXXX";
    folder_ = ::mkdtemp(name.data());
    ::setenv("RACKMARK_TEST_OUT", path("out").c_str(), 1);
  }
  ~Ranks() override { fs::remove_all(folder_); }

  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  // At once: a hundred megabytes of parameters are among them. Empty where there is no file.
  std::string read(const std::string& name) const {
    std::error_code none;
    const auto size = fs::file_size(path(name), none);
    std::string content(none ? 0 : size, '\0');
    std::ifstream file(path(name), std::ios::binary);
    file.read(content.data(), static_cast<std::streamsize>(content.size()));
    content.resize(static_cast<std::size_t>(file.gcount()));
    return content;
  }

  // A small ResNet-50 job with one thread a rank; returns the file's name.
  std::string spec(const std::string& name, int workers,
                   const json& changes = json::object()) const {
    json s = {{"model", "resnet50"},
              {"batch_size", 2},
              {"image_size", 64},
              {"steps", {{"warmup", 0}, {"measured", 3}}},
              {"resources", {{"workers_per_agent", workers}, {"threads_per_worker", 1}}}};
    s.merge_patch(changes);
    std::ofstream(path(name)) << s;
    return path(name);
  }

  Outcome run(const std::string& command) const {
    fs::remove(path("out"));
    const int status =
        std::system((command + " >>" + path("out") + " 2>" + path("err") + " </dev/null").c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read("out"),
            read("err")};
  }

  // All trainable parameters by name.
  std::map<std::string, std::vector<float>> dumped(const std::string& name) const {
    const std::string bytes = read(name);
    const json index = json::parse(read(name + ".json"));
    std::map<std::string, std::vector<float>> parameters;
    for (const json& p : index.at("parameters")) {
      const auto* first =
          reinterpret_cast<const float*>(bytes.data()) + p.at("offset").get<std::size_t>();
      parameters[p.at("name")] = {first, first + p.at("elements").get<std::size_t>()};
    }
    return parameters;
  }

  // Worst relative L2 distance of any parameter; `bitwise` tells whether all are the same bits.
  double distance(const std::string& a, const std::string& b, bool* bitwise) const {
    const auto left = dumped(a), right = dumped(b);
    EXPECT_FALSE(left.empty());
    EXPECT_EQ(left.size(), right.size());
    *bitwise = left == right;
    double worst = 0;
    for (const auto& [name, values] : left) {
      const auto& others = right.at(name);
      double difference = 0, length = 0;
      for (std::size_t i = 0; i < values.size(); ++i) {
        const double one = values[i], apart = one - others.at(i);
        difference += apart * apart;
        length += one * one;
      }
      EXPECT_TRUE(std::isfinite(difference)) << name;
      worst = std::max(worst, std::sqrt(difference / length));
    }
    return worst;
  }

  std::string folder_;
};

}  // namespace rackmark::mpi_test

// The lines that readers of tf_cnn_benchmarks look for.
#include "worker/train/tf_output.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <regex>
#include <sstream>

namespace rackmark::worker {
namespace {

std::vector<std::string> print(const JobSpec& spec, std::int64_t ranks, int steps) {
  char* text = nullptr;
  std::size_t size = 0;
  std::FILE* out = ::open_memstream(&text, &size);
  TfOutput tf(out, spec, ranks, 0);
  tf.header();
  tf.warming_up();
  tf.done_warm_up();
  for (int i = 0; i < steps; ++i) tf.step(i % 2 == 0 ? 0.5 : 0.25, 6.9);
  tf.total(1234.567);
  std::fclose(out);
  std::vector<std::string> lines;
  std::istringstream in(std::string(text, size));
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  std::free(text);
  return lines;
}

JobSpec spec() {
  JobSpec s;
  s.model = "resnet50";
  s.batch_size = 32;
  s.variable_update = VariableUpdate::kParameterServer;
  s.steps.measured = 100;
  return s;
}

TEST(TfOutput, LooksLikeTheOriginal) {
  const std::vector<std::string> wanted = {
      R"(Rackmark:    \d+\.\d+\.\d+)",
      R"(Model:       resnet50)",
      R"(Dataset:     imagenet \(synthetic\))",
      R"(Mode:        training)",
      R"(SingleSess:  False)",
      R"(Batch size:  64 global)",
      R"(             32 per device)",
      R"(Num batches: 100)",
      R"(Num epochs:  0\.00)",
      R"(Devices:     \['/cpu:0', '/cpu:1'\])",
      R"(NUMA bind:   False)",
      R"(Data format: NCHW)",
      R"(Optimizer:   momentum)",
      R"(Variables:   parameter_server)",
      R"(==========)",
      R"(Generating training model)",
      R"(Running warm up)",
      R"(Done warm up)",
      R"(Step\tImg/sec\ttotal_loss)",
      R"(1\timages/sec: 128\.0 \+/- 0\.0 \(jitter = 0\.0\)\t6\.900)",
      R"(10\timages/sec: 170\.7 \+/- 20\.2 \(jitter = 94\.9\)\t6\.900)",
      R"(20\timages/sec: 170\.7 \+/- 14\.3 \(jitter = 94\.9\)\t6\.900)",
      R"(-{64})",
      R"(total images/sec: 1234\.57)",
      R"(-{64})",
  };
  const auto lines = print(spec(), 2, 25);
  ASSERT_EQ(lines.size(), wanted.size());
  for (std::size_t i = 0; i < lines.size(); ++i) {
    EXPECT_TRUE(std::regex_match(lines[i], std::regex(wanted[i]))) << lines[i] << "\n" << wanted[i];
  }
}

TEST(TfOutput, HasExactlyOneTotalForTheUsualExpressions) {
  int totals = 0;
  for (const std::string& line : print(spec(), 1, 1)) {
    std::smatch found;
    if (!std::regex_search(line, found, std::regex(R"(total images/sec: (\S+))"))) continue;
    ++totals;
    EXPECT_DOUBLE_EQ(std::stod(found[1]), 1234.57);
  }
  EXPECT_EQ(totals, 1);
}

}  // namespace
}  // namespace rackmark::worker

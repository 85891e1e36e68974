// The choice of engines, for an H200 that is only described (h200.json): cuDNN builds its plans
// without a GPU, so what would fail there fails here. convolution_survey goes through all networks.
#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "asked_convolutions.hpp"
#include "worker/backend/backend.hpp"
#include "worker/backend/cuda/device/convolution_planner.hpp"
#include "worker/backend/cuda/device/errors.hpp"
#include "worker/backend/cuda/device/nvjpeg_decoder.hpp"
#include "worker/models/registry.hpp"

namespace rackmark::worker::cuda {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

const EngineTarget& h200() {
  static const EngineTarget target = [] {
    std::stringstream json;
    json << std::ifstream(RACKMARK_SOURCE_DIR "/tests/gpu/h200.json").rdbuf();
    return EngineTarget::described(json.str());
  }();
  return target;
}

// ResNet-50's 3x3 of the first stage.
ConvolutionTask a_task(const ConvolutionKind& kind, ConvolutionPass pass) {
  return {.pass = pass,
          .type = kind.type,
          .arithmetic = kind.arithmetic,
          .images = 256,
          .channels = 64,
          .height = 56,
          .width = 56,
          .out = 64,
          .kernel_h = 3,
          .kernel_w = 3,
          .stride = 1,
          .pad_h = 1,
          .pad_w = 1,
          .x_stride = 64,
          .y_stride = 64};
}

// One of each sort of a net's tasks: a few seconds instead of minutes.
std::vector<ConvolutionTask> sample(const std::string& model, const ConvolutionKind& kind) {
  const auto all = convolutions_of(build_model(model), 256, kind);
  using Sort = std::tuple<ConvolutionPass, std::vector<bool>, int, int, int>;
  std::map<Sort, ConvolutionTask> sorts;
  for (const auto& t : all) {
    const std::vector<bool> ways{t.bias,       t.residual, t.accumulate, t.y_stride == t.out,
                                 t.statistics, t.normed,   t.norm_sums};
    sorts.try_emplace({t.pass, ways, t.kernel_h, t.kernel_w, t.stride}, t);
  }
  std::vector<ConvolutionTask> tasks;
  for (const auto& [sort, task] : sorts) tasks.push_back(task);
  return tasks;
}

// All kinds in one case: each case is a process, and cuDNN takes most of a second to load.
TEST(Engines, EverySortOfConvolutionHasAReadyMadeEngine) {
  for (const auto& kind : kConvolutionKinds) {
    for (const auto& task : sample("resnet50", kind)) {
      const auto candidates = convolution_candidates(task, h200());
      const bool is_first = task.channels < 16;
      if (is_first && task.statistics && candidates.empty()) continue;  // a kernel of ours adds up
      ASSERT_FALSE(candidates.empty()) << task_text(task);
      EXPECT_LE(candidates.size(), kTimedCandidates);
      for (const auto& candidate : candidates) {
        EXPECT_FALSE(candidate.compiled_at_run_time) << task_text(task) << ": " << candidate.name();
        EXPECT_LE(candidate.workspace_bytes(), workspace_limit(task.type, task.arithmetic))
            << task_text(task) << ": " << candidate.name();
      }
    }
  }
}

// What the device adds around the engine depends on this.
TEST(Engines, FormsAreThoseThatAreServed) {
  const auto form = [](const ConvolutionTask& task) {
    return convolution_candidates(task, h200()).at(0).form;
  };
  for (const auto& kind : kConvolutionKinds) {
    const bool narrow = kind.type != Type::kFloat;
    ConvolutionTask forward = a_task(kind, ConvolutionPass::kForward);
    EXPECT_EQ(form(forward), ConvolutionForm::kWhole);
    forward.bias = forward.relu = forward.residual = true;
    EXPECT_EQ(form(forward), narrow ? ConvolutionForm::kNarrowBias : ConvolutionForm::kWhole);
    if (kind.type == Type::kHalf) {  // the only type with ready-made sums
      ConvolutionTask summed = a_task(kind, ConvolutionPass::kForward);
      summed.statistics = true;
      EXPECT_EQ(form(summed), ConvolutionForm::kWhole);
      summed.normed = true;
      EXPECT_EQ(form(summed), ConvolutionForm::kWhole);
      ConvolutionTask weights = a_task(kind, ConvolutionPass::kBackwardWeights);
      weights.normed = true;
      EXPECT_EQ(form(weights), ConvolutionForm::kNarrowGradient);
      ConvolutionTask masked = a_task(kind, ConvolutionPass::kBackwardData);
      masked.norm_sums = true;
      EXPECT_EQ(form(masked), ConvolutionForm::kWhole);
    }
    ConvolutionTask data = a_task(kind, ConvolutionPass::kBackwardData);
    data.accumulate = true;
    EXPECT_EQ(form(data), ConvolutionForm::kWhole);
    EXPECT_EQ(form(a_task(kind, ConvolutionPass::kBackwardWeights)),
              narrow ? ConvolutionForm::kNarrowGradient : ConvolutionForm::kWhole);
  }
}

// A driver, or its stand-in: without one cuDNN offers no engine that it would have to compile.
void open_driver() {
  if (dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL) != nullptr) return;
  ASSERT_NE(dlopen(RACKMARK_DRIVER_STAND_IN, RTLD_NOW | RTLD_GLOBAL), nullptr) << dlerror();
}

// With residual and ReLU.
ConvolutionTask integer_task() {
  ConvolutionTask task = a_task(kIntegers, ConvolutionPass::kForward);
  task.bias = task.relu = task.residual = true;
  task.residual_stride = 64;
  return task;
}

// cuDNN has none ready made for them.
TEST(Engines, IntegersAreServedByEnginesThatAreCompiled) {
  open_driver();
  ConvolutionTask in_concat = integer_task(), narrow = in_concat, first = in_concat,
                  odd = in_concat;
  in_concat.y_stride = 96;
  narrow.y_type = narrow.residual_type = Type::kHalf;
  first.channels = static_cast<int>(first.x_stride = 16);
  odd.images = 1, odd.stride = 2, odd.out = 24, odd.kernel_w = 7, odd.pad_w = 3;
  odd.y_stride = 24, odd.residual = odd.relu = false;
  for (const auto& task : {in_concat, narrow, first, odd}) {
    const auto candidates = convolution_candidates(task, h200());
    ASSERT_FALSE(candidates.empty()) << task_text(task);
    std::set<std::string> forms;
    for (const auto& candidate : candidates) {
      EXPECT_TRUE(candidate.compiled_at_run_time) << candidate.name();
      forms.insert(form_name(candidate.form));
    }
    const bool strided = task.y_stride != task.out;
    EXPECT_EQ(forms, (strided ? std::set<std::string>{"copied_result", "whole"}
                              : std::set<std::string>{"whole"}));
  }
  EXPECT_EQ(
      task_text(narrow),
      "conv forward int8 256x64x56x56:64 -> 64:64 k3x3 s1 p1,1 +residual of half:64 +bias +relu "
      "as half");
}

std::vector<EngineOffer> all_offers(const ConvolutionTask& task, ConvolutionForm form) {
  const Graph graph = convolution_graph(task, form, h200());
  std::vector<EngineOffer> offers;
  for (const auto mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B, CUDNN_HEUR_MODE_FALLBACK}) {
    std::string refusal;
    for (auto& offer : offered_engines(graph, h200(), mode, 100, refusal)) offers.push_back(offer);
  }
  return offers;
}

// The heuristics do offer engines that break them.
TEST(Engines, ChosenOnesKeepTheRules) {
  for (const auto& kind : kConvolutionKinds) {
    const ConvolutionTask task = a_task(kind, ConvolutionPass::kBackwardWeights);
    const auto candidates = convolution_candidates(task, h200());
    int refused = 0;
    for (const auto& offer : all_offers(task, candidates.at(0).form)) {
      if (keeps_the_rules(offer, task)) continue;
      ++refused;
      for (const auto& candidate : candidates) EXPECT_FALSE(candidate.choice == offer.choice);
    }
    EXPECT_GT(refused, 0) << kind.name;
  }
}

TEST(EngineRules, FullFloatHasNoTensorCores) {
  const ConvolutionTask full = a_task(kConvolutionKinds[0], ConvolutionPass::kForward),
                        tf32 = a_task(kConvolutionKinds[1], ConvolutionPass::kForward);
  const auto noted = [](std::vector<int> notes) { return EngineOffer{.numerical_notes = notes}; };
  EXPECT_FALSE(keeps_the_rules(noted({CUDNN_NUMERICAL_NOTE_TENSOR_CORE}), full));
  EXPECT_FALSE(keeps_the_rules(noted({CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS}), full));
  EXPECT_TRUE(keeps_the_rules(noted({CUDNN_NUMERICAL_NOTE_TENSOR_CORE}), tf32));
  for (const auto& task : {full, tf32}) {
    EXPECT_FALSE(keeps_the_rules(noted({CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC}), task));
    EXPECT_FALSE(keeps_the_rules(noted({CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION}), task));
    EXPECT_TRUE(keeps_the_rules(noted({CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP}), task));
  }
}

class PlannerTest : public testing::Test {
 protected:
  PlannerTest() {
    std::string name = (fs::temp_directory_path() / "planner-XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  ~PlannerTest() override { fs::remove_all(folder_); }
  // The one at `best` takes a millisecond, all others two.
  ConvolutionPlanner::Clock clock(std::size_t best) {
    return
        [this, best](const ConvolutionTask&, const std::vector<ConvolutionCandidate>& candidates) {
          ++asked_;
          TrialTimes times(candidates.size(), 2.0);
          times.at(best) = 1.0;
          return times;
        };
  }
  fs::path folder_;
  int asked_ = 0;
};

TEST_F(PlannerTest, TakesTheFastestAndRemembersIt) {
  for (const auto& kind : kConvolutionKinds) {
    const ConvolutionTask task = a_task(kind, ConvolutionPass::kBackwardWeights);
    const auto candidates = convolution_candidates(task, h200());
    ASSERT_GE(candidates.size(), 2U);
    asked_ = 0;
    {
      PlanCache cache(folder_, "described");
      ConvolutionPlanner planner(h200(), cache, clock(1));
      EXPECT_EQ(planner.choose(task).name(), candidates[1].name());
    }
    PlanCache cache(folder_, "described");
    ConvolutionPlanner planner(h200(), cache, clock(0));
    const auto again = planner.choose(task);
    EXPECT_EQ(again.name(), candidates[1].name());
    EXPECT_EQ(again.workspace_bytes(), candidates[1].workspace_bytes());
    EXPECT_EQ(again.ms, 1.0);
    EXPECT_EQ(asked_, 1) << kind.name;
  }
}

// What was compiled is kept: the plan comes from the file, whatever engine the entry names.
TEST_F(PlannerTest, LoadsWhatWasCompiledBefore) {
  open_driver();
  const ConvolutionTask task = integer_task();
  const std::string key = task_text(task);
  PlanCache cache(folder_, "described");
  const auto chosen = ConvolutionPlanner(h200(), cache, clock(0)).choose(task);
  PlanEntry entry = cache.find(key).value();
  ASSERT_GT(entry.plan.size(), 10'000U);
  EXPECT_EQ(PlanCache(folder_, "described").find(key), std::nullopt);  // not saved yet
  cache.save();
  EXPECT_EQ(PlanCache(folder_, "described").find(key), entry);

  PlanEntry other = entry;
  other.engine = 12345;
  cache.put(key, other);
  const auto loaded = ConvolutionPlanner(h200(), cache, {}).choose(task);
  EXPECT_EQ(loaded.choice.engine, 12345);
  EXPECT_EQ(loaded.workspace_bytes(), chosen.workspace_bytes());
  EXPECT_TRUE(loaded.compiled_at_run_time);

  entry.plan = entry.plan.substr(0, 500);  // built again
  cache.put(key, entry);
  const auto rebuilt = ConvolutionPlanner(h200(), cache, {}).choose(task);
  EXPECT_EQ(rebuilt.name(), chosen.name());
  EXPECT_FALSE(rebuilt.compiled_at_run_time);
  EXPECT_GT(cache.find(key)->plan.size(), 10'000U);  // and kept again
}

TEST_F(PlannerTest, RemembersNothingThatItCouldNotMeasureOrCannotBuild) {
  const ConvolutionTask task = a_task(kConvolutionKinds[2], ConvolutionPass::kForward);
  const auto first = convolution_candidates(task, h200()).at(0).name();
  PlanCache cache(folder_, "described");
  ConvolutionPlanner unmeasured(h200(), cache, [](const auto&, const auto& candidates) {
    return TrialTimes(candidates.size());
  });
  EXPECT_EQ(unmeasured.choose(task).name(), first);
  EXPECT_EQ(cache.find(task_text(task)), std::nullopt);
  for (const PlanEntry& entry : {PlanEntry{.form = "whole", .engine = 12345},
                                 PlanEntry{.form = "of another version", .engine = 0}}) {
    cache.put(task_text(task), entry);
    EXPECT_EQ(ConvolutionPlanner(h200(), cache, {}).choose(task).name(), first);
  }
}

TEST_F(PlannerTest, ErrorsNameLibraryCallAndCode) {
  ConvolutionTask task = a_task(kConvolutionKinds[3], ConvolutionPass::kForward);
  task.height = task.width = 1;
  task.pad_h = task.pad_w = 0;  // no 3x3 fits
  PlanCache cache({}, "");
  try {
    ConvolutionPlanner(h200(), cache, {}).choose(task);
    FAIL() << "an output of no pixels was planned";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("cuDNN: cudnnBackendFinalize: 2"),
                                    HasSubstr("CUDNN_STATUS_BAD_PARAM")));
  }
}

// The clock's rounds: slow ones are seen once, close ones twice, and what fails is left out.
TEST(EngineTrial, KeepsTheShortestTimeOfThoseThatRun) {
  std::vector<std::vector<double>> times{{3.0}, {1.2, 1.0}, {}, {1.1, 1.3}, {1.05, -1}, {9.0}};
  std::vector<std::size_t> seen(times.size()), failures;
  const auto time_one = [&](std::size_t i, const std::optional<double>& best_ms) {
    EXPECT_TRUE(best_ms || i == 0);
    if (i == 5) throw OutOfMemory(1, {0, "a test"});
    const std::size_t turn = seen[i]++;
    if (turn >= times[i].size() || times[i][turn] < 0) throw std::runtime_error("cannot");
    return times[i][turn];
  };
  const auto failed = [&](std::size_t i, const std::string& why) {
    EXPECT_EQ(why, "cannot");
    failures.push_back(i);
  };
  const auto found = compared_times(times.size(), time_one, failed);
  EXPECT_EQ(found, (TrialTimes{3.0, 1.0, std::nullopt, 1.1, std::nullopt, std::nullopt}));
  EXPECT_THAT(seen, testing::ElementsAre(1, 2, 1, 2, 2, 0));
  EXPECT_THAT(failures, testing::ElementsAre(2, 4));
  EXPECT_THROW(compared_times(1, time_one, [](auto...) { throw std::logic_error("device"); }),
               std::logic_error);
}

TEST(CudaDevice, SaysWhyThereIsNone) {
  const std::string why = why_no_cuda_device();
  if (why.empty()) return;  // there is one: device_test
  EXPECT_THAT(why, HasSubstr("CUDA: cudaGetDeviceCount: "));
  EXPECT_THROW(open_cuda_device(), std::runtime_error);
}

TEST(CudaDevice, WithoutNvjpegSaysWhatItLookedFor) {
  for (const char* name : {"libnvjpeg.so.13", "libnvjpeg.so.12"}) {
    if (dlopen(name, RTLD_NOW) != nullptr) return;  // there is one: device_test
  }
  try {
    open_nvjpeg();
    FAIL() << "decoded by nothing";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "no nvJPEG here; looked for libnvjpeg.so.13, libnvjpeg.so.12");
  }
}

}  // namespace
}  // namespace rackmark::worker::cuda

// Which engines cuDNN has for every convolution of every network on a device that is only
// described: nothing is run. A line a task, and what is served by none, or only by an engine that
// is compiled at run time or with another form than the whole one.
//   convolution_survey DEVICE.json [BATCH] [MODEL ...]
// RACKMARK_SURVEY_KIND: fp32, tf32, bf16, fp16 or int8 alone. int8 needs libcuda.so.1 or its
// stand-in (README.md), and seconds a task.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "asked_convolutions.hpp"
#include "worker/backend/cuda/device/convolution_planner.hpp"
#include "worker/models/registry.hpp"

namespace {

using namespace rackmark::worker;
using namespace rackmark::worker::cuda;

struct Totals {
  std::map<std::string, int> by_form;  // of the first candidate
  int tasks = 0, unserved = 0, compiled = 0, over_limit = 0;
};

void survey(const ConvolutionTask& task, const EngineTarget& target, Totals& totals) {
  const auto candidates = convolution_candidates(task, target);
  ++totals.tasks;
  if (candidates.empty()) {
    ++totals.unserved;
    std::printf("NONE  %s\n", task_text(task).c_str());
    return;
  }
  const auto& first = candidates.front();
  ++totals.by_form[form_name(first.form)];
  totals.compiled += first.compiled_at_run_time;
  totals.over_limit += first.workspace_bytes() > workspace_limit(task.type, task.arithmetic);
  std::printf("%4zu  %s: %s%s, %ld MiB\n", candidates.size(), task_text(task).c_str(),
              first.name().c_str(), first.compiled_at_run_time ? " (compiled at run time)" : "",
              static_cast<long>(first.workspace_bytes() >> 20));
}

}  // namespace

int main(int count, char** words) {
  std::ostringstream json;
  json << std::ifstream(count > 1 ? words[1] : "").rdbuf();
  const auto target = EngineTarget::described(json.str());
  const int batch = count > 2 ? std::atoi(words[2]) : 256;
  std::vector<std::string> names(words + std::min(count, 3), words + count);
  if (names.empty()) names = model_names();
  const auto begin = std::chrono::steady_clock::now();
  std::map<std::string, Totals> totals;
  std::vector<ConvolutionKind> kinds(std::begin(kConvolutionKinds), std::end(kConvolutionKinds));
  kinds.push_back(kIntegers);
  if (const char* only = std::getenv("RACKMARK_SURVEY_KIND")) {
    std::erase_if(kinds,
                  [&](const ConvolutionKind& kind) { return std::string(kind.name) != only; });
  }
  for (const auto& kind : kinds) {
    std::set<ConvolutionTask> tasks;
    for (const auto& name : names) {
      const auto* model = find_model(name);
      tasks.merge(
          convolutions_of(build_model(name, model->image_size, model->classes), batch, kind));
    }
    for (const auto& task : tasks) survey(task, target, totals[kind.name]);
  }
  for (const auto& [name, total] : totals) {
    std::printf(
        "%s: %d tasks, %d served by none, %d only by engines compiled at run time, "
        "%d only above the workspace limit; forms:",
        name.c_str(), total.tasks, total.unserved, total.compiled, total.over_limit);
    for (const auto& [form, tasks] : total.by_form) std::printf(" %s %d", form.c_str(), tasks);
    std::puts("");
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::printf("%.1f s\n", took.count());
}

#include "worker/train/profile.hpp"

#include <algorithm>
#include <chrono>
#include <cstdarg>
#include <cstdio>

#include "common/measure/statistics.hpp"

namespace rackmark::worker {
namespace {

using ProfileClock = std::chrono::steady_clock;

constexpr int kFewestPasses = 3, kMostPasses = 9;
constexpr double kSeconds = 20;  // no further pass is begun after
constexpr double kHot = 0.01;    // share of the sum
constexpr std::size_t kTextKept = 120;

double ms_since(ProfileClock::time_point start) {
  return std::chrono::duration<double, std::milli>(ProfileClock::now() - start).count();
}

double middle(std::vector<double> values) { return measure::median(std::move(values)).value_or(0); }

bool is_plain_loops(const std::string& implementation) {
  return implementation.rfind("ref", 0) == 0 || implementation.find(" ref:") != std::string::npos;
}

// An optimiser step that moves no parameter but costs what every other one does.
constexpr SgdStep kStandingStill{.learning_rate = 0, .momentum = 1, .weight_decay = 0};

protocol::ProfileRow row_of(const OpTime& op, double ms, double sum_ms) {
  protocol::ProfileRow row;
  row.layer = op.node.substr(0, kTextKept);
  row.pass = op.pass;
  row.implementation = op.implementation.substr(0, kTextKept);
  row.ms = ms;
  row.share = sum_ms > 0 ? ms / sum_ms : 0;
  if (op.gflop > 0 && ms > 0) row.gflops = op.gflop / ms * 1e3;
  if (op.bytes > 0 && ms > 0) row.gbps = op.bytes / ms * 1e-6;
  row.plain_loops = is_plain_loops(op.implementation);
  return row;
}

void leave_out_cheapest(protocol::ProfileEvent& profile) {
  if (profile.rows.size() <= kProfileRowsKept) return;
  std::vector<double> ms;
  for (const auto& row : profile.rows) ms.push_back(row.ms);
  const auto nth = ms.begin() + static_cast<std::ptrdiff_t>(kProfileRowsKept);
  std::nth_element(ms.begin(), nth, ms.end(), std::greater<>());
  const double least = *nth;
  const std::size_t before = profile.rows.size();
  std::erase_if(profile.rows, [&](const auto& row) { return row.ms <= least; });
  profile.rows_left_out = static_cast<std::int64_t>(before - profile.rows.size());
}

}  // namespace

protocol::ProfileEvent profile_table(const std::vector<std::vector<OpTime>>& passes,
                                     std::vector<double> step_ms) {
  protocol::ProfileEvent profile;
  profile.passes = static_cast<std::int64_t>(passes.size());
  if (passes.empty()) return profile;
  std::vector<double> medians;
  for (std::size_t i = 0; i < passes.front().size(); ++i) {
    std::vector<double> ms;
    for (const auto& pass : passes) ms.push_back(pass.at(i).ms);
    medians.push_back(middle(std::move(ms)));
    profile.sum_ms += medians.back();
  }
  for (std::size_t i = 0; i < medians.size(); ++i) {
    profile.rows.push_back(row_of(passes.front()[i], medians[i], profile.sum_ms));
    const auto& row = profile.rows.back();
    if (row.plain_loops && row.share > kHot) {
      profile.warnings.push_back("plain loops in a hot layer: " + row.layer + " " + row.pass +
                                 " (" + row.implementation + ")");
    }
  }
  profile.step_ms = middle(std::move(step_ms));
  if (profile.step_ms > 0) profile.sum_over_step = profile.sum_ms / profile.step_ms;
  leave_out_cheapest(profile);
  return profile;
}

ProfiledWork training_work(TrainPlan& plan, const Batch& batch) {
  return {.step =
              [&plan, &batch] {
                plan.forward(batch);
                plan.backward();
                plan.update(kStandingStill);
                plan.finish();  // a device is given work and computes on
              },
          .timed_pass = [&plan, &batch] { return plan.profile(batch); }};
}

protocol::ProfileEvent profile_steps(const ProfiledWork& work, BoundMeter* bound) {
  std::vector<std::vector<OpTime>> passes;
  std::vector<double> step_ms;
  if (bound != nullptr) bound->round();
  const auto start = ProfileClock::now();
  for (int pass = 0;
       pass < kMostPasses && (pass < kFewestPasses || ms_since(start) < kSeconds * 1e3); ++pass) {
    const auto step_start = ProfileClock::now();
    work.step();
    step_ms.push_back(ms_since(step_start));
    passes.push_back(work.timed_pass());
    if (bound != nullptr) bound->round();
  }
  protocol::ProfileEvent profile = profile_table(passes, std::move(step_ms));
  if (bound == nullptr) return profile;
  profile.convolution_bound_ms = bound->result().ms;
  if (profile.step_ms > 0)
    profile.convolution_bound_share = *profile.convolution_bound_ms / profile.step_ms;
  return profile;
}

namespace {

__attribute__((format(printf, 2, 3))) void append(std::string& text, const char* format, ...) {
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  text += line;
}

std::string number(const std::optional<double>& value) {
  if (!value) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", *value);
  return text;
}

}  // namespace

std::string profile_text(const protocol::ProfileEvent& profile) {
  auto rows = profile.rows;
  std::stable_sort(rows.begin(), rows.end(),
                   [](const auto& a, const auto& b) { return a.ms > b.ms; });
  std::string text = "Profile: a separate pass after the measured window, median of " +
                     std::to_string(profile.passes) + " passes\n";
  append(text, "%-28s %-17s %10s %7s %9s %7s  %s\n", "layer", "pass", "ms", "share", "GFLOP/s",
         "GB/s", "implementation");
  for (const auto& row : rows) {
    append(text, "%-28s %-17s %10.3f %6.2f%% %9s %7s  %s%s\n", row.layer.c_str(), row.pass.c_str(),
           row.ms, row.share * 100, number(row.gflops).c_str(), number(row.gbps).c_str(),
           row.implementation.c_str(),
           row.plain_loops && row.share > kHot ? "  <-- plain loops" : "");
  }
  if (profile.rows_left_out > 0)
    append(text, "%lld cheaper rows are left out\n", static_cast<long long>(profile.rows_left_out));
  append(text, "sum of all rows %.1f ms, plain step in between %.1f ms, ratio %.3f", profile.sum_ms,
         profile.step_ms, profile.sum_over_step);
  if (profile.window_step_ms) {
    append(text, "; median step of the measured window %.1f ms", *profile.window_step_ms);
  }
  text += '\n';
  if (profile.convolution_bound_ms) {
    append(text, "convolution-only bound %.1f ms, share reached %.3f\n",
           *profile.convolution_bound_ms, profile.convolution_bound_share.value_or(0));
  }
  for (const auto& warning : profile.warnings) text += "warning: " + warning + "\n";
  return text;
}

}  // namespace rackmark::worker

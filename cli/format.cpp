#include "cli/format.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "common/json/described.hpp"

namespace rackmark::cli {
namespace {

std::string with_commas(std::string digits) {
  const std::size_t start = digits.starts_with("-") ? 1 : 0;
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3;
       at > static_cast<std::ptrdiff_t>(start); at -= 3) {
    digits.insert(static_cast<std::size_t>(at), ",");
  }
  return digits;
}

std::string why_no_number(const protocol::JobView& job) {
  switch (job.state) {
    case JobState::kQueued:
      return job.waiting && !job.waiting->detail.empty() ? "waiting: " + job.waiting->detail
                                                         : "waiting";
    case JobState::kRunning:
      return job.runs.empty() ? "running" : words(json::enum_name(job.runs.back().state));
    case JobState::kCancelled:
      return "cancelled";
    default:
      break;
  }
  std::string why = job.outcome ? words(json::enum_name(*job.outcome)) : "failed";
  const std::string reason = words(json::enum_name(job.reason));
  if (job.reason != Reason::kNone && reason != why) why += ": " + reason;
  return why;
}

}  // namespace

std::string rate_text(double rate) {
  // Three digits that mean something; the exact number is in --json and export.
  if (rate < 9.995) return fmt::format("{:.2f}", rate);
  if (rate < 99.95) return fmt::format("{:.1f}", rate);
  return with_commas(fmt::format("{:.0f}", rate));
}

std::string digits_text(double value) {
  return value < 99.95 ? fmt::format("{:.3g}", value) : with_commas(fmt::format("{:.0f}", value));
}

std::string percent_text(double fraction) {
  const double percent = fraction * 100;
  return fmt::format("{:.{}f} %", percent, std::abs(percent) < 0.095 ? 2 : 1);
}

std::string spread_text(const measure::Spread& spread, std::int64_t runs) {
  const std::string n =
      "(n=" + std::to_string(runs) + (spread.kind == "steps" ? ", within the run)" : ")");
  if (!spread.value) return "spread not available " + n;
  return "±" + percent_text(*spread.value) + " " + n;
}

std::string headline_text(const measure::Headline& headline) {
  if (!headline.images_per_second) return "no number";
  return rate_text(*headline.images_per_second) + " img/s " +
         spread_text(headline.spread, headline.runs);
}

std::string job_number_text(const protocol::JobView& job) {
  return job.headline.images_per_second ? headline_text(job.headline) : why_no_number(job);
}

std::string milliseconds_text(std::optional<double> ms) {
  if (!ms) return "not available";
  if (*ms < 99.95) return fmt::format("{:.1f} ms", *ms);
  return with_commas(fmt::format("{:.0f}", *ms)) + " ms";
}

std::string duration_text(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::llround(std::max(0.0, seconds)));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} m {:02} s", whole / 60, whole % 60);
  if (whole < 86400) return fmt::format("{} h {:02} m", whole / 3600, whole % 3600 / 60);
  return fmt::format("{} d {:02} h", whole / 86400, whole % 86400 / 3600);
}

std::string bytes_text(double bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  std::size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < std::size(kUnits)) {
    bytes /= 1024;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", bytes, unit == 0 || bytes >= 100 ? 0 : 1, kUnits[unit]);
}

std::string count_text(std::int64_t n) { return with_commas(std::to_string(n)); }

std::string words(std::string_view wire_name) {
  std::string out(wire_name);
  std::replace(out.begin(), out.end(), '_', ' ');
  return out;
}

std::string time_text(std::string_view rfc3339) {
  std::string out(rfc3339.substr(0, 19));
  if (out.size() == 19) {
    out[10] = ' ';
    out += 'Z';
  }
  return out;
}

std::string printable(std::string_view text) {
  std::string out(text);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto c = static_cast<unsigned char>(out[i]);
    // 0xC2 0x80..0x9F are the control characters above ASCII; 0x9B alone begins a sequence there.
    const bool c1 = c == 0xc2 && i + 1 < out.size() &&
                    static_cast<unsigned char>(out[i + 1]) >= 0x80 &&
                    static_cast<unsigned char>(out[i + 1]) < 0xa0;
    if (c1) out.replace(i, 2, "?");
    if ((c < 0x20 && c != '\t') || c == 0x7f) out[i] = '?';
  }
  return out;
}

std::string progress_text(const protocol::JobView& job, int width) {
  if (job.runs.empty()) return printable(job_number_text(job));
  const protocol::RunView& run = job.runs.back();
  const protocol::RunProgress& progress = run.progress;
  std::string text = fmt::format("{:<10}", words(json::enum_name(run.state)));
  const bool counts = progress.steps_planned.value_or(0) > 0 &&
                      (run.state == RunState::kWarmup || run.state == RunState::kMeasuring);
  if (counts) {
    const double done = std::clamp(
        static_cast<double>(progress.steps_done) / static_cast<double>(*progress.steps_planned),
        0.0, 1.0);
    const int bar = std::clamp(width - 60, 8, 40);
    const int full = static_cast<int>(done * bar);
    text += " [" + std::string(static_cast<std::size_t>(full), '#') +
            std::string(static_cast<std::size_t>(bar - full), '.') + "]" +
            fmt::format(" {}/{}", progress.steps_done, *progress.steps_planned);
  } else if (progress.steps_done > 0) {
    text += fmt::format(" step {}", progress.steps_done);
  }
  if (progress.images_per_second) text += "  " + rate_text(*progress.images_per_second) + " img/s";
  if (progress.loss) text += fmt::format("  loss {:.3f}", *progress.loss);
  if (run.repetition > 1 || run.attempt > 1) {
    text += fmt::format("  (repetition {}, attempt {})", run.repetition, run.attempt);
  }
  if (static_cast<int>(text.size()) > width) text.resize(static_cast<std::size_t>(width));
  return text;
}

}  // namespace rackmark::cli

#include "cli/follow.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <ostream>
#include <thread>
#include <utility>

#include "cli/format.hpp"
#include "cli/table.hpp"

namespace rackmark::cli {
namespace {

using Steady = std::chrono::steady_clock;

// What was shown last, so that a log file gets a line only when there is news.
class Progress {
 public:
  explicit Progress(Context& context) : context_(context) {}
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void show(const protocol::JobView& job) {
    const std::string head = "job " + std::to_string(job.id) + "  ";
    const std::string text =
        head + progress_text(job, context_.width - static_cast<int>(head.size()) - 1);
    if (context_.progress_bar) {
      context_.err << '\r' << text << "\x1b[K" << std::flush;
      shown_ = true;
      return;
    }
    const std::string phase = phase_of(job);
    const auto now = Steady::now();
    if (phase == phase_ && now - printed_at_ < std::chrono::seconds(10)) return;
    if (text == text_) return;
    phase_ = phase;
    text_ = text;
    printed_at_ = now;
    context_.err << text << std::endl;
  }

  void say(const std::string& line) {
    clear();
    context_.err << line << std::endl;
  }

  void clear() {
    if (shown_) context_.err << "\r\x1b[K" << std::flush;
    shown_ = false;
  }

 private:
  static std::string phase_of(const protocol::JobView& job) {
    if (job.runs.empty()) return json::enum_name(job.state);
    const auto& run = job.runs.back();
    return std::to_string(run.id) + json::enum_name(run.state);
  }

  Context& context_;
  bool shown_ = false;
  std::string phase_, text_;
  Steady::time_point printed_at_{};
};

void print_inference(std::ostream& out, const std::string& precision,
                     const protocol::InferenceView& inference) {
  if (const auto& latency = inference.latency) {
    out << "  latency of a batch: p50 " << milliseconds_text(latency->p50_ms) << ", p90 "
        << milliseconds_text(latency->p90_ms) << ", p95 " << milliseconds_text(latency->p95_ms)
        << ", p99 " << milliseconds_text(latency->p99_ms) << ", longest "
        << milliseconds_text(latency->max_ms) << ", " << latency->count << " batches of "
        << inference.instances << (inference.instances == 1 ? " instance" : " instances") << '\n';
  } else {
    out << "  latency of a batch: not measured, as batches overlap (input.overlap true)\n";
  }
  if (const auto& agreement = inference.agreement) {
    out << "  " << precision << " agrees with fp32: cosine "
        << fmt::format("{:.4f}", agreement->cosine) << " (at least "
        << fmt::format("{:.2f}", agreement->cosine_floor) << "), top-1 "
        << percent_text(agreement->top1) << " of " << agreement->pictures << " pictures\n";
  }
}

// What rank 0's plan has to say: who computes bf16, which layers are int8.
void print_notes(std::ostream& out, const nlohmann::json& environment) {
  const nlohmann::json::json_pointer path("/worker/notes");
  if (!environment.contains(path)) return;
  for (const auto& [name, text] : environment.at(path).items()) {
    if (!text.is_string()) continue;
    out << "  " << printable(name) << ": " << printable(text.get<std::string>()) << '\n';
  }
}

std::string one_decimal(double value) { return fmt::format("{:.1f}", value); }

// Where the steps of each rank went, and who was waited for; several ranks or a server only.
void print_ranks(std::ostream& out, const protocol::ResultView& result) {
  const auto& times = result.rank_times;
  const bool waits = std::any_of(times.begin(), times.end(),
                                 [](const protocol::RankTime& t) { return t.server_wait_ms > 0; });
  if (times.size() < 2 && !waits) return;
  if (!result.exchange.empty()) out << "  exchange: " << printable(result.exchange) << '\n';
  Table table({{"rank", true},
               {"host"},
               {"step ms", true},
               {"input", true},
               {"compute", true},
               {"exposed communication", true},
               {"server", true},
               {"last in", true},
               {"behind at most", true}});
  for (const protocol::RankTime& t : times) {
    const std::string behind =
        t.staleness.empty() ? "" : std::to_string(t.staleness.size() - 1) + " steps";
    table.add({std::to_string(t.rank), printable(t.host), one_decimal(t.step_ms),
               one_decimal(t.input_wait_ms), one_decimal(t.compute_ms),
               one_decimal(t.exposed_communication_ms), one_decimal(t.server_wait_ms),
               percent_text(t.share_last), behind});
  }
  table.print(out);
}

// "GPUs: 612 W, 0.0912 J an image, 10.9 images/s per W, at most 29.1 GiB of memory in use"; what is
// missing is named: "power not available".
void print_gpus(std::ostream& out, const protocol::ResultView& result) {
  if (result.device != "gpu") return;
  const auto say = [](std::optional<double> value, const char* unit, const char* name) {
    return value ? digits_text(*value) + unit : std::string(name) + " not available";
  };
  out << "  GPUs: " << say(result.power_w, " W", "power") << ", "
      << say(result.joules_per_image, " J an image", "energy an image") << ", "
      << say(result.images_per_second_per_watt, " images/s per W", "images/s per W") << ", "
      << (result.peak_gpu_memory_bytes
              ? "at most " + bytes_text(*result.peak_gpu_memory_bytes) + " of memory in use"
              : "memory in use not available")
      << '\n';
}

void print_validity(std::ostream& out, const measure::Validity& validity) {
  out << "  validity: " << json::enum_name(validity.verdict);
  for (const auto& cause : validity.causes) out << "; " << printable(cause);
  const char* before = " (not checked: ";
  for (const auto& name : validity.not_checked) out << std::exchange(before, ", ") << name;
  out << (validity.not_checked.empty() ? "\n" : ")\n");
}

void print_result(Context& context, const protocol::JobView& job) {
  const protocol::ResultView* result = nullptr;
  for (const auto& run : job.runs) {
    if (run.result) result = &*run.result;
  }
  if (!result) return;
  auto& out = context.out;
  out << "  " << result->model << ' ' << words(result->mode) << ' ' << result->precision
      << ", batch " << result->batch_size << ", " << result->ranks
      << (result->ranks == 1 ? " worker" : " workers") << " x " << result->threads_per_worker
      << (result->threads_per_worker == 1 ? " thread" : " threads") << " on "
      << printable(result->agent) << " (" << printable(result->device_class) << "), "
      << words(result->input_kind) << " input\n";
  out << "  step time: median " << milliseconds_text(result->step.median_ms) << ", p95 "
      << milliseconds_text(result->step.p95_ms) << ", longest "
      << milliseconds_text(result->step.max_ms) << ", " << result->steps << " steps\n";
  if (result->inference) print_inference(out, result->precision, *result->inference);
  print_notes(out, result->environment);
  print_ranks(out, *result);
  if (result->first_loss && result->final_loss) {
    out << "  loss: " << rate_text(*result->first_loss) << " -> " << rate_text(*result->final_loss)
        << '\n';
  }
  print_gpus(out, *result);
  if (job.validity) print_validity(out, *job.validity);
  if (result->pictures_broken > 0) {
    out << "  broken pictures left out: " << result->pictures_broken << '\n';
  }
}

}  // namespace

Patience::Patience(Context& context, std::function<void(const std::string&)> say)
    : context_(context), say_(std::move(say)) {}

void Patience::answered() {
  if (silent_since_) say_("the controller is back");
  silent_since_.reset();
}

bool Patience::asks_again(const Error& error) {
  if (error.code != ErrorCode::kUnavailable) return false;
  const auto now = Steady::now();
  if (!silent_since_) say_(printable(error.message) + "; trying again");
  if (now - silent_since_.value_or(now) >= context_.patience) return false;
  if (!silent_since_) silent_since_ = now;
  std::this_thread::sleep_for(context_.poll * 2);
  return true;
}

std::optional<protocol::JobView> follow_job(Context& context, std::int64_t id) {
  Progress progress(context);
  Patience patience(context, [&progress](const std::string& line) { progress.say(line); });
  for (;;) {
    auto job = context.client().call(protocol::kShowJob, id);
    if (!job) {
      if (patience.asks_again(job.error())) continue;
      progress.clear();
      context.fail(job.error());
      return std::nullopt;
    }
    patience.answered();
    if (is_terminal(job->state)) return std::move(*job);
    progress.show(*job);
    std::this_thread::sleep_for(context.poll);
  }
}

void print_outcome(Context& context, const protocol::JobView& job) {
  context.status = exit_status(job.state, job.outcome);
  if (context.json) return context.print_json(job);
  const std::string state = json::enum_name(job.state), number = job_number_text(job);
  context.out << "job " << job.id << ' ' << state;
  // "failed: nan loss" and "cancelled" say the state already.
  if (number.starts_with(state)) {
    context.out << printable(number.substr(state.size()));
  } else {
    context.out << ": " << printable(number);
  }
  context.out << '\n';
  if (!job.detail.empty() && job.detail != state && job.state != JobState::kSucceeded) {
    context.out << "  " << printable(job.detail) << '\n';
  }
  print_result(context, job);
}

}  // namespace rackmark::cli

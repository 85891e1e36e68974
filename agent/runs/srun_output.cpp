#include "agent/runs/srun_output.hpp"

#include <signal.h>

#include <charconv>
#include <cstring>

namespace rackmark::agent {

namespace {

// The number at the start of `text`, which is moved past it.
std::optional<std::int64_t> take_number(std::string_view& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || value < 0) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return value;
}

// srun names signals as strsignal() does, "(core dumped)" may follow. 0: it is none.
std::int64_t signal_named(std::string_view text) {
  for (int signal = 1; signal < NSIG; ++signal) {
    const char* name = ::strsignal(signal);
    if (name != nullptr && text.starts_with(name)) return signal;
  }
  return 0;
}

}  // namespace

TaggedLine parse_labelled_line(std::string_view line, std::string_view stream) {
  std::string_view rest = line;
  while (rest.starts_with(' ')) rest.remove_prefix(1);
  const auto rank = take_number(rest);
  if (!rank || !rest.starts_with(":")) return {-1, std::string(stream), valid_utf8(line)};
  rest.remove_prefix(rest.starts_with(": ") ? 2 : 1);
  return {*rank, std::string(stream), valid_utf8(rest)};
}

std::optional<AbortReport> parse_srun_report(std::span<const std::string> lines) {
  constexpr std::string_view kExited = "Exited with exit code ";
  for (const std::string& line : lines) {
    // srun: error: node2: task 1: Killed      srun: error: node1: tasks 0,2-3: Exited with exit ...
    std::string_view text = line;
    if (!text.starts_with("srun: error: ")) continue;
    const std::size_t at = text.find(": task");
    if (at == std::string_view::npos) continue;
    text.remove_prefix(text.find(' ', at + 2) + 1);
    const auto rank = take_number(text);
    const std::size_t colon = text.find(": ");
    if (!rank || colon == std::string_view::npos) continue;
    text.remove_prefix(colon + 2);
    if (text.starts_with(kExited)) {
      text.remove_prefix(kExited.size());
      if (const auto code = take_number(text)) return AbortReport{*rank, 0, code};
    } else if (const auto signal = signal_named(text); signal != 0) {
      return AbortReport{*rank, signal, std::nullopt};
    }
  }
  return std::nullopt;
}

}  // namespace rackmark::agent

// One log per program: a line is "2026-11-21T02:03:04.567Z warning agent: text" on stderr. Only
// fmt's core is included here; spdlog stays inside log.cpp. Any thread may log.
#pragma once

#include <fmt/core.h>

#include <optional>
#include <string_view>
#include <utility>

namespace rackmark::log {

enum class Level { kDebug, kInfo, kWarning, kError };

// "debug", "info", "warning" or "error".
std::optional<Level> level_from(std::string_view name);

// Call once from main(), before threads start. Without it, lines carry the program name "rackmark".
void start(std::string_view program, Level level);

bool enabled(Level level);
void write(Level level, std::string_view text);

template <class... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::kDebug))
    write(Level::kDebug, fmt::vformat(format, fmt::make_format_args(args...)));
}
template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::kInfo))
    write(Level::kInfo, fmt::vformat(format, fmt::make_format_args(args...)));
}
template <class... Args>
void warning(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kWarning, fmt::vformat(format, fmt::make_format_args(args...)));
}
template <class... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kError, fmt::vformat(format, fmt::make_format_args(args...)));
}

}  // namespace rackmark::log

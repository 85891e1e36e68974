#include "common/clock.hpp"

#include <time.h>

#include <chrono>
#include <cstdio>
#include <cstring>

namespace rackmark {

namespace {

std::int64_t read_ns(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

std::int64_t SystemClock::wall_us() const {
  using namespace std::chrono;
  return duration_cast<microseconds>(system_clock::now().time_since_epoch()).count();
}

std::int64_t SystemClock::monotonic_ns() const { return read_ns(CLOCK_MONOTONIC); }
std::int64_t BootClock::monotonic_ns() const { return read_ns(CLOCK_BOOTTIME); }

std::string rfc3339(std::int64_t wall_us) {
  const std::int64_t ms = (wall_us >= 0 ? wall_us : wall_us - 999) / 1000;
  const std::int64_t fraction = ((ms % 1000) + 1000) % 1000;
  const time_t seconds = static_cast<time_t>((ms - fraction) / 1000);
  tm parts{};
  gmtime_r(&seconds, &parts);
  char text[64];
  std::snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", parts.tm_year + 1900,
                parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                static_cast<int>(fraction));
  return text;
}

std::optional<std::int64_t> parse_rfc3339(std::string_view text) {
  const std::string copy(text);
  tm parts{};
  int used = 0;
  if (std::sscanf(copy.c_str(), "%4d-%2d-%2d%*1[Tt ]%2d:%2d:%2d%n", &parts.tm_year, &parts.tm_mon,
                  &parts.tm_mday, &parts.tm_hour, &parts.tm_min, &parts.tm_sec, &used) != 6 ||
      used < 19) {
    return std::nullopt;
  }
  if (parts.tm_mon < 1 || parts.tm_mon > 12 || parts.tm_mday < 1 || parts.tm_mday > 31 ||
      parts.tm_hour > 23 || parts.tm_min > 59 || parts.tm_sec > 60) {
    return std::nullopt;
  }
  parts.tm_year -= 1900;
  parts.tm_mon -= 1;
  const char* rest = copy.c_str() + used;
  double fraction = 0;
  if (*rest == '.') {
    int digits = 0;
    if (std::sscanf(rest, "%lf%n", &fraction, &digits) != 1) return std::nullopt;
    rest += digits;
  }
  std::int64_t offset_s = 0;
  if (*rest == 'Z' || *rest == 'z') {
    ++rest;
  } else {
    char sign[2] = {};
    int hours = 0, minutes = 0, length = 0;
    if (std::sscanf(rest, "%1[+-]%2d:%2d%n", sign, &hours, &minutes, &length) != 3 || length != 6) {
      return std::nullopt;
    }
    offset_s = (sign[0] == '-' ? -1 : 1) * (hours * 3600LL + minutes * 60LL);
    rest += length;
  }
  if (*rest != '\0') return std::nullopt;
  const std::int64_t seconds = timegm(&parts) - offset_s;
  return seconds * 1'000'000 + static_cast<std::int64_t>(fraction * 1e6 + 0.5);
}

}  // namespace rackmark

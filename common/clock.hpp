// Time, as an argument, so that tests can hold it still.
//
// Wall time is integer microseconds UTC (what SQLite stores); monotonic time is nanoseconds of
// CLOCK_MONOTONIC (deadlines, step times). JSON carries RFC 3339 with milliseconds and Z.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace rackmark {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual std::int64_t wall_us() const = 0;
  virtual std::int64_t monotonic_ns() const = 0;
};

class SystemClock : public Clock {
 public:
  std::int64_t wall_us() const override;
  std::int64_t monotonic_ns() const override;
};

// Its monotonic time goes on while the host is suspended (CLOCK_BOOTTIME): for what is counted
// against another host's clock, such as a lease.
class BootClock : public SystemClock {
 public:
  std::int64_t monotonic_ns() const override;
};

class ManualClock : public Clock {
 public:
  explicit ManualClock(std::int64_t wall_us = 1'750'000'000'000'000) : wall_us_(wall_us) {}
  std::int64_t wall_us() const override { return wall_us_; }
  std::int64_t monotonic_ns() const override { return monotonic_ns_; }
  void advance_s(double seconds) {
    wall_us_ += static_cast<std::int64_t>(seconds * 1e6);
    monotonic_ns_ += static_cast<std::int64_t>(seconds * 1e9);
  }
  void set_wall_s(double forward) {  // as somebody, or NTP, sets it; back where it is negative
    wall_us_ += static_cast<std::int64_t>(forward * 1e6);
  }

 private:
  std::int64_t wall_us_, monotonic_ns_ = 1'000'000'000;
};

std::string rfc3339(std::int64_t wall_us);  // "2026-11-21T02:03:04.567Z"
std::optional<std::int64_t> parse_rfc3339(
    std::string_view text);  // Z or an offset; nullopt when it is not one

}  // namespace rackmark

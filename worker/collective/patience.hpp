// When a thread that waits for messages should sleep for a while, so that others get its core.
#pragma once

#include <cstdint>

namespace rackmark::worker {

// Of one thread that yields after every look that found nothing.
class Patience {
 public:
  static constexpr std::int64_t kPatienceNs = 4'000'000;  // so long it yields and yields
  static constexpr std::int64_t kBusyNs =
      200'000;  // between two yields: it has had something to do
  static constexpr std::int64_t kRestNs = 500'000;

  bool is_over(std::int64_t now_ns) {
    if (now_ns - yielded_ns_ > kBusyNs) since_ns_ = now_ns;
    return now_ns - since_ns_ >= kPatienceNs;
  }
  void yielded(std::int64_t now_ns) { yielded_ns_ = now_ns; }
  void begin_anew(std::int64_t now_ns) { since_ns_ = yielded_ns_ = now_ns; }

 private:
  std::int64_t since_ns_ = 0, yielded_ns_ = 0;
};

// The threads of a host that run or would like to, from the text of /proc/loadavg; 0: not said.
std::int64_t runnable_threads(const char* loadavg);

}  // namespace rackmark::worker

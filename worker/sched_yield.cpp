// Stands in for the C library's sched_yield() in this program and in what it loads. Open MPI calls
// it after every look for messages that found none.
//
// On Linux 6.18 a thread that yields gives up the rest of its slice for good: beside a busy one it
// gets 0.2 % of a core; and one that yields all the time can keep another from its core for half a
// minute, without being taken off it once. 7 ranks on 2 cores took 0.8 to 10 s to start, beside
// other work up to 35; with this 0.8 to 1.6 s and up to 2.7. A thread that sleeps takes nothing.
// Where no thread of the host wants for a core nobody sleeps.
#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <array>

#include "worker/collective/patience.hpp"

namespace {

using rackmark::worker::Patience;

std::int64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * std::int64_t{1'000'000'000} + now.tv_nsec;
}

bool is_crowded() {  // takes 10 us
  static const long cores = ::sysconf(_SC_NPROCESSORS_ONLN);
  const int file = ::open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  std::array<char, 128> text{};
  const bool read = ::read(file, text.data(), text.size() - 1) > 0;
  ::close(file);
  return read && rackmark::worker::runnable_threads(text.data()) > cores;
}

void rest() {
  const timespec length{.tv_sec = 0, .tv_nsec = Patience::kRestNs};
  ::nanosleep(&length, nullptr);
}

}  // namespace

extern "C" int sched_yield() noexcept {
  thread_local Patience patience;
  if (patience.is_over(now_ns())) {
    if (is_crowded()) rest();
    patience.begin_anew(now_ns());
    return 0;
  }
  const int code = static_cast<int>(::syscall(SYS_sched_yield));
  patience.yielded(now_ns());
  return code;
}

// How long this agent may go on without an answer. Counted on its own monotonic clock, which goes
// on while the host is suspended (BootClock), from the moment at which the last answered sync was
// sent. Any thread may call.
#pragma once

#include <algorithm>
#include <cstdint>
#include <mutex>

namespace rackmark::agent {

class Lease {
 public:
  // A sync that was sent at `sent_ns` has been answered; the controller says how long it trusts us.
  void answered(std::int64_t sent_ns, double lease_s) {
    const std::lock_guard lock(mutex_);
    last_ns_ = std::max(last_ns_, sent_ns);
    lease_s_ = lease_s;
  }
  // True once 5/6 of the lease have passed: the workers must be ended now, since the controller
  // gives the run to another host at 5/4.
  bool must_fence(std::int64_t now_ns) const {
    const std::lock_guard lock(mutex_);
    return last_ns_ != 0 && static_cast<double>(now_ns - last_ns_) * 1e-9 > lease_s_ * 5 / 6;
  }
  double lease_s() const {
    const std::lock_guard lock(mutex_);
    return lease_s_;
  }

 private:
  mutable std::mutex mutex_;
  std::int64_t last_ns_ = 0;
  double lease_s_ = 60;
};

}  // namespace rackmark::agent

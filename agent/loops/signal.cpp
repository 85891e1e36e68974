#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

#include "agent/loops/session.hpp"
#include "common/net/log.hpp"

namespace rackmark::agent {

namespace asio = boost::asio;

std::chrono::milliseconds Backoff::next() {
  const auto base = next_;
  next_ = std::min(next_ * 2, most_);
  std::uniform_int_distribution<std::int64_t> jitter(0, base.count() / 2);
  return base + std::chrono::milliseconds(jitter(random_));
}

void Complaints::about(const std::string& text) {
  if (said_.insert(text).second) log::warning("{}", text);
}

bool Complaints::settle() { return !std::exchange(said_, {}).empty(); }

void Signal::set() {
  set_ = true;
  timer_.cancel();
}

asio::awaitable<bool> Signal::wait(std::chrono::milliseconds limit) {
  if (!set_) {
    timer_.expires_after(limit);
    boost::system::error_code ended;
    co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, ended));
  }
  const bool was_set = set_;
  set_ = false;
  co_return was_set;
}

}  // namespace rackmark::agent

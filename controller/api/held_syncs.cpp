#include "controller/api/held_syncs.hpp"

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace rackmark::api {
namespace asio = boost::asio;

asio::awaitable<void> HeldSyncs::hold(std::int64_t agent_id, std::chrono::milliseconds longest) {
  if (closed_) co_return;
  release(agent_id);
  asio::steady_timer timer(executor_, longest);
  held_[agent_id] = &timer;
  boost::system::error_code ec;  // cancelled = released; else the time is over: both are an answer
  co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ec));
  if (const auto it = held_.find(agent_id); it != held_.end() && it->second == &timer) {
    held_.erase(it);
  }
}

void HeldSyncs::release(std::int64_t agent_id) {
  const auto it = held_.find(agent_id);
  if (it == held_.end()) return;
  it->second->cancel();
  held_.erase(it);
}

void HeldSyncs::close() {
  closed_ = true;
  for (auto& [id, timer] : held_) timer->cancel();
  held_.clear();
}

}  // namespace rackmark::api

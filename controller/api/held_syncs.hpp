// Syncs of agents that wait for something to do. At most one an agent: a newer one, or a wake,
// answers the held one at once. Network thread only.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <map>

namespace rackmark::api {

class HeldSyncs {
 public:
  explicit HeldSyncs(boost::asio::any_io_executor executor) : executor_(std::move(executor)) {}

  // Returns after `longest`, or as soon as release(agent) or close() is called.
  boost::asio::awaitable<void> hold(std::int64_t agent_id, std::chrono::milliseconds longest);
  void release(std::int64_t agent_id);  // nothing when none is held
  void close();                         // releases all, and holds none any more
  std::size_t size() const { return held_.size(); }

 private:
  boost::asio::any_io_executor executor_;
  std::map<std::int64_t, boost::asio::steady_timer*> held_;
  bool closed_ = false;
};

}  // namespace rackmark::api

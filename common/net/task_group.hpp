// Every coroutine that a program starts belongs to a TaskGroup: it has a name, its exception is
// logged, and stop() ends it within a bounded time. Nothing is detached.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

namespace rackmark::net {

// Use from the one thread of `executor`. The group may be destroyed while tasks run only after the
// executor's context has stopped for good.
class TaskGroup {
 public:
  explicit TaskGroup(boost::asio::any_io_executor executor);
  ~TaskGroup();
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;

  // After stop() began, new tasks are dropped unstarted.
  void spawn(std::string name, boost::asio::awaitable<void> task);
  std::size_t size() const;

  // Waits `grace` for tasks to end by themselves, then cancels those left and waits `bound` more.
  // True when all are gone; the names of those that are not are logged.
  boost::asio::awaitable<bool> stop(std::chrono::milliseconds grace,
                                    std::chrono::milliseconds bound);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// co_await sleep_for(100ms): ends early with an exception when the task is cancelled.
boost::asio::awaitable<void> sleep_for(std::chrono::milliseconds duration);

}  // namespace rackmark::net

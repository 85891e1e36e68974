#include "common/net/task_group.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/system/system_error.hpp>
#include <exception>
#include <list>
#include <utility>

#include "common/net/log.hpp"

namespace rackmark::net {
namespace asio = boost::asio;

namespace {

struct Task {
  std::string name;
  asio::cancellation_signal cancel;
};

std::string what(const std::exception_ptr& broken) {
  try {
    std::rethrow_exception(broken);
  } catch (const boost::system::system_error& error) {
    if (error.code() == asio::error::operation_aborted) return "";  // cancelled: the wanted end
    return error.what();
  } catch (const std::exception& error) {
    return error.what();
  } catch (...) {
    return "unknown exception";
  }
}

}  // namespace

struct TaskGroup::State {
  explicit State(asio::any_io_executor ex) : executor(std::move(ex)), changed(executor) {
    changed.expires_at(asio::steady_timer::time_point::max());
  }
  asio::any_io_executor executor;
  asio::steady_timer changed;  // cancelled whenever a task ends
  std::list<Task> tasks;
  bool stopping = false;
};

TaskGroup::TaskGroup(asio::any_io_executor executor)
    : state_(std::make_shared<State>(std::move(executor))) {}

TaskGroup::~TaskGroup() = default;

std::size_t TaskGroup::size() const { return state_->tasks.size(); }

void TaskGroup::spawn(std::string name, asio::awaitable<void> task) {
  if (state_->stopping) return;
  const auto it = state_->tasks.emplace(state_->tasks.end());
  it->name = std::move(name);
  // The handler shares the state, so a task that ends late finds it.
  auto ended = [state = state_, it](std::exception_ptr broken) {
    if (broken) {
      if (const std::string text = what(broken); !text.empty()) {
        log::error("{} ended: {}", it->name, text);
      }
    }
    state->tasks.erase(it);
    state->changed.cancel();
  };
  asio::co_spawn(state_->executor, std::move(task),
                 asio::bind_cancellation_slot(it->cancel.slot(), std::move(ended)));
}

namespace {

// Until `tasks` is empty or the time is over; true when it is empty.
asio::awaitable<bool> wait_empty(const std::list<Task>& tasks, asio::steady_timer& changed,
                                 std::chrono::milliseconds bound) {
  const auto end = std::chrono::steady_clock::now() + bound;
  while (!tasks.empty() && std::chrono::steady_clock::now() < end) {
    changed.expires_at(end);
    boost::system::error_code ignored;  // cancelled = a task ended; else time is over: both loop
    co_await changed.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
  co_return tasks.empty();
}

}  // namespace

asio::awaitable<bool> TaskGroup::stop(std::chrono::milliseconds grace,
                                      std::chrono::milliseconds bound) {
  auto state = state_;
  state->stopping = true;
  bool empty = co_await wait_empty(state->tasks, state->changed, grace);
  if (empty) co_return true;
  for (auto it = state->tasks.begin(); it != state->tasks.end();) {
    auto& task = *it++;  // emit may end the task and erase it
    task.cancel.emit(asio::cancellation_type::terminal);
  }
  empty = co_await wait_empty(state->tasks, state->changed, bound);
  for (const auto& task : state->tasks) log::warning("{} did not stop in time", task.name);
  co_return empty;
}

asio::awaitable<void> sleep_for(std::chrono::milliseconds duration) {
  asio::steady_timer timer(co_await asio::this_coro::executor, duration);
  co_await timer.async_wait(asio::use_awaitable);
}

}  // namespace rackmark::net

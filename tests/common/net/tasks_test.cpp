#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <thread>

#include "common/net/offload.hpp"
#include "common/net/task_group.hpp"

namespace rackmark::net {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;

void run(asio::io_context& context, asio::awaitable<void> task) {
  std::exception_ptr broken;
  asio::co_spawn(context, std::move(task), [&](std::exception_ptr error) { broken = error; });
  context.run_for(std::chrono::seconds(10));
  if (broken) std::rethrow_exception(broken);
}

asio::awaitable<void> offload_there(asio::any_io_executor pool, std::string* got, bool* elsewhere,
                                    bool* home) {
  const auto here = std::this_thread::get_id();
  auto work = [here, elsewhere, text = std::make_unique<std::string>("moved")] {
    *elsewhere = std::this_thread::get_id() != here;
    return *text;
  };
  *got = co_await offload(std::move(pool), std::move(work));
  *home = std::this_thread::get_id() == here;
}

TEST(Offload, RunsElsewhereAndResumesAtHome) {
  asio::io_context context;
  asio::thread_pool pool(1);
  std::string got;
  bool elsewhere = false, home = false;
  run(context, offload_there(pool.get_executor(), &got, &elsewhere, &home));
  pool.join();
  EXPECT_EQ(got, "moved");
  EXPECT_TRUE(elsewhere);
  EXPECT_TRUE(home);
}

asio::awaitable<void> offload_throwing(asio::any_io_executor pool) {
  auto work = [] { throw std::runtime_error("disk"); };
  co_await offload(std::move(pool), std::move(work));
}

TEST(Offload, ExceptionsComeBack) {
  asio::io_context context;
  asio::thread_pool pool(1);
  EXPECT_THROW(run(context, offload_throwing(pool.get_executor())), std::runtime_error);
  pool.join();
}

asio::awaitable<void> sleeper(milliseconds duration, int* ended) {
  co_await sleep_for(duration);
  ++*ended;
}

asio::awaitable<void> throwing() {
  co_await sleep_for(milliseconds(1));
  throw std::runtime_error("expected in this test");
}

asio::awaitable<void> stop(TaskGroup* group, milliseconds grace, bool* all_gone) {
  *all_gone = co_await group->stop(grace, milliseconds(500));
}

TEST(TaskGroup, StopLetsTasksEndAndCancelsTheRest) {
  asio::io_context context;
  TaskGroup group(context.get_executor());
  int ended = 0;
  group.spawn("short", sleeper(milliseconds(20), &ended));
  group.spawn("long", sleeper(std::chrono::minutes(5), &ended));
  group.spawn("broken", throwing());
  EXPECT_EQ(group.size(), 3u);
  bool all_gone = false;
  const auto began = std::chrono::steady_clock::now();
  run(context, stop(&group, milliseconds(200), &all_gone));
  EXPECT_TRUE(all_gone);
  EXPECT_EQ(ended, 1) << "the short one ended by itself, the long one was cancelled";
  EXPECT_EQ(group.size(), 0u);
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(3));
  group.spawn("late", sleeper(milliseconds(1), &ended));
  EXPECT_EQ(group.size(), 0u) << "nothing starts after stop()";
}

TEST(TaskGroup, StopDoesNotWaitLongerThanNeeded) {
  asio::io_context context;
  TaskGroup group(context.get_executor());
  int ended = 0;
  group.spawn("short", sleeper(milliseconds(20), &ended));
  bool all_gone = false;
  const auto began = std::chrono::steady_clock::now();
  run(context, stop(&group, std::chrono::seconds(8), &all_gone));
  EXPECT_TRUE(all_gone);
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(4));
}

}  // namespace
}  // namespace rackmark::net

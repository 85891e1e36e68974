// Runs a blocking function on another executor and awaits its value:
//   auto work = [&store, id] { return store.find(id); };   // named on purpose: g++ 12 can destroy
//   Result<Run> run = co_await offload(db, std::move(work)); // a temporary lambda here twice
// Exceptions travel back. The awaiting coroutine resumes on its own executor. Not cancellable: the
// function always runs to its end, so the other executor must be joined before this one is
// destroyed.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

namespace rackmark::net {

namespace detail {

struct StartOffload {
  template <class Handler, class Work>
  void operator()(Handler handler, boost::asio::any_io_executor where, Work work) const {
    namespace asio = boost::asio;
    using Value = std::invoke_result_t<Work&>;
    // Tracked work keeps the home context running while the other executor has the ball.
    auto home = asio::prefer(asio::get_associated_executor(handler),
                             asio::execution::outstanding_work.tracked);
    auto task = [handler = std::move(handler), home, work = std::move(work)]() mutable {
      std::exception_ptr broken;
      std::optional<Value> value;
      try {
        value.emplace(work());
      } catch (...) {
        broken = std::current_exception();
      }
      auto done = [handler = std::move(handler), broken, value = std::move(value)]() mutable {
        std::move(handler)(broken, std::move(value));
      };
      asio::post(home, std::move(done));
    };
    asio::post(where, std::move(task));
  }
};

template <class Work>
boost::asio::awaitable<std::invoke_result_t<Work&>> offload_value(
    boost::asio::any_io_executor where, Work work) {
  namespace asio = boost::asio;
  using Value = std::invoke_result_t<Work&>;
  asio::use_awaitable_t<> token;
  std::optional<Value> value =
      co_await asio::async_initiate<asio::use_awaitable_t<>,
                                    void(std::exception_ptr, std::optional<Value>)>(
          StartOffload{}, token, std::move(where), std::move(work));
  co_return std::move(*value);
}

template <class Work>
boost::asio::awaitable<void> offload_void(boost::asio::any_io_executor where, Work work) {
  auto valued = [work = std::move(work)]() mutable {
    work();
    return std::monostate{};
  };
  co_await offload_value(std::move(where), std::move(valued));
}

}  // namespace detail

template <class Work>
boost::asio::awaitable<std::invoke_result_t<Work&>> offload(boost::asio::any_io_executor where,
                                                            Work work) {
  if constexpr (std::is_void_v<std::invoke_result_t<Work&>>) {
    return detail::offload_void(std::move(where), std::move(work));
  } else {
    return detail::offload_value(std::move(where), std::move(work));
  }
}

}  // namespace rackmark::net

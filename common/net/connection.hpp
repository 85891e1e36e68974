// One TCP connection to a controller, with its read buffer. Inside common/net only.
#pragma once

#include "common/net/asio_beast.hpp"
#include "common/net/target.hpp"

namespace rackmark::net {

struct Connection {
  explicit Connection(const boost::asio::any_io_executor& executor) : stream(executor) {}
  boost::beast::tcp_stream stream;
  boost::beast::flat_buffer buffer;
  bool reused = false;
};

// Resolves and connects within what is left until `deadline` (names are resolved by the system's
// resolver in its own time). An error code, not an exception.
boost::asio::awaitable<boost::system::error_code> connect(
    Connection& connection, const BaseUrl& base, std::chrono::steady_clock::time_point deadline);

// "cannot reach http://...: Connection refused", kUnavailable.
Error unreachable(const BaseUrl& base, const boost::system::error_code& ec);

}  // namespace rackmark::net

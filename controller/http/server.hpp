// The HTTP/1.1 server: listens, reads bounded requests, awaits the router, writes the answer.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "controller/http/host_policy.hpp"
#include "controller/http/router.hpp"

namespace rackmark::http {

struct ServerOptions {
  std::string address = "127.0.0.1";
  std::uint16_t port = 0;
  HostPolicy hosts;
  std::size_t max_connections = 4096;  // one more is answered 503
  std::size_t max_header_bytes = 16u << 10;
  std::chrono::milliseconds keep_alive_timeout{75'000};  // between two requests
  std::chrono::milliseconds header_timeout{10'000};      // from a request's first byte
  std::chrono::milliseconds body_timeout{60'000};
  std::chrono::milliseconds write_timeout{
      20'000};  // a reader that takes nothing for so long is cut
};

// One answered request, for metrics.
struct Observation {
  std::string_view route;  // path template; "" when none matched
  std::string_view method;
  int status = 0;
  double seconds = 0;
};

// Everything on the one thread of `executor`. `router` outlives the server.
class Server {
 public:
  Server(boost::asio::any_io_executor executor, ServerOptions options, const Router& router,
         std::function<void(const Observation&)> observe = {});
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Binds and begins to accept. Throws boost::system::system_error (port in use, bad address).
  void start();
  std::uint16_t port() const;  // after start()
  std::size_t connections() const;

  // Accepts no more, closes idle connections, lets open requests end within `grace`, cuts the rest.
  boost::asio::awaitable<void> stop(std::chrono::milliseconds grace);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace rackmark::http

// One connection. Inside controller/http only: includes Beast.
#pragma once

#include <set>

#include "common/net/asio_beast.hpp"
#include "controller/http/server.hpp"

namespace rackmark::http {

// What all sessions of a server share; outlives them.
struct SessionContext {
  ServerOptions options;
  const Router& router;
  std::function<void(const Observation&)> observe;
  std::set<boost::beast::tcp_stream*> idle;  // waiting for a request: may be closed at any time
  bool stopping = false;
};

// Serves requests until the peer leaves, a limit is passed or the server stops.
boost::asio::awaitable<void> run_session(std::shared_ptr<SessionContext> context,
                                         boost::asio::ip::tcp::socket socket);
// Answers 503 to a connection beyond the limit.
boost::asio::awaitable<void> refuse_session(std::shared_ptr<SessionContext> context,
                                            boost::asio::ip::tcp::socket socket);

}  // namespace rackmark::http

// A request and a response as the rest of the controller sees them. No Beast, no sockets.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/error.hpp"

namespace rackmark::http {

using Headers = std::vector<std::pair<std::string, std::string>>;

struct Request {
  std::string method;                                      // "GET"
  std::string path;                                        // percent-decoded, begins with '/'
  std::vector<std::pair<std::string, std::string>> query;  // decoded, in order
  Headers headers;
  std::string body;
  std::string peer;                // address of the caller, for logs and the audit log
  std::optional<std::int64_t> id;  // of a path with {id}; set by the router
  std::string_view header(std::string_view name) const;  // "" when absent; any case
  bool has_header(std::string_view name) const;          // also when it is empty
};

// A body without end: what an event stream pushes. next() waits for the next piece and returns
// nullopt at the end. The session destroys it when the client is gone.
class Stream {
 public:
  virtual ~Stream() = default;
  virtual boost::asio::awaitable<std::optional<std::string>> next() = 0;
};

struct Response {
  int status = 200;
  std::string content_type;  // "" without a body
  std::string body;
  Headers headers;
  std::string route;               // the path template that answered, for metrics; "" = none
  std::unique_ptr<Stream> stream;  // instead of `body`
};

// application/problem+json for `error`, about the path `instance`.
Response problem(const Error& error, std::string_view instance);
// The same for statuses that are no ErrorCode (431).
Response problem(int status, std::string detail, std::string_view instance);

// The media type of a header like `Application/JSON; charset=utf-8`, in lower case:
// "application/json".
std::string media_type(std::string_view header);

}  // namespace rackmark::http

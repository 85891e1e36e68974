// What every command gets.
#pragma once

#include <chrono>
#include <iosfwd>
#include <memory>
#include <string>

#include "common/json/described.hpp"
#include "common/net/http_client.hpp"
#include "common/protocol/agents.hpp"
#include "common/protocol/jobs.hpp"
#include "common/protocol/system.hpp"

namespace rackmark::cli {

struct Context {
  Context(std::ostream& out_stream, std::ostream& err_stream, std::istream& in_stream)
      : out(out_stream), err(err_stream), in(in_stream) {}

  std::ostream& out;  // results
  std::ostream& err;  // progress and complaints
  std::istream& in;
  bool progress_bar = false;  // standard error is a terminal
  int width = 80;
  std::string controller = "http://127.0.0.1:8780";
  std::string token;  // sent as a bearer token when it is not empty
  bool json = false;  // print what the API answered
  std::chrono::milliseconds poll{500};
  std::chrono::milliseconds patience{120'000};  // how long to follow a job without a controller
  int status = 0;                               // exit status; commands set it

  // Made at the first call. Throws BadUsage when --controller is no address.
  net::BlockingClient& client();

  // Prints JSON as --json does.
  template <class T>
  void print_json(const T& value) {
    print(json::encode(value));
  }
  // Prints the error, one line a field, and sets the exit status: 7 when the controller cannot be
  // reached, 2 when the request was refused, 1 when something is broken. Under --json it is printed
  // as an object with the members of the API's problem details.
  void fail(const Error& error);
  // The value, or nothing after fail().
  template <class T>
  std::optional<T> take(Result<T> result) {
    if (result) return std::move(*result);
    fail(result.error());
    return std::nullopt;
  }

 private:
  void print(const nlohmann::json& value);
  std::unique_ptr<net::BlockingClient> client_;
};

// Ends the program with status 2 and this one line.
struct BadUsage : std::runtime_error {
  using std::runtime_error::runtime_error;
};

int status_of(const Error& error);

}  // namespace rackmark::cli

// What went wrong, as a value: refusals travel as Result<T>, broken worlds as exceptions.
#pragma once

#include <boost/system/result.hpp>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "common/json/json.hpp"

namespace rackmark {

// The only list of error codes. `controller/api` maps each to an HTTP status, `cli` to an exit
// status.
enum class ErrorCode {
  kMalformed,         // not JSON, or not an object: 400
  kInvalid,           // well-formed but wrong: 422, with `fields`
  kUnauthorized,      // no or wrong token: 401
  kForbidden,         // known but not allowed, foreign Host or Origin: 403
  kNotFound,          // 404
  kMethodNotAllowed,  // 405
  kConflict,          // 409: held name, other body under the same idempotency key, terminal state
  kGone,              // 410: a run or agent that is over
  kTooLarge,          // 413
  kUnsupportedMedia,  // 415
  kTooMany,           // 429: a stated limit of concurrent things is reached
  kInternal,          // 500, without detail
  kUnavailable,       // 503: shutting down, disk full; or the controller cannot be reached (cli)
};

// One wrong member of a request. `field` is a path such as "optimizer.learning_rate".
struct FieldProblem {
  std::string field;
  nlohmann::json value;  // what was given; null when the member is missing
  std::string allowed;   // what would be accepted, in words: "one of fp32, bf16", "1 to 65536"
  std::string detail;    // one sentence for people
};

struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;  // one sentence, no trailing full stop needed
  std::vector<FieldProblem> fields;
};

template <class T>
using Result =
    boost::system::result<T, Error>;  // Result<json>: construct with boost::system::in_place_value

// Found by boost::system::result when `value()` is called on an error: a programmer's mistake.
[[noreturn]] inline void throw_exception_from_error(const Error& error,
                                                    const boost::source_location&) {
  throw std::logic_error("unchecked error: " + error.message);
}

inline Error invalid(std::string field, nlohmann::json value, std::string allowed,
                     std::string detail) {
  std::string message = detail;
  return Error{
      ErrorCode::kInvalid,
      std::move(message),
      {FieldProblem{std::move(field), std::move(value), std::move(allowed), std::move(detail)}}};
}

}  // namespace rackmark

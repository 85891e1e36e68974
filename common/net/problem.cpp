#include "common/net/problem.hpp"

#include <array>
#include <utility>

#include "common/json/described.hpp"

namespace rackmark::net {
namespace {

struct StatusRow {
  int status;
  ErrorCode code;
  std::string_view title;
};
constexpr std::array kRows{
    StatusRow{400, ErrorCode::kMalformed, "Bad Request"},
    StatusRow{401, ErrorCode::kUnauthorized, "Unauthorized"},
    StatusRow{403, ErrorCode::kForbidden, "Forbidden"},
    StatusRow{404, ErrorCode::kNotFound, "Not Found"},
    StatusRow{405, ErrorCode::kMethodNotAllowed, "Method Not Allowed"},
    StatusRow{409, ErrorCode::kConflict, "Conflict"},
    StatusRow{410, ErrorCode::kGone, "Gone"},
    StatusRow{413, ErrorCode::kTooLarge, "Content Too Large"},
    StatusRow{415, ErrorCode::kUnsupportedMedia, "Unsupported Media Type"},
    StatusRow{422, ErrorCode::kInvalid, "Unprocessable Content"},
    StatusRow{429, ErrorCode::kTooMany, "Too Many Requests"},
    StatusRow{500, ErrorCode::kInternal, "Internal Server Error"},
    StatusRow{503, ErrorCode::kUnavailable, "Service Unavailable"},
};

}  // namespace

int status_of(ErrorCode code) {
  for (const auto& row : kRows) {
    if (row.code == code) return row.status;
  }
  return 500;
}

std::string_view title_of(int status) {
  for (const auto& row : kRows) {
    if (row.status == status) return row.title;
  }
  return status == 431 ? "Request Header Fields Too Large" : "Error";
}

protocol::Problem to_problem(const Error& error, std::string_view instance) {
  protocol::Problem problem;
  problem.status = status_of(error.code);
  problem.title = title_of(problem.status);
  problem.detail =
      error.code == ErrorCode::kInternal ? "the controller's log says more" : error.message;
  problem.instance = instance;
  for (const auto& field : error.fields) {
    problem.errors.push_back({field.field, field.value, field.allowed, field.detail});
  }
  return problem;
}

Error from_problem(int status, std::string_view body) {
  Error error;
  error.code = ErrorCode::kUnavailable;
  error.message = "status " + std::to_string(status) + " " + std::string(title_of(status)) +
                  " from something that is not a Rackmark controller";
  const auto parsed = json::parse(body);
  if (!parsed || !parsed->is_object() || !parsed->contains("title") || !parsed->contains("status"))
    return error;
  auto problem = json::decode<protocol::Problem>(*parsed, json::Unknown::kIgnore);
  if (!problem || problem->status != status) return error;
  error.code = status >= 500 ? ErrorCode::kInternal : ErrorCode::kMalformed;
  for (const auto& row : kRows) {
    if (row.status == status) error.code = row.code;
  }
  error.message = problem->detail.empty() ? title_of(status) : problem->detail;
  for (auto& field : problem->errors) {
    error.fields.push_back({std::move(field.field), std::move(field.value),
                            std::move(field.allowed), std::move(field.detail)});
  }
  return error;
}

}  // namespace rackmark::net

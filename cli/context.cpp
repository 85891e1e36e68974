#include "cli/context.hpp"

#include <ostream>

#include "cli/format.hpp"
#include "common/net/problem.hpp"

namespace rackmark::cli {

net::BlockingClient& Context::client() {
  if (!client_) {
    auto base = net::parse_base_url(controller);
    if (!base) throw BadUsage("--controller: " + base.error().message);
    client_ = std::make_unique<net::BlockingClient>(*base);
    client_->set_header("User-Agent", "rackmark/" RACKMARK_VERSION);
    if (!token.empty()) client_->set_header("Authorization", "Bearer " + token);
  }
  return *client_;
}

namespace {
std::string pretty(const nlohmann::json& value) {
  return value.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}
}  // namespace

void Context::print(const nlohmann::json& value) { out << pretty(value) << '\n'; }

void Context::fail(const Error& error) {
  status = status_of(error);
  if (json) {
    protocol::Problem problem = net::to_problem(error, "");
    problem.detail = error.message;  // what it says of its own faults is for its clients alone
    err << pretty(json::encode(problem)) << '\n';
    return;
  }
  if (error.fields.empty()) {
    err << "rackmark: " << printable(error.message) << '\n';
    return;
  }
  for (const auto& field : error.fields) {
    err << printable(field.field) << ": " << printable(field.detail);
    if (!field.allowed.empty()) err << " (allowed: " << printable(field.allowed) << ')';
    err << '\n';
  }
}

int status_of(const Error& error) {
  switch (error.code) {
    case ErrorCode::kUnavailable:
      return kExitUnreachable;
    case ErrorCode::kInternal:
      return 1;
    default:
      return kExitBadUsage;
  }
}

}  // namespace rackmark::cli

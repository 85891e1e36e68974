// Errors on the wire: RFC 9457 problem details, the same mapping on both sides.
#pragma once

#include <string>
#include <string_view>

#include "common/error.hpp"
#include "common/protocol/system.hpp"

namespace rackmark::net {

int status_of(ErrorCode code);
std::string_view title_of(int status);  // "Not Found"

// The body of an answer to `instance` (the path that was asked). kInternal never carries detail.
protocol::Problem to_problem(const Error& error, std::string_view instance);

// The error that an answer of `status` (>= 400) stands for. A body that is not this status's
// problem was not written by a controller but by something in between, such as a proxy:
// kUnavailable, since it says nothing about what was asked.
Error from_problem(int status, std::string_view body);

}  // namespace rackmark::net

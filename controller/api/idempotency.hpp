// The Idempotency-Key of a request.
#pragma once

#include <optional>

#include "controller/http/message.hpp"
#include "controller/service/writer.hpp"

namespace rackmark::api {

// Nothing for a request without the header; kMalformed for a key that is none.
Result<std::optional<service::Idempotency>> idempotency_of(const http::Request& request);

}  // namespace rackmark::api

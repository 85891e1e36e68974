#include "controller/api/idempotency.hpp"

#include "common/domain/spec.hpp"

namespace rackmark::api {

Result<std::optional<service::Idempotency>> idempotency_of(const http::Request& request) {
  if (!request.has_header("Idempotency-Key")) return std::optional<service::Idempotency>();
  const std::string_view key = request.header("Idempotency-Key");
  bool printable = !key.empty() && key.size() <= 255;
  for (const char c : key) printable = printable && c > 0x20 && c < 0x7f;
  if (!printable) {
    return Error{
        ErrorCode::kMalformed, "Idempotency-Key must be 1 to 255 visible ASCII characters", {}};
  }
  const std::string identity = request.method + " " + request.path + "\n" + request.body;
  return std::optional(service::Idempotency{std::string(key), sha256_hex(identity)});
}

}  // namespace rackmark::api

#include "controller/service/idempotency.hpp"

#include "controller/store/journal.hpp"

namespace rackmark::service {

Result<std::optional<nlohmann::json>> earlier_reply(Change& change,
                                                    const std::optional<Idempotency>& idempotency) {
  using Reply = std::optional<nlohmann::json>;
  if (!idempotency) return Reply();
  if (idempotency->key.empty() || idempotency->key.size() > 255) {
    return Error{ErrorCode::kMalformed, "Idempotency-Key must have 1 to 255 characters", {}};
  }
  const auto day_us = static_cast<std::int64_t>(change.core.settings.idempotency_hours * 3600e6);
  auto found = store::find_reply(change.db(), idempotency->key, change.now_us() - day_us);
  if (!found) return Reply();
  if (found->request_sha256 != idempotency->request_sha256) {
    return Error{
        ErrorCode::kConflict,
        "Idempotency-Key '" + idempotency->key + "' was used for another request; use a new key",
        {}};
  }
  return Reply(std::move(found->reply));
}

void remember_reply(Change& change, const std::optional<Idempotency>& idempotency,
                    const nlohmann::json& reply) {
  if (!idempotency) return;
  store::remember_reply(change.tx, idempotency->key, {idempotency->request_sha256, reply});
}

}  // namespace rackmark::service

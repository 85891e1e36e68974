// The same key with the same request within its time answers the first reply again. Internal to
// controller/service.
#pragma once

#include "controller/service/core.hpp"
#include "controller/service/writer.hpp"

namespace rackmark::service {

// The reply that an earlier request under this key had; nullopt: this is the first. kMalformed;
// kConflict when another request had the key.
Result<std::optional<nlohmann::json>> earlier_reply(Change& change,
                                                    const std::optional<Idempotency>& idempotency);
void remember_reply(Change& change, const std::optional<Idempotency>& idempotency,
                    const nlohmann::json& reply);

// The same for a reply of type View.
template <class View>
Result<std::optional<View>> earlier_view(Change& change,
                                         const std::optional<Idempotency>& idempotency) {
  auto reply = earlier_reply(change, idempotency);
  if (!reply) return reply.error();
  if (!*reply) return std::optional<View>();
  auto view = json::decode<View>(**reply, json::Unknown::kIgnore);
  if (!view) return view.error();
  return std::optional<View>(std::move(*view));
}

}  // namespace rackmark::service

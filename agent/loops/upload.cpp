#include <limits>

#include "agent/loops/session.hpp"
#include "common/net/log.hpp"
#include "common/net/task_group.hpp"

namespace rackmark::agent {

namespace asio = boost::asio;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t kUploadBytes = std::size_t{512} << 10;

// Gives whether the receipt moved anything, so that a receipt for nothing cannot make us spin.
bool take_receipt(Session& session, const protocol::EventReceipt& receipt) {
  for (const auto& accepted : receipt.accepted)
    session.spool.accepted(accepted.run_id, accepted.up_to_seq);
  for (const std::int64_t run_id : receipt.refused_runs)
    session.spool.accepted(run_id, std::numeric_limits<std::int64_t>::max());
  return !receipt.accepted.empty() || !receipt.refused_runs.empty();
}

}  // namespace

asio::awaitable<void> upload_loop(Session& session) {
  Backoff backoff;
  while (session.fatal.empty()) {
    if (!session.spool.has_pending()) {
      co_await session.more_events.wait(1s);
      continue;
    }
    protocol::EventUpload upload{session.spool.pending(kUploadBytes)};
    const Result<protocol::EventReceipt> receipt = co_await session.client.call(
        protocol::kUploadEvents, session.identity.agent_id, {}, upload);
    if (receipt && take_receipt(session, *receipt)) {
      backoff.reset();
      continue;
    }
    if (!receipt) log::debug("events: {}", receipt.error().message);
    co_await net::sleep_for(backoff.next());
  }
}

}  // namespace rackmark::agent

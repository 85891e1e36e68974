#include <fmt/format.h>

#include <limits>
#include <system_error>

#include "agent/loops/session.hpp"
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

// Of one run. kInternal when the disk does not give its batches now.
Result<protocol::EventUpload> read_upload(const Spool& spool, std::int64_t run_id) {
  try {
    return protocol::EventUpload{spool.pending(run_id, kUploadBytes)};
  } catch (const std::system_error& error) {
    return Error{ErrorCode::kInternal, error.what(), {}};
  }
}

asio::awaitable<Result<protocol::EventReceipt>> hand_in(Session& session, std::int64_t run_id) {
  const auto upload = read_upload(session.spool, run_id);
  if (!upload) co_return upload.error();
  co_return co_await session.client.call(protocol::kUploadEvents, session.identity.agent_id, {},
                                         *upload);
}

}  // namespace

// Runs take turns, so that one whose events cannot be handed in holds up no other.
asio::awaitable<void> upload_loop(Session& session) {
  Backoff backoff;
  Complaints complaints;
  std::int64_t last = 0;
  while (session.fatal.empty()) {
    const auto run_id = session.spool.next_pending(last);
    if (!run_id) {
      complaints.settle();
      co_await session.more_events.wait(1s);
      continue;
    }
    last = *run_id;
    const Result<protocol::EventReceipt> receipt = co_await hand_in(session, *run_id);
    if (receipt && take_receipt(session, *receipt)) {
      backoff.reset();
      continue;
    }
    // That there is no answer at all is said by the sync.
    if (!receipt && receipt.error().code != ErrorCode::kUnavailable)
      complaints.about(
          fmt::format("events of run {} are not handed in: {}", *run_id, receipt.error().message));
    co_await net::sleep_for(backoff.next());
  }
}

}  // namespace rackmark::agent

#include <fmt/format.h>

#include "agent/loops/session.hpp"
#include "common/net/log.hpp"
#include "common/net/task_group.hpp"

namespace rackmark::agent {

namespace asio = boost::asio;

asio::awaitable<void> enrol(Session& session, protocol::Enrolment request,
                            std::filesystem::path identity_file) {
  Backoff backoff;
  bool said = false;
  while (!session.stopping) {
    const Result<protocol::Enrolled> answer =
        co_await session.client.call(protocol::kEnrol, {}, {}, request);
    if (answer) {
      session.identity = {answer->agent_id, answer->agent_token, answer->controller_uuid,
                          request.name};
      session.lease.answered(0, answer->lease_s);
      write_identity(identity_file, session.identity);
      log::info("enrolled as {} (agent {})", request.name, answer->agent_id);
      co_return;
    }
    const Error& error = answer.error();
    const bool later = error.code == ErrorCode::kUnavailable ||
                       error.code == ErrorCode::kInternal || error.code == ErrorCode::kTooMany;
    if (!later) {
      session.fatal = "the controller refused to enrol this host: " + error.message;
      co_return;
    }
    if (!said) log::warning("{}; trying again", error.message);
    said = true;
    co_await net::sleep_for(backoff.next());
  }
}

}  // namespace rackmark::agent

// What the handlers need; made by App and outliving every request.
#pragma once

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <memory>
#include <string>

#include "common/error.hpp"
#include "controller/http/message.hpp"

namespace rackmark::service {
class Reader;
class Writer;
}  // namespace rackmark::service
namespace rackmark::http {
class EventHub;
class Router;
}  // namespace rackmark::http

namespace rackmark::api {

class HeldSyncs;
class Metrics;

struct Context {
  // One thread each: `writer` may be used on writer_thread alone, `reader` on reader_thread alone,
  // `agent_reader` on agent_thread alone, `syncs`, `events` and the request counters of `metrics`
  // on the network thread alone. What people ask for may take long, and no agent may wait for that:
  // its token is looked up by agent_reader. A backup takes as long as the database is large.
  boost::asio::any_io_executor network, writer_thread, reader_thread, agent_thread, backup_thread;
  service::Writer& writer;
  service::Reader &reader, &agent_reader;
  HeldSyncs& syncs;
  http::EventHub& events;
  Metrics& metrics;
  std::string started_at;             // RFC 3339
  std::string web_dir;                // may be missing
  std::atomic<bool> stopping{false};  // /readyz says so first
  std::string write_failure;          // why nothing can be stored, else ""; network thread alone
};

void add_job_routes(http::Router& router, Context& context);
void add_group_routes(http::Router& router, Context& context);
void add_run_routes(http::Router& router, Context& context);
void add_result_routes(http::Router& router, Context& context);
void add_agent_routes(http::Router& router, Context& context);
void add_event_routes(http::Router& router, Context& context);
void add_system_routes(http::Router& router, Context& context);
void add_all_routes(http::Router& router, Context& context);

// Who asked, for the audit log: an address until people carry tokens.
std::string who(const http::Request& request);

}  // namespace rackmark::api

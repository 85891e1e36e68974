#include "controller/api/context.hpp"
#include "controller/http/router.hpp"
#include "controller/http/static_files.hpp"
#include "controller/http/typed_route.hpp"

namespace rackmark::api {

void add_all_routes(http::Router& router, Context& context) {
  add_system_routes(router, context);
  add_job_routes(router, context);
  add_group_routes(router, context);
  add_run_routes(router, context);
  add_result_routes(router, context);
  add_agent_routes(router, context);
  add_event_routes(router, context);
  auto serve = [files = http::StaticFiles(context.web_dir)](const http::Request& request) {
    return files.serve(request);
  };
  router.set_fallback(http::on_thread(context.reader_thread, std::move(serve)));
}

std::string who(const http::Request& request) {
  return request.peer.empty() ? "local" : request.peer;
}

}  // namespace rackmark::api

// What the controller is and can run; health; metrics; the description of this API itself.
#include "common/protocol/system.hpp"

#include <memory>

#include "common/measure/statistics.hpp"
#include "common/net/offload.hpp"
#include "controller/api/context.hpp"
#include "controller/api/metrics.hpp"
#include "controller/http/typed_route.hpp"
#include "controller/service/reader.hpp"

namespace rackmark::api {
namespace {

using http::Call;
using http::Request;
using http::Response;
using protocol::Nothing;

protocol::SpecSchema spec_schema() {
  const auto fields = spec_fields();
  return {spec_json_schema(), {fields.begin(), fields.end()}, measure::definitions()};
}

Response text_response(int status, std::string text, std::string content_type = "text/plain") {
  Response response;
  response.status = status;
  response.content_type = std::move(content_type) + "; charset=utf-8";
  response.body = std::move(text);
  return response;
}

boost::asio::awaitable<Response> alive(Request) { co_return text_response(200, "ok\n"); }

boost::asio::awaitable<Response> ready(Context& context, std::string path) {
  std::string why;
  if (context.stopping) {
    why = "the controller is stopping";
  } else if (!context.write_failure.empty()) {
    why = "nothing can be stored: " + context.write_failure;
  } else {
    auto ask = [&context] { return context.reader.ready(); };
    const bool answers = co_await net::offload(context.reader_thread, std::move(ask));
    if (!answers) why = "the database does not answer";
  }
  if (why.empty()) co_return text_response(200, "ready\n");
  co_return http::problem({ErrorCode::kUnavailable, why, {}}, path);
}

void add_plain(http::Router& router, std::string path, std::string summary,
               std::string content_type, http::Handler handler) {
  http::Route route;
  route.path = std::move(path);
  route.doc.summary = std::move(summary);
  route.doc.role = "public";
  route.doc.content_type = std::move(content_type);
  route.doc.reply = {{"type", "string"}};
  route.handler = std::move(handler);
  router.add(std::move(route));
}

void add_description(http::Router& router, Context& context) {
  http::schema_of<protocol::Problem>(router.schemas());  // every operation refers to it
  // Made at the first call, when all routes are there; on one thread, so unguarded.
  auto text = std::make_shared<std::string>();
  auto describe = [&router, text](const Request&) {
    if (text->empty()) *text = router.openapi().dump();
    Response response;
    response.content_type = "application/json";
    response.body = *text;
    return response;
  };
  http::Route route;
  route.path = "/api/v1/openapi.json";
  route.doc.summary = "This description";
  route.doc.role = "public";
  route.doc.reply = {{"type", "object"}};
  route.handler = http::on_thread(context.reader_thread, std::move(describe));
  router.add(std::move(route));
}

}  // namespace

void add_system_routes(http::Router& router, Context& context) {
  auto& reader = context.reader;
  http::add(router, protocol::kVersion, context.reader_thread,
            [&context](const Call<Nothing, Nothing>&) {
              const service::Identity identity = context.reader.identity();
              protocol::VersionView view;
              view.version = RACKMARK_VERSION;
              view.controller_uuid = identity.controller_uuid;
              view.started_at = context.started_at;
              view.schema = identity.schema;
              return Result<protocol::VersionView>(std::move(view));
            });
  http::add(router, protocol::kModels, context.reader_thread, [](const Call<Nothing, Nothing>&) {
    const auto facts = model_facts();
    return Result<protocol::ModelList>(protocol::ModelList{{facts.begin(), facts.end()}});
  });
  http::add(
      router, protocol::kSpecSchema, context.reader_thread,
      [](const Call<Nothing, Nothing>&) { return Result<protocol::SpecSchema>(spec_schema()); });
  http::add(router, protocol::kCreateBackup, context.backup_thread,
            [&reader](const Call<Nothing, Nothing>&) { return reader.back_up(); });
  add_description(router, context);
  add_plain(router, "/healthz", "Whether the process answers", "text/plain", alive);
  add_plain(router, "/readyz",
            "Whether the database can be read and written and nothing is stopping", "text/plain",
            [&context](Request request) { return ready(context, request.path); });
  add_plain(router, "/metrics", "Prometheus text format", "text/plain",
            http::on_thread(context.reader_thread, [&context, &reader](const Request&) {
              return text_response(200, context.metrics.text(reader.counters()),
                                   "text/plain; version=0.0.4");
            }));
}

}  // namespace rackmark::api

// Jobs: submit (or check), list, show, cancel, rerun.
#include "common/protocol/jobs.hpp"

#include <boost/asio/awaitable.hpp>

#include "common/domain/spec.hpp"
#include "common/net/offload.hpp"
#include "controller/api/context.hpp"
#include "controller/api/idempotency.hpp"
#include "controller/http/typed_route.hpp"
#include "controller/service/reader.hpp"
#include "controller/service/writer.hpp"

namespace rackmark::api {
namespace {

using http::Answer;
using http::Call;
using http::Request;
using http::Response;
using protocol::JobView;
using protocol::Nothing;

Answer<JobView> created(JobView job) {
  std::string location = "/api/v1/jobs/" + std::to_string(job.id);
  return {std::move(job), 0, {{"Location", std::move(location)}}};
}

Result<Answer<JobView>> submit(service::Writer& writer,
                               const Call<nlohmann::json, protocol::SubmitQuery>& call) {
  auto idempotency = idempotency_of(call.request);
  if (!idempotency) return idempotency.error();
  service::Submission submission;
  submission.spec_text = call.request.body;
  submission.spec = call.body;
  submission.idempotency = std::move(*idempotency);
  submission.who = who(call.request);
  auto job = writer.submit(submission);
  if (!job) return job.error();
  return created(std::move(*job));
}

Response submit_response(service::Writer& writer, const Request& request) {
  const auto call =
      http::decode_call<nlohmann::json, protocol::SubmitQuery>(request, json::Unknown::kRefuse);
  if (!call) return http::problem(call.error(), request.path);
  auto answer = submit(writer, *call);
  if (!answer) return http::problem(answer.error(), request.path);
  Response response =
      http::json_response(protocol::kSubmitJob.success, json::encode(answer->reply));
  response.headers = std::move(answer->headers);
  return response;
}

Response dry_run_response(service::Reader& reader, const Request& request) {
  const auto spec = json::parse(request.body);
  if (!spec) return http::problem(spec.error(), request.path);
  const auto dry = reader.dry_run(*spec);
  if (!dry) return http::problem(dry.error(), request.path);
  return http::json_response(200, json::encode(*dry));
}

// A dry run changes nothing and is a reader's work; a submission is the writer's.
boost::asio::awaitable<Response> submit_or_check(Context& context, Request request) {
  const auto query = http::decode_query<protocol::SubmitQuery>(request.query);
  const std::string path = request.path;
  if (!query) co_return http::problem(query.error(), path);
  const bool dry = query->validate;
  auto work = [&context, dry, request = std::move(request)] {
    return dry ? dry_run_response(context.reader, request)
               : submit_response(context.writer, request);
  };
  auto where = dry ? context.reader_thread : context.writer_thread;
  Response response = co_await net::offload(std::move(where), std::move(work));
  co_return response;
}

void add_submit(http::Router& router, Context& context) {
  http::Route route = http::describe(router, protocol::kSubmitJob, {});
  router.schemas()["JobSpec"] = spec_json_schema();
  const auto dry = http::schema_of<protocol::DryRun>(router.schemas());
  route.doc.body = {{"$ref", "#/components/schemas/JobSpec"}};
  route.doc.reply = {{"anyOf", {route.doc.reply, dry}}};
  route.handler = [&context](Request request) {
    return submit_or_check(context, std::move(request));
  };
  router.add(std::move(route));
}

}  // namespace

void add_job_routes(http::Router& router, Context& context) {
  auto& reader = context.reader;
  auto& writer = context.writer;
  add_submit(router, context);
  http::add(
      router, protocol::kListJobs, context.reader_thread,
      [&reader](const Call<Nothing, protocol::JobQuery>& call) { return reader.jobs(call.query); });
  http::add(router, protocol::kShowJob, context.reader_thread,
            [&reader](const Call<Nothing, Nothing>& call) { return reader.job(call.id); });
  http::add(router, protocol::kCancelJob, context.writer_thread,
            [&writer](const Call<Nothing, Nothing>& call) {
              return writer.cancel(call.id, who(call.request));
            });
  http::add(router, protocol::kRerunJob, context.writer_thread,
            [&writer](const Call<Nothing, Nothing>& call) -> Result<Answer<JobView>> {
              const auto idempotency = idempotency_of(call.request);
              if (!idempotency) return idempotency.error();
              auto job = writer.rerun(call.id, *idempotency, who(call.request));
              if (!job) return job.error();
              return created(std::move(*job));
            });
}

}  // namespace rackmark::api

// Runs: state, steps, profile, logs.
#include "common/protocol/runs.hpp"

#include "controller/api/context.hpp"
#include "controller/http/typed_route.hpp"
#include "controller/service/reader.hpp"

namespace rackmark::api {

void add_run_routes(http::Router& router, Context& context) {
  using http::Call;
  using protocol::Nothing;
  auto& reader = context.reader;
  http::add(router, protocol::kShowRun, context.reader_thread,
            [&reader](const Call<Nothing, Nothing>& call) { return reader.run(call.id); });
  http::add(router, protocol::kRunSteps, context.reader_thread,
            [&reader](const Call<Nothing, protocol::StepsQuery>& call) {
              return reader.steps(call.id, call.query);
            });
  http::add(router, protocol::kRunProfile, context.reader_thread,
            [&reader](const Call<Nothing, Nothing>& call) { return reader.profile(call.id); });
  http::add(router, protocol::kRunLogs, context.reader_thread,
            [&reader](const Call<Nothing, protocol::LogQuery>& call) {
              return reader.logs(call.id, call.query);
            });
}

}  // namespace rackmark::api

// Results, with filters.
#include "common/protocol/runs.hpp"
#include "controller/api/context.hpp"
#include "controller/http/typed_route.hpp"
#include "controller/service/reader.hpp"

namespace rackmark::api {

void add_result_routes(http::Router& router, Context& context) {
  using http::Call;
  using protocol::Nothing;
  auto& reader = context.reader;
  http::add(router, protocol::kListResults, context.reader_thread,
            [&reader](const Call<Nothing, protocol::ResultQuery>& call) {
              return reader.results(call.query);
            });
}

}  // namespace rackmark::api

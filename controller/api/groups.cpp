// Groups: submit, list, show, cancel, and what a scaling group says.
#include "common/protocol/groups.hpp"

#include "controller/api/context.hpp"
#include "controller/api/idempotency.hpp"
#include "controller/http/typed_route.hpp"
#include "controller/service/reader.hpp"
#include "controller/service/writer.hpp"

namespace rackmark::api {

void add_group_routes(http::Router& router, Context& context) {
  using http::Answer;
  using http::Call;
  using protocol::GroupView;
  using protocol::Nothing;
  auto& reader = context.reader;
  auto& writer = context.writer;
  http::add(router, protocol::kCreateGroup, context.writer_thread,
            [&writer](const Call<protocol::NewGroup, Nothing>& call) -> Result<Answer<GroupView>> {
              const auto idempotency = idempotency_of(call.request);
              if (!idempotency) return idempotency.error();
              auto group = writer.create_group(call.body, *idempotency, who(call.request));
              if (!group) return group.error();
              std::string location = "/api/v1/groups/" + std::to_string(group->id);
              return Answer<GroupView>{std::move(*group), 0, {{"Location", std::move(location)}}};
            });
  http::add(router, protocol::kListGroups, context.reader_thread,
            [&reader](const Call<Nothing, protocol::GroupQuery>& call) {
              return reader.groups(call.query);
            });
  http::add(router, protocol::kShowGroup, context.reader_thread,
            [&reader](const Call<Nothing, Nothing>& call) { return reader.group(call.id); });
  http::add(router, protocol::kCancelGroup, context.writer_thread,
            [&writer](const Call<Nothing, Nothing>& call) {
              return writer.cancel_group(call.id, who(call.request));
            });
  http::add(router, protocol::kScaling, context.reader_thread,
            [&reader](const Call<Nothing, Nothing>& call) { return reader.scaling(call.id); });
}

}  // namespace rackmark::api

#include "common/protocol/groups.hpp"

#include <gmock/gmock.h>

#include "tests/controller/api/controller_fixture.hpp"

namespace rackmark::test {
namespace {

class GroupsApiTest : public ControllerTest {
 protected:
  static protocol::NewGroup scale() {
    protocol::NewGroup group;
    group.kind = "scale";
    group.agents = {1, 2};
    group.spec = small_spec();
    return group;
  }
};

TEST_F(GroupsApiTest, AreSubmittedListedShownAndKeptOverARestart) {
  const auto call = net::make_call(protocol::kCreateGroup, {}, {}, scale());
  const auto reply = client_.request(call);
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->status, 201);
  const auto group = net::decode_reply<protocol::GroupView>(reply);
  ASSERT_TRUE(group) << group.error().message;
  EXPECT_EQ(reply->header("location"), "/api/v1/groups/" + std::to_string(group->id));
  ASSERT_EQ(group->members.size(), 4U);
  EXPECT_EQ(show(group->members[3].id).group_id, group->id);
  ASSERT_TRUE(client_.call(protocol::kCreateGroup, {}, {}, scale()));
  const auto page =
      client_.call(protocol::kListGroups, {}, {.kind = "scale", .cursor = {}, .limit = 1});
  ASSERT_TRUE(page) << page.error().message;
  ASSERT_EQ(page->items.size(), 1U);
  EXPECT_EQ(page->items[0].id, group->id + 1) << "newest first";
  const auto second = client_.call(protocol::kListGroups, {},
                                   {.kind = {}, .cursor = page->next_cursor, .limit = 1});
  EXPECT_EQ(second->items.at(0).id, group->id);
  EXPECT_FALSE(second->next_cursor);

  const auto cancelled = client_.call(protocol::kCancelGroup, group->id);
  ASSERT_TRUE(cancelled) << cancelled.error().message;
  EXPECT_EQ(cancelled->state, JobState::kCancelled);
  EXPECT_EQ(client_.call(protocol::kCancelGroup, group->id).error().code, ErrorCode::kConflict);
  controller_.stop();
  controller_.start();
  EXPECT_EQ(client_.call(protocol::kShowGroup, group->id)->state, JobState::kCancelled);
  const auto scaling = client_.call(protocol::kScaling, group->id);
  ASSERT_TRUE(scaling) << scaling.error().message;
  ASSERT_EQ(scaling->points.size(), 5U) << "1 and 2, then 4, 8 and 16";
  EXPECT_EQ(scaling->points[4].agents, 16);
  EXPECT_FALSE(scaling->points[0].images_per_second) << "no number is null, not 0";
  EXPECT_THAT(scaling->points[0].why, testing::HasSubstr("cancelled"));
}

}  // namespace
}  // namespace rackmark::test

#include <gmock/gmock.h>

#include <set>

#include "tests/controller/api/controller_fixture.hpp"

namespace rackmark::test {
namespace {

using protocol::DryRun;
using testing::HasSubstr;
using testing::IsEmpty;

class JobsTest : public ControllerTest {};

TEST_F(JobsTest, SubmitStoresTheSpecVerbatimAndResolved) {
  net::HttpCall call = net::make_call(protocol::kSubmitJob, {}, {}, small_spec());
  const auto reply = client_.request(call);
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->status, 201);
  const auto job = net::decode_reply<protocol::JobView>(reply);
  ASSERT_TRUE(job) << job.error().message;
  EXPECT_EQ(reply->header("location"), "/api/v1/jobs/" + std::to_string(job->id));
  EXPECT_EQ(job->state, JobState::kQueued);
  EXPECT_EQ(job->spec_submitted, small_spec());
  EXPECT_EQ(job->spec_resolved["precision"], "fp32");
  EXPECT_FALSE(job->headline.images_per_second) << "no number yet is null, not 0";
  ASSERT_TRUE(show(job->id).waiting);
  EXPECT_FALSE(show(job->id).waiting->detail.empty());
}

TEST_F(JobsTest, ADryRunStoresNothing) {
  const auto dry =
      client_.call_as<DryRun>(protocol::kSubmitJob, {}, {.validate = true}, small_spec());
  ASSERT_TRUE(dry) << dry.error().message;
  EXPECT_EQ(dry->spec_resolved["batch_size"], 2);
  EXPECT_THAT(dry->matching_agents, IsEmpty());
  EXPECT_THAT(client_.call(protocol::kListJobs)->items, IsEmpty());
  const auto refused = client_.call_as<DryRun>(protocol::kSubmitJob, {}, {.validate = true},
                                               {{"model", "resnet51"}});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalid);
}

TEST_F(JobsTest, ListsArePagedByACursor) {
  std::set<std::int64_t> wanted;
  for (int i = 0; i < 7; ++i) wanted.insert(submit().id);
  protocol::JobQuery query;
  query.limit = 3;
  std::vector<std::int64_t> seen;
  for (int page = 0; page < 3; ++page) {
    const auto got = client_.call(protocol::kListJobs, {}, query);
    ASSERT_TRUE(got) << got.error().message;
    for (const auto& job : got->items) seen.push_back(job.id);
    EXPECT_EQ(got->next_cursor.has_value(), page < 2);
    submit();  // what comes meanwhile neither moves nor repeats anything
    query.cursor = got->next_cursor;
  }
  EXPECT_EQ(std::set<std::int64_t>(seen.begin(), seen.end()), wanted);
  EXPECT_EQ(seen.size(), wanted.size());
  EXPECT_TRUE(std::is_sorted(seen.rbegin(), seen.rend())) << "newest first";
}

TEST_F(JobsTest, ListsAreFiltered) {
  auto spec = small_spec();
  spec["name"] = "b";
  spec["labels"] = {{"team", "x"}};
  const auto b = submit(spec);
  const auto a = submit();
  ASSERT_TRUE(client_.call(protocol::kCancelJob, a.id));
  const auto ids = [&](protocol::JobQuery query) {
    std::vector<std::int64_t> out;
    const auto page = client_.call(protocol::kListJobs, {}, query);
    EXPECT_TRUE(page) << page.error().message;
    for (const auto& job : page->items) out.push_back(job.id);
    return out;
  };
  EXPECT_EQ(ids({.state = "queued"}), std::vector{b.id});
  EXPECT_EQ(ids({.state = "active"}), std::vector{b.id});
  EXPECT_EQ(ids({.state = "cancelled"}), std::vector{a.id});
  EXPECT_EQ(ids({.name = "b"}), std::vector{b.id});
  EXPECT_EQ(ids({.label = "team=x"}), std::vector{b.id});
  EXPECT_THAT(ids({.model = "alexnet"}), IsEmpty());
}

TEST_F(JobsTest, CancelIsFinalAndRerunIsANewJob) {
  const auto job = submit();
  const auto cancelled = client_.call(protocol::kCancelJob, job.id);
  ASSERT_TRUE(cancelled) << cancelled.error().message;
  EXPECT_EQ(cancelled->state, JobState::kCancelled);
  const auto again = client_.call(protocol::kCancelJob, job.id);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, ErrorCode::kConflict);
  const auto rerun = client_.call(protocol::kRerunJob, job.id);
  ASSERT_TRUE(rerun) << rerun.error().message;
  EXPECT_EQ(rerun->rerun_of, job.id);
  EXPECT_EQ(rerun->spec_submitted, job.spec_submitted);
  EXPECT_EQ(rerun->state, JobState::kQueued);
}

TEST_F(JobsTest, TheSameKeyIsTheSameJob) {
  const net::Headers key{{"Idempotency-Key", "night-7"}};
  const auto first =
      client_.call(protocol::kSubmitJob, {}, {}, small_spec(), net::kDefaultTimeout, key);
  const auto second =
      client_.call(protocol::kSubmitJob, {}, {}, small_spec(), net::kDefaultTimeout, key);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->id, second->id);
  EXPECT_EQ(client_.call(protocol::kListJobs)->items.size(), 1u);
  auto other = small_spec();
  other["seed"] = 2;
  const auto conflict =
      client_.call(protocol::kSubmitJob, {}, {}, other, net::kDefaultTimeout, key);
  ASSERT_FALSE(conflict);
  EXPECT_EQ(conflict.error().code, ErrorCode::kConflict);
}

TEST_F(JobsTest, EverythingIsThereAfterARestart) {
  const auto job = submit();
  const auto before = client_.call(protocol::kVersion);
  controller_.stop();
  controller_.start();
  EXPECT_EQ(show(job.id).spec_submitted, small_spec());
  EXPECT_EQ(client_.call(protocol::kVersion)->controller_uuid, before->controller_uuid);
}

}  // namespace
}  // namespace rackmark::test

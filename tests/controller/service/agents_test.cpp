// Enrolment, identity, leases, restarts.
#include <gmock/gmock.h>

#include <fstream>

#include "controller/service/device_class.hpp"
#include "controller/service/secrets.hpp"
#include "controller/store/error.hpp"
#include "controller/store/migrate.hpp"
#include "tests/controller/service/fleet.hpp"

namespace rackmark::service {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class AgentsTest : public Fleet {};

TEST_F(AgentsTest, TokenIsGoodOnceAndForItsTime) {
  auto first = enrolment("a");
  ASSERT_TRUE(writer->enrol(first));
  auto second = first;
  second.name = "b";
  EXPECT_EQ(writer->enrol(second).error().code, ErrorCode::kUnauthorized);
  auto late = enrolment("c");
  clock.advance_s(3601);
  EXPECT_THAT(writer->enrol(late).error().message, HasSubstr("expired"));
  late.token = "guess";
  EXPECT_EQ(writer->enrol(late).error().code, ErrorCode::kUnauthorized);
  EXPECT_EQ(writer->create_enrolment_token(5).error().fields.at(0).field, "valid_s");
}

TEST_F(AgentsTest, LostAnswerOfAnEnrolmentCanBeAskedForAgainUntilTheFirstSync) {
  auto e = enrolment("a");
  const auto first = writer->enrol(e);
  const auto again = writer->enrol(e);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->agent_id, first->agent_id);
  EXPECT_NE(again->agent_token, first->agent_token);
  EXPECT_FALSE(reader->authenticate(first->agent_id, first->agent_token));
  EXPECT_TRUE(reader->authenticate(first->agent_id, again->agent_token));
  AgentState agent;
  agent.id = again->agent_id;
  sync(agent);
  EXPECT_EQ(writer->enrol(e).error().code, ErrorCode::kUnauthorized);
}

TEST_F(AgentsTest, HeldNameIsRefusedNamingTheHolder) {
  const auto holder = enrol("a");
  const auto error = writer->enrol(enrolment("a")).error();
  EXPECT_EQ(error.code, ErrorCode::kConflict);
  EXPECT_THAT(error.message, HasSubstr("held by agent " + std::to_string(holder.id)));
  // The refused token was not used up.
  auto e = enrolment("a");
  EXPECT_FALSE(writer->enrol(e));
  e.name = "b";
  EXPECT_TRUE(writer->enrol(e));
}

TEST_F(AgentsTest, RetiredAgentIsRefusedAndItsNameIsFreeUntilItEnrolsAnew) {
  auto a = enrol("a");
  const auto id = submit(spec()).id;
  const auto run_id = start_run(a);
  EXPECT_THAT(writer->retire_agent(a.id).error().message, HasSubstr("still has a run"));
  pass(76);  // lost, as is its run: nobody will say that its host is empty
  EXPECT_EQ(run(run_id).state, RunState::kLost);
  ASSERT_TRUE(writer->retire_agent(a.id));
  EXPECT_EQ(reader->agent(a.id)->state, "retired");
  EXPECT_THAT(reader->agents().items, IsEmpty());
  EXPECT_EQ(writer->retire_agent(a.id).error().code, ErrorCode::kConflict);
  EXPECT_EQ(writer->retire_agent(99).error().code, ErrorCode::kNotFound);
  EXPECT_THAT(reader->authenticate(a.id, a.token).error().message, HasSubstr("was retired"));
  EXPECT_EQ(writer->sync(a.id, state_of(a)).error().code, ErrorCode::kUnauthorized);
  pass(1);
  EXPECT_EQ(job(id).runs.size(), 1U) << "its retry waits for another host";

  const auto again = enrolment("a");
  auto reborn = enrol("a");
  EXPECT_EQ(reborn.id, a.id);  // its history goes on
  EXPECT_FALSE(reader->authenticate(a.id, a.token));
  EXPECT_TRUE(reader->authenticate(a.id, reborn.token));
  EXPECT_EQ(writer->enrol(again).error().code, ErrorCode::kConflict);
  reborn.boot = "another";
  EXPECT_EQ(sync(reborn).down.wanted.size(), 1U);
  EXPECT_EQ(run(run_id).agent, "a");
}

TEST_F(AgentsTest, TokenOfARetiredAgentsFirstEnrolmentIsNoRepeatOfItsSecond) {
  const auto first = enrolment("a");
  const auto a = writer->enrol(first)->agent_id;
  ASSERT_TRUE(writer->retire_agent(a));
  EXPECT_EQ(writer->enrol(first).error().code, ErrorCode::kUnauthorized);
  clock.advance_s(1);
  const auto second = enrolment("a");
  ASSERT_TRUE(writer->enrol(second));
  EXPECT_EQ(writer->enrol(first).error().code, ErrorCode::kUnauthorized);
  EXPECT_EQ(writer->enrol(second)->agent_id, a);
}

TEST_F(AgentsTest, BadEnrolmentNamesEveryField) {
  auto e = enrolment("bad name");
  e.labels = {{"name", "x"}, {"ok", std::string(500, 'x')}};
  e.device_class = "";
  const auto error = writer->enrol(e).error();
  EXPECT_EQ(error.code, ErrorCode::kInvalid);
  std::vector<std::string> fields;
  for (const auto& problem : error.fields) fields.push_back(problem.field);
  EXPECT_THAT(fields, ElementsAre("labels.name", "labels.ok", "name", "device_class"));
}

TEST_F(AgentsTest, SecretsAreHashedAtRest) {
  const auto agent = enrol("a");
  EXPECT_EQ(agent.token.size(), 64U);
  EXPECT_TRUE(reader->authenticate(agent.id, agent.token));
  EXPECT_EQ(reader->authenticate(agent.id, "x").error().code, ErrorCode::kUnauthorized);
  EXPECT_EQ(reader->authenticate(99, agent.token).error().code, ErrorCode::kUnauthorized);
  EXPECT_EQ(reader->authenticate(99, "").error().code, ErrorCode::kUnauthorized);
  writer->checkpoint();
  std::ifstream in(file(), std::ios::binary);
  const std::string bytes(std::istreambuf_iterator<char>(in), {});
  EXPECT_EQ(bytes.find(agent.token), std::string::npos);
}

TEST_F(AgentsTest, SecretsCompareAndDiffer) {
  EXPECT_TRUE(equal_secrets("abc", "abc"));
  EXPECT_FALSE(equal_secrets("abc", "abd"));
  EXPECT_FALSE(equal_secrets("abc", "ab"));
  EXPECT_NE(random_hex(32), random_hex(32));
  EXPECT_EQ(random_uuid().size(), 36U);
  EXPECT_EQ(random_uuid()[14], '4');
}

TEST_F(AgentsTest, DeviceClassIsMadeOfHardwareFacts) {
  auto inventory = small_host("a");
  EXPECT_EQ(device_class_of(inventory), "cpu 1x GenuineIntel-6-143-8 avx512 2c");
  inventory.memory_bytes *= 2;
  inventory.cpu.model_name = "Xeon Something Else";
  EXPECT_EQ(device_class_of(inventory), "cpu 1x GenuineIntel-6-143-8 avx512 2c");
  inventory.gpus = {{"NVIDIA H200", "u1", "", 0}, {"NVIDIA H200", "u2", "", 0}};
  EXPECT_EQ(device_class_of(inventory), "gpu 2x NVIDIA H200");
}

TEST_F(AgentsTest, SilentAgentIsLostAfterFiveQuartersOfItsLeaseAndItsRunIsRetried) {
  auto a = enrol("a");
  const auto id = submit(spec()).id;
  const auto run_id = start_run(a);
  auto b = enrol("b");
  sync(b);
  pass(74);
  sync(b);
  EXPECT_EQ(run(run_id).state, RunState::kMeasuring);
  pass(2);
  EXPECT_EQ(run(run_id).state, RunState::kLost);
  EXPECT_EQ(run(run_id).reason, Reason::kAgentLost);
  EXPECT_EQ(reader->agent(a.id)->state, "lost");
  const auto down = sync(b).down;
  ASSERT_EQ(down.wanted.size(), 1U);
  EXPECT_EQ(down.wanted[0].job_id, id);
  EXPECT_EQ(down.wanted[0].attempt, 2);
  // The lost one comes back: its late report changes nothing, its host is free when it is empty.
  EXPECT_THAT(sync(a).down.wanted, IsEmpty());
  report_end(a, run_id, RunState::kSucceeded, Reason::kNone, 0);
  EXPECT_EQ(run(run_id).state, RunState::kLost);
  EXPECT_EQ(reader->agent(a.id)->state, "idle");
  EXPECT_THAT(a.runs, IsEmpty());
}

TEST_F(AgentsTest, WhatAFullDiskKeptFromBeingStoredIsFoundAgain) {
  auto a = enrol("a"), b = enrol("b");
  submit(spec());
  const auto lost = start_run(a);
  auto quick = spec();
  quick["timeout_s"] = 60;
  submit(quick);
  const auto overdue = start_run(b);
  const auto tick_on_a_full_disk = [this] {
    const FullDisk full;
    EXPECT_THROW(writer->tick(), store::StoreError);
  };
  clock.advance_s(70);
  sync(b);
  {
    const FullDisk full;
    EXPECT_THROW(sync(a), store::StoreError);  // not answered, so not heard of
  }
  clock.advance_s(10);
  tick_on_a_full_disk();
  EXPECT_EQ(run(lost).state, RunState::kMeasuring);
  writer->tick();
  EXPECT_EQ(run(lost).state, RunState::kLost);
  clock.advance_s(45);  // 125 s: past its time-out and the grace
  sync(b);
  tick_on_a_full_disk();
  EXPECT_EQ(run(overdue).state, RunState::kMeasuring);
  writer->tick();
  EXPECT_EQ(run(overdue).state, RunState::kTimeout);
}

TEST_F(AgentsTest, RestartedControllerWaitsAFullLease) {
  auto a = enrol("a");
  submit(spec());
  const auto run_id = start_run(a);
  pass(70);
  open();
  pass(74);  // 144 s of silence, 74 of them known to this process
  EXPECT_EQ(run(run_id).state, RunState::kMeasuring);
  pass(2);
  EXPECT_EQ(run(run_id).state, RunState::kLost);
}

TEST_F(AgentsTest, RunGoesOnOverARestartOfTheController) {
  auto a = enrol("a");
  const auto id = submit(spec()).id;
  const auto run_id = start_run(a);
  open();
  ASSERT_TRUE(writer->accept_events(a.id, {batches(run_id, {})}));
  open();
  report_end(a, run_id, RunState::kSucceeded, Reason::kNone, 1);
  EXPECT_EQ(job(id).state, JobState::kSucceeded);
  EXPECT_EQ(reader->results({})->items.size(), 1U);
  EXPECT_EQ(job(id).runs.size(), 1U);
}

TEST_F(AgentsTest, RestartedAgentThatForgotItsRunLosesIt) {
  auto a = enrol("a");
  const auto id = submit(spec()).id;
  const auto run_id = start_run(a);
  a.incarnation = "0002";
  a.number = 0;
  a.runs.clear();
  const auto down = sync(a).down;
  EXPECT_EQ(run(run_id).state, RunState::kFailed);
  EXPECT_EQ(run(run_id).reason, Reason::kAgentRestarted);
  ASSERT_EQ(down.wanted.size(), 1U);  // the retry, on the same host
  EXPECT_EQ(down.wanted[0].attempt, 2);
  EXPECT_NE(down.wanted[0].run_id, run_id);
  EXPECT_EQ(job(id).state, JobState::kRunning);
}

TEST_F(AgentsTest, RestartedAgentDoesNotRunAgainWhatItHadEnded) {
  auto a = enrol("a");
  const auto id = submit(spec()).id;
  const auto run_id = start_run(a);
  report_end(a, run_id, RunState::kOutOfMemory, Reason::kOutOfMemory, 5);  // batches to come
  EXPECT_EQ(run(run_id).state, RunState::kMeasuring);
  EXPECT_EQ(reader->agent(a.id)->state, "idle");  // the host is empty already
  a.incarnation = "0002";
  a.number = 0;
  a.runs.clear();
  EXPECT_THAT(sync(a).down.wanted, IsEmpty());
  EXPECT_EQ(job(id).outcome, RunState::kOutOfMemory);  // the batches are lost, the answer is not
}

TEST_F(AgentsTest, RunWhoseAnnouncementWasLostIsToldAgain) {
  auto a = enrol("a");
  submit(spec());
  const auto first = writer->sync(a.id, state_of(a));  // the answer never arrives
  ASSERT_EQ(first->down.wanted.size(), 1U);
  const auto second = writer->sync(a.id, state_of(a));
  ASSERT_EQ(second->down.wanted.size(), 1U);
  EXPECT_EQ(second->down.wanted[0].run_id, first->down.wanted[0].run_id);
  EXPECT_TRUE(second->answer_now);
}

TEST_F(AgentsTest, LateSyncChangesNothing) {
  auto a = enrol("a");
  submit(spec());
  const auto old = state_of(a);
  const auto run_id = start_run(a);
  const auto reply = writer->sync(a.id, old);  // does not list the run, but was overtaken
  ASSERT_TRUE(reply);
  EXPECT_TRUE(reply->answer_now);
  EXPECT_EQ(reply->down.wanted.size(), 1U);
  EXPECT_EQ(run(run_id).state, RunState::kMeasuring);
}

TEST_F(AgentsTest, ClonedDiskIsRefusedUntilTheHolderIsSilent) {
  auto a = enrol("a");
  sync(a);
  auto clone = a;
  clone.boot = "another";
  clone.incarnation = "0009";
  const auto error = writer->sync(clone.id, state_of(clone)).error();
  EXPECT_EQ(error.code, ErrorCode::kConflict);
  EXPECT_THAT(error.message, HasSubstr("agent_conflict"));
  EXPECT_EQ(reader->agent(a.id)->state, "conflict");
  EXPECT_THAT(reader->agent(a.id)->state_detail, HasSubstr("boot another"));
  pass(50);
  sync(a);  // the holder goes on
  pass(50);
  EXPECT_FALSE(writer->sync(clone.id, state_of(clone)));
  pass(11);
  EXPECT_TRUE(writer->sync(clone.id, state_of(clone)));
  EXPECT_FALSE(writer->sync(a.id, state_of(a)));  // now the other one is the holder
}

TEST_F(AgentsTest, NewestProcessOfOneBootWins) {
  auto a = enrol("a");
  sync(a);
  auto newer = a;
  newer.incarnation = "0002";
  sync(newer);
  EXPECT_EQ(writer->sync(a.id, state_of(a)).error().code, ErrorCode::kConflict);
  sync(newer);
}

// Incarnations are ordered by the wall clock of their host.
TEST_F(AgentsTest, AClockThatWasSetBackLocksNoAgentOut) {
  auto a = enrol("a");
  a.incarnation = "0009";
  sync(a);
  auto restarted = a;
  restarted.incarnation = "0002";
  EXPECT_EQ(writer->sync(a.id, state_of(restarted)).error().code, ErrorCode::kConflict);
  clock.advance_s(settings.lease_s + 1);
  EXPECT_TRUE(writer->sync(a.id, state_of(restarted))) << "silent for a lease";
  auto up = state_of(restarted);
  up.leaving = true;
  ASSERT_TRUE(writer->sync(a.id, up));
  restarted.incarnation = "0001";
  EXPECT_TRUE(writer->sync(a.id, state_of(restarted))) << "the holder has left";
}

TEST_F(AgentsTest, LeavingAgentGetsNoWork) {
  auto a = enrol("a");
  EXPECT_EQ(reader->agent(a.id)->state, "new");
  sync(a);
  auto up = state_of(a);
  up.leaving = true;
  ASSERT_TRUE(writer->sync(a.id, up));
  const auto id = submit(spec()).id;
  EXPECT_EQ(job(id).state, JobState::kQueued);
  EXPECT_EQ(job(id).waiting->detail, "waiting for agent a (shut down)");
  EXPECT_EQ(reader->agent(a.id)->state, "left");
  EXPECT_EQ(reader->counters().agents_by_state.at("left"), 1);
  EXPECT_EQ(reader->counters().agents_by_state.at("lost"), 0);
  sync(a);
  EXPECT_EQ(job(id).state, JobState::kRunning);
}

TEST_F(AgentsTest, SyncIsHeldOnlyWhenThereIsNothingNew) {
  auto a = enrol("a");
  EXPECT_TRUE(sync(a).answer_now);  // the first word to this process
  auto idle = sync(a);
  EXPECT_FALSE(idle.answer_now);
  EXPECT_DOUBLE_EQ(idle.hold_s, 15);  // a quarter of the lease, at most 25
  woken.clear();
  submit(spec());
  EXPECT_THAT(woken, ElementsAre(a.id));
  auto down = writer->sync_down(a.id);  // what the held call is answered with
  ASSERT_EQ(down->wanted.size(), 1U);
  EXPECT_EQ(down->wanted[0].hosts, std::vector<std::string>{"a"});
  EXPECT_EQ(down->wanted[0].spec["resources"]["threads_per_worker"], 2);
  EXPECT_GT(down->wanted[0].timeout_s, 0);
  take(a, *down);
  sync(a);
  const auto busy = sync(a);
  EXPECT_FALSE(busy.answer_now);
  EXPECT_DOUBLE_EQ(busy.hold_s, 3);
}

TEST_F(AgentsTest, InventoryChangesTheDeviceClassUnlessItWasGiven) {
  auto a = enrol("a");
  auto e = enrolment("b");
  e.device_class = "my class";
  AgentState b;
  b.id = writer->enrol(e)->agent_id;
  for (auto* agent : {&a, &b}) {
    auto up = state_of(*agent);
    up.inventory = small_host("x");
    up.inventory->cpu.physical_cores = 8;
    up.labels = std::map<std::string, std::string>{{"rack", "7"}};
    ASSERT_TRUE(writer->sync(agent->id, up));
  }
  EXPECT_EQ(reader->agent(a.id)->device_class, "cpu 1x GenuineIntel-6-143-8 avx512 8c");
  EXPECT_EQ(reader->agent(b.id)->device_class, "my class");
  EXPECT_EQ(reader->agent(b.id)->labels.at("rack"), "7");
}

TEST_F(AgentsTest, DatabaseIsHeldByOneController) {
  EXPECT_THROW(Writer(file(), clock, settings, {}), store::StoreError);
  const auto uuid = reader->identity().controller_uuid;
  open();
  EXPECT_EQ(reader->identity().controller_uuid, uuid);
  EXPECT_EQ(reader->identity().schema, store::embedded_migrations().back().number);
}

}  // namespace
}  // namespace rackmark::service

// Runs over several agents: placement on one network, the relay, and how their ends come together.
#include <gmock/gmock.h>

#include <array>

#include "controller/service/allocation.hpp"
#include "controller/service/life.hpp"
#include "controller/service/networks.hpp"
#include "controller/service/run_end.hpp"
#include "tests/controller/service/fleet.hpp"

namespace rackmark::service {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// --- networks

TEST(Networks, OfAnInterface) {
  EXPECT_EQ(network_of("10.1.2.3/24"), "10.1.2.0/24");
  EXPECT_EQ(network_of("10.1.2.3/0"), "0.0.0.0/0");
  EXPECT_EQ(network_of("192.168.7.9/32"), "192.168.7.9/32");
  EXPECT_EQ(network_of("172.16.99.1/12"), "172.16.0.0/12");
  for (const char* bad : {"", "10.1.2.3", "10.1.2/24", "10.1.2.3/33", "10.1.2.300/8", "fe80::1/64",
                          "10.1.2.3.4/8", "a.b.c.d/8", "10.1.2.3/x"})
    EXPECT_EQ(network_of(bad), std::nullopt) << bad;
}

TEST(Networks, SharedOnesWithoutPrivateBridges) {
  const Networked a{{"10.0.0.1/24", "172.17.0.1/16", "fe80::1/64", "169.254.1.1/16"}, ""};
  const Networked b{{"10.0.0.2/24", "172.17.0.1/16", "169.254.1.2/16"}, ""};
  EXPECT_THAT(common_networks({a, b}), ElementsAre("10.0.0.0/24"));
  const Networked both{{"10.0.0.3/24", "10.9.0.3/24"}, ""}, two{{"10.0.0.4/24", "10.9.0.4/24"}, ""};
  EXPECT_THAT(common_networks({both, two}), ElementsAre("10.0.0.0/24", "10.9.0.0/24"));
  const Networked stated{{"10.0.0.5/24", "10.9.0.5/24"}, "10.9.0.0/24"};
  EXPECT_THAT(common_networks({both, stated}), ElementsAre("10.9.0.0/24"));
  EXPECT_THAT(common_networks({a, stated}), IsEmpty());
  // Agents on one machine: stated, so that equal addresses are meant.
  const Networked local{{}, "127.0.0.0/8"};
  EXPECT_THAT(common_networks({local, local}), ElementsAre("127.0.0.0/8"));
}

// --- Slurm

TEST(Allocation, AllHostsOfOneOrNone) {
  const auto host = [](const std::string& cluster, std::int64_t job, const std::string& node) {
    protocol::Inventory inventory;
    if (job != 0) inventory.slurm = protocol::SlurmAllocation{cluster, node, job};
    return inventory;
  };
  const auto a = host("lab", 7, "n2"), b = host("lab", 7, "n1");
  EXPECT_THAT(nodes_of_one_allocation({a, b}), ElementsAre("n2", "n1"));
  EXPECT_THAT(nodes_of_one_allocation({a}), IsEmpty());  // one host needs no step
  EXPECT_THAT(nodes_of_one_allocation({}), IsEmpty());
  for (const auto& other : {host("lab", 8, "n1"), host("far", 7, "n1"), host("", 0, ""), a}) {
    EXPECT_THAT(nodes_of_one_allocation({a, other}), IsEmpty());
    EXPECT_THAT(nodes_of_one_allocation({other, a, b}), IsEmpty());
  }
}

// --- how ends come together

HostEnd end(const std::string& agent, RunState state, Reason reason, const std::string& detail) {
  HostEnd e;
  e.agent = agent;
  e.state = state;
  e.reason = reason;
  e.detail = detail;
  return e;
}

TEST(RunEnd, TheCauseCounts) {
  const auto ok = end("a", RunState::kSucceeded, Reason::kNone, "");
  const auto crash = end("a", RunState::kFailed, Reason::kWorkerCrashed, "mpirun ended");
  const auto told = end("b", RunState::kCancelled, Reason::kCancelledByUser, "cancelled");
  const auto lost = end("c", RunState::kLost, Reason::kAgentLost, "agent c was silent");
  const auto nan = end("c", RunState::kFailed, Reason::kNanLoss, "rank 4: loss is NaN");
  const auto memory = end("c", RunState::kOutOfMemory, Reason::kOutOfMemory, "out of memory");
  EXPECT_EQ(ending_of({ok, ok}, false).state, RunState::kSucceeded);
  EXPECT_EQ(ending_of({ok, told}, false).state, RunState::kSucceeded);  // told late, after the end
  EXPECT_EQ(ending_of({crash, told, lost}, false).state, RunState::kLost);
  EXPECT_THAT(ending_of({crash, told, lost}, false).detail, HasSubstr("agent c was silent"));
  EXPECT_EQ(ending_of({ok, lost}, false).state, RunState::kLost);
  EXPECT_EQ(ending_of({crash, nan, told}, false).reason, Reason::kNanLoss);
  EXPECT_EQ(ending_of({crash, nan, memory}, false).state, RunState::kOutOfMemory);
  EXPECT_EQ(ending_of({told, told}, true).state, RunState::kCancelled);
  const auto daemon =
      end("b", RunState::kFailed, Reason::kWorkerCrashed, "daemon ended on signal 9");
  EXPECT_THAT(ending_of({crash, daemon}, false).detail,
              AllOf(HasSubstr("mpirun ended"), HasSubstr("agent b: daemon ended on signal 9")));
}

TEST(RunEnd, TheStallOfTheCulpritCounts) {
  auto waiting = end("a", RunState::kStalled, Reason::kNoProgress, "no progress of rank 0");
  waiting.stall = protocol::StallReport{0, 7, "a", "measuring", "R (running)", 20.5, 20};
  auto stopped = end("b", RunState::kStalled, Reason::kNoProgress, "no progress of rank 3");
  stopped.stall = protocol::StallReport{3, 7, "b", "measuring", "T (stopped)", 20.1, 20};
  EXPECT_EQ(ending_of({waiting, stopped}, false).detail, "no progress of rank 3");
  stopped.stall->process_state = "S (sleeping)";
  stopped.stall->steps = 6;
  EXPECT_EQ(ending_of({waiting, stopped}, false).detail, "no progress of rank 3");
  stopped.stall->steps = 7;
  EXPECT_EQ(ending_of({waiting, stopped}, false).detail, "no progress of rank 0");
}

// mpirun on the head knows why a member's rank is gone, and says so a moment later.
TEST(RunEnd, TheHeadIsHeardBeforeAMembersEndEndsTheRun) {
  const std::int64_t now = 100'000'000, just_now = now - 4'000'000, long_ago = now - 6'000'000;
  const auto ended = [](int position, RunState state, Reason reason, std::int64_t end_us) {
    std::vector<store::HostRow> hosts(2);
    hosts[0].position = 0;
    hosts[1].position = 1;
    hosts[position].end_state = state;
    hosts[position].end_reason = reason;
    hosts[position].end_us = end_us;
    return hosts;
  };
  for (const Reason crash : {Reason::kLaunchFailed, Reason::kWorkerCrashed, Reason::kMissingRank}) {
    EXPECT_FALSE(must_end(ended(1, RunState::kFailed, crash, just_now), now));
    EXPECT_TRUE(must_end(ended(1, RunState::kFailed, crash, long_ago), now));
    EXPECT_TRUE(must_end(ended(0, RunState::kFailed, crash, just_now), now));
  }
  EXPECT_TRUE(must_end(ended(1, RunState::kFailed, Reason::kNanLoss, just_now), now));
  // The head's good end is followed by the others'; a member's good end says nothing of the head.
  EXPECT_FALSE(must_end(ended(0, RunState::kSucceeded, Reason::kNone, just_now), now));
  EXPECT_TRUE(must_end(ended(0, RunState::kSucceeded, Reason::kNone, long_ago), now));
  EXPECT_FALSE(must_end(ended(1, RunState::kSucceeded, Reason::kNone, long_ago), now));
  EXPECT_FALSE(must_end(std::vector<store::HostRow>(2), now));
}

// --- through the Writer

class GangTest : public Fleet {
 protected:
  AgentState host(const std::string& name, std::vector<std::string> addresses,
                  const std::string& network = "") {
    protocol::Enrolment e = enrolment(name);
    e.inventory.addresses = std::move(addresses);
    e.inventory.network = network;
    const auto enrolled = writer->enrol(e);
    if (!enrolled) throw std::runtime_error(enrolled.error().message);
    AgentState agent;
    agent.id = enrolled->agent_id;
    agent.name = name;
    agent.boot = "boot-of-" + name;
    sync(agent);
    return agent;
  }
  static nlohmann::json gang_spec(int agents) {
    auto spec = Fleet::spec();
    spec["resources"] = {{"agents", agents}, {"workers_per_agent", 1}};
    spec["retries"] = 0;
    return spec;
  }
  void say(AgentState& agent, std::int64_t run_id, RunState state) {
    agent.runs.at(run_id).state = state;
    agent.runs.at(run_id).at = rfc3339(clock.wall_us());
    sync(agent);
  }
  void send_story(AgentState& agent, std::int64_t run_id, std::int64_t rank) {
    protocol::EventBatch batch = batch_of(run_id);
    batch.events = story_of_rank({.ranks = 2, .steps = 4, .batch = 16, .ms = 100}, rank);
    ASSERT_TRUE(writer->accept_events(agent.id, {{batch}}).has_value());
  }
};

TEST_F(GangTest, IsPlacedOnOneNetworkAndSucceedsWithAllItsHosts) {
  auto a = host("a", {"10.0.0.1/24"}), b = host("b", {"10.0.0.2/24"});
  const auto id = submit(gang_spec(2)).id;
  const auto down = sync(a).down;
  ASSERT_EQ(down.wanted.size(), 1U);
  EXPECT_THAT(down.wanted[0].hosts, ElementsAre("a", "b"));
  EXPECT_EQ(down.wanted[0].position, 0);
  EXPECT_EQ(down.wanted[0].network, "10.0.0.0/24");
  const auto run_id = down.wanted[0].run_id;
  EXPECT_EQ(sync(b).down.wanted.at(0).position, 1);
  say(a, run_id, RunState::kMeasuring);
  EXPECT_EQ(run(run_id).state, RunState::kReserved);  // as far as its slowest host
  say(b, run_id, RunState::kWarmup);
  EXPECT_EQ(run(run_id).state, RunState::kWarmup);
  send_story(a, run_id, 0);
  send_story(b, run_id, 1);
  report_end(a, run_id, RunState::kSucceeded, Reason::kNone, 1);
  EXPECT_FALSE(is_terminal(run(run_id).state));  // the other host is not empty yet
  report_end(b, run_id, RunState::kSucceeded, Reason::kNone, 1);
  const auto done = run(run_id);
  EXPECT_EQ(done.state, RunState::kSucceeded);
  ASSERT_EQ(done.hosts.size(), 2U);
  EXPECT_EQ(done.hosts[1].agent, "b");
  EXPECT_EQ(done.hosts[1].first_rank, 1);
  EXPECT_EQ(done.hosts[1].ended, RunState::kSucceeded);
  ASSERT_TRUE(done.result);
  EXPECT_EQ(done.result->ranks, 2);
  EXPECT_EQ(done.result->rank_times.at(1).host, "b");
  EXPECT_NEAR(done.result->images_per_second, 2 * 64 / 0.4, 1e-6);
  EXPECT_EQ(job(id).state, JobState::kSucceeded);
}

TEST_F(GangTest, SaysWhoHasHowManyWorkersAndServers) {
  auto a = host("a", {"10.0.0.1/24"}), b = host("b", {"10.0.0.2/24"});
  auto spec = gang_spec(2);
  spec["resources"] = {{"agents", 2}, {"workers", 3}};
  spec["variable_update"] = "parameter_server";
  spec["parameter_server"] = {{"placement", "dedicated"}};
  submit(spec);
  const auto hosts = run(sync(a).down.wanted.at(0).run_id).hosts;
  ASSERT_EQ(hosts.size(), 2U);
  const auto counts = [](const auto& h) { return std::array{h.first_rank, h.ranks, h.servers}; };
  EXPECT_THAT(counts(hosts[0]), ElementsAre(0, 2, 0));
  EXPECT_THAT(counts(hosts[1]), ElementsAre(2, 1, 1));
}

TEST_F(GangTest, OneFailureEndsAllAndTheHostsAreFreeWhenTheyAreEmpty) {
  auto a = host("a", {"10.0.0.1/24"}), b = host("b", {"10.0.0.2/24"});
  const auto id = submit(gang_spec(2)).id;
  const auto run_id = start_run(a);
  start_run(b);
  woken.clear();
  report_end(b, run_id, RunState::kFailed, Reason::kInputUnavailable, 0);
  EXPECT_THAT(woken, testing::Contains(a.id));
  EXPECT_EQ(reader->agent(b.id)->state, "idle");
  EXPECT_EQ(reader->agent(a.id)->state, "busy");
  EXPECT_FALSE(is_terminal(run(run_id).state));
  EXPECT_THAT(sync(a).down.cancel, ElementsAre(run_id));
  report_end(a, run_id, RunState::kCancelled, Reason::kCancelledByUser, 0);
  EXPECT_EQ(run(run_id).state, RunState::kFailed);
  EXPECT_EQ(run(run_id).reason, Reason::kInputUnavailable);
  EXPECT_EQ(job(id).state, JobState::kFailed);
  EXPECT_EQ(reader->agent(a.id)->state, "idle");
}

TEST_F(GangTest, ALostHostIsNamedOnceTheOthersAreEmpty) {
  auto a = host("a", {"10.0.0.1/24"}), b = host("b", {"10.0.0.2/24"});
  submit(gang_spec(2));
  const auto run_id = start_run(a);
  start_run(b);
  for (int i = 0; i < 10; ++i) {
    pass(8);
    sync(a);
  }
  EXPECT_EQ(reader->agent(b.id)->state, "lost");
  EXPECT_FALSE(is_terminal(run(run_id).state));
  EXPECT_THAT(sync(a).down.cancel, ElementsAre(run_id));
  report_end(a, run_id, RunState::kCancelled, Reason::kCancelledByUser, 0);
  EXPECT_EQ(run(run_id).state, RunState::kLost);
  EXPECT_THAT(run(run_id).detail, HasSubstr("agent b was silent"));
}

TEST_F(GangTest, CancelReachesHostsThatWereNeverTold) {
  auto a = host("a", {"10.0.0.1/24"}), b = host("b", {"10.0.0.2/24"});
  const auto id = submit(gang_spec(2)).id;
  const auto run_id = start_run(a);
  ASSERT_TRUE(writer->cancel(id).has_value());
  EXPECT_THAT(sync(b).down.cancel, ElementsAre(run_id));
  b.runs[run_id].run_id = run_id;  // an agent reports what it was told to end but never had
  report_end(b, run_id, RunState::kCancelled, Reason::kCancelledByUser, 0);
  EXPECT_EQ(job(id).state, JobState::kRunning);
  report_end(a, run_id, RunState::kCancelled, Reason::kCancelledByUser, 0);
  EXPECT_EQ(job(id).state, JobState::kCancelled);
}

protocol::RelayCall call_of(const protocol::WantedRun& wanted, std::int64_t host) {
  return {1, wanted.run_id, host, wanted.run_token, {"orted", "-mca", "ess", "env"}};
}

TEST_F(GangTest, TheRelayCarriesCallsOfTheHeadAndResultsBack) {
  auto a = host("a", {"10.0.0.1/24"}), b = host("b", {"10.0.0.2/24"});
  submit(gang_spec(2));
  const auto wanted = sync(a).down.wanted.at(0);
  sync(b);
  auto up = state_of(a);
  up.relay_calls = {call_of(wanted, 1)};
  woken.clear();
  ASSERT_TRUE(writer->sync(a.id, up));
  EXPECT_THAT(woken, ElementsAre(b.id));
  const auto down = writer->sync_down(b.id);
  ASSERT_EQ(down->relay_calls.size(), 1U);
  EXPECT_EQ(down->relay_calls[0].argv.front(), "orted");
  EXPECT_THAT(writer->sync_down(a.id)->relay_calls, IsEmpty());

  auto result = state_of(b);
  result.relay_results = {{1, wanted.run_id, 137, "killed"}};
  woken.clear();
  ASSERT_TRUE(writer->sync(b.id, result));
  EXPECT_THAT(woken, ElementsAre(a.id));
  ASSERT_EQ(writer->sync_down(a.id)->relay_results.size(), 1U);
  EXPECT_EQ(writer->sync_down(a.id)->relay_results[0].exit_code, 137);

  // A restarted controller has it again with the next syncs.
  open();
  EXPECT_THAT(writer->sync_down(b.id)->relay_calls, IsEmpty());
  up.number = ++a.number;
  ASSERT_TRUE(writer->sync(a.id, up));
  EXPECT_EQ(writer->sync_down(b.id)->relay_calls.size(), 1U);
}

TEST_F(GangTest, TheRelayRefusesWhoeverIsNotTheHeadOfThatRun) {
  auto a = host("a", {"10.0.0.1/24"}), b = host("b", {"10.0.0.2/24"}),
       c = host("c", {"10.0.0.3/24"});
  submit(gang_spec(2));
  const auto wanted = sync(a).down.wanted.at(0);
  sync(b);
  const auto relayed = [&](AgentState& from, protocol::RelayCall call) {
    auto up = state_of(from);
    up.relay_calls = {std::move(call)};
    EXPECT_TRUE(writer->sync(from.id, up));
    return writer->sync_down(b.id)->relay_calls.size();
  };
  EXPECT_EQ(relayed(c, call_of(wanted, 1)), 0U);  // not of the run
  EXPECT_EQ(relayed(b, call_of(wanted, 1)), 0U);  // not the head
  auto bad = call_of(wanted, 1);
  bad.run_token = "guess";
  EXPECT_EQ(relayed(a, bad), 0U);
  EXPECT_EQ(relayed(a, call_of(wanted, 0)), 0U);  // the head itself
  EXPECT_EQ(relayed(a, call_of(wanted, 7)), 0U);  // nobody
  bad = call_of(wanted, 1);
  bad.run_id = 999;
  EXPECT_EQ(relayed(a, bad), 0U);
  bad = call_of(wanted, 1);
  bad.argv.assign(2000, "x");
  EXPECT_EQ(relayed(a, bad), 0U);
  EXPECT_EQ(relayed(a, call_of(wanted, 1)), 1U);
  // A result from another than the one that was called.
  auto up = state_of(c);
  up.relay_results = {{1, wanted.run_id, 0, ""}};
  ASSERT_TRUE(writer->sync(c.id, up));
  EXPECT_THAT(writer->sync_down(a.id)->relay_results, IsEmpty());
}

TEST_F(GangTest, WaitsWithAReasonThatNamesAgentsAndNetworks) {
  auto a = host("a", {"10.0.0.1/24"}), b = host("b", {"10.9.0.2/24"});
  const auto apart = submit(gang_spec(2)).id;
  EXPECT_EQ(job(apart).waiting->detail,
            "agents a, b share no network (a: 10.0.0.0/24; b: 10.9.0.0/24)");
  auto c = host("c", {"10.0.0.3/24", "10.9.0.3/24"});
  auto d = host("d", {"10.0.0.4/24", "10.9.0.4/24"});
  EXPECT_NE(run(sync(a).down.wanted.at(0).run_id).network, "");  // a and c met on one
  auto picky = gang_spec(4);
  picky["resources"]["selector"] = {{"fleet", "x"}};
  EXPECT_THAT(job(submit(picky).id).waiting->detail, HasSubstr("no agent matches selector"));
  EXPECT_THAT(job(submit(gang_spec(5)).id).waiting->detail,
              HasSubstr("needs 5 agents, 4 match: a, b, c, d"));
}

TEST_F(GangTest, SeveralSharedNetworksMustBeToldApart) {
  auto a = host("a", {"10.0.0.1/24", "10.9.0.1/24"}), b = host("b", {"10.0.0.2/24", "10.9.0.2/24"});
  const auto id = submit(gang_spec(2)).id;
  EXPECT_THAT(job(id).waiting->detail,
              AllOf(HasSubstr("agents a, b share several networks (10.0.0.0/24, 10.9.0.0/24)"),
                    HasSubstr("--network")));
  auto up = state_of(b);
  up.inventory = small_host("b");
  up.inventory->addresses = {"10.0.0.2/24", "10.9.0.2/24"};
  up.inventory->network = "10.9.0.0/24";
  ASSERT_TRUE(writer->sync(b.id, up));
  const auto wanted = sync(a).down.wanted;
  ASSERT_EQ(wanted.size(), 1U);
  EXPECT_EQ(wanted[0].network, "10.9.0.0/24");
}

TEST_F(GangTest, NeedsAgentsOfOneClassAndOneOpenMpi) {
  auto a = host("a", {"10.0.0.1/24"});
  protocol::Enrolment e = enrolment("b");
  e.inventory.addresses = {"10.0.0.2/24"};
  e.inventory.cpu.physical_cores = 64;
  const auto enrolled = writer->enrol(e);
  AgentState b;
  b.id = enrolled->agent_id;
  b.boot = "boot-of-b";
  sync(b);
  const auto id = submit(gang_spec(2)).id;
  EXPECT_THAT(job(id).waiting->detail, HasSubstr("needs 2 agents of one device class"));

  auto up = state_of(b);  // of the same class now, but its Open MPI was replaced
  up.inventory = small_host("b");
  up.inventory->addresses = {"10.0.0.2/24"};
  up.inventory->versions["openmpi"] = "5.0.7";
  ASSERT_TRUE(writer->sync(b.id, up));
  EXPECT_THAT(job(id).waiting->detail,
              HasSubstr("needs 2 agents of one version of Open MPI (unknown: a; 5.0.7: b)"));
}

}  // namespace
}  // namespace rackmark::service

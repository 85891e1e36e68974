#include "agent/launch/launch.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/launch/rank_shape.hpp"

namespace rackmark::agent {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::Not;
using testing::StartsWith;

LaunchInput two_of_two() {
  LaunchInput in;
  in.run_id = 42;
  in.agent_mark = "0badcafe";
  in.ranks = 2;
  in.threads = 1;
  in.physical_cores = 2;
  in.root = true;
  in.worker = "/opt/rackmark/bin/rackmark-worker";
  in.spec_file = "/state/runs/42/spec.json";
  in.scratch = "/dev/shm/rackmark-0badcafe-42";
  in.events_socket = "/dev/shm/rackmark-0badcafe-42/events";
  in.inherited = {{"PATH", "/usr/bin:/bin"},
                  {"HOME", "/root"},
                  {"SLURM_JOB_ID", "7"},
                  {"OMPI_MCA_btl", "tcp"},
                  {"RACKMARK_ENROL_TOKEN", "secret"}};
  return in;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

TEST(Launch, TwoRanksOnTwoCoresAreBound) {
  const auto launch = plan_launch(two_of_two());
  ASSERT_TRUE(launch.has_value());
  EXPECT_EQ(joined(launch->argv),
            "mpirun --mca plm isolated --mca pml ob1 --mca btl self,vader "
            "--mca orte_tmpdir_base /dev/shm/rackmark-0badcafe-42 "
            "--mca btl_vader_backing_directory /dev/shm/rackmark-0badcafe-42 "
            "--tag-output --map-by slot:PE=1 --bind-to core -n 2 "
            "-x RACKMARK_EVENTS -x RACKMARK_RUN -x RACKMARK_AGENT -x OMP_NUM_THREADS "
            "/opt/rackmark/bin/rackmark-worker run --spec /state/runs/42/spec.json");
  EXPECT_THAT(
      launch->environment,
      ElementsAre("HOME=/root", "LC_ALL=C.UTF-8", "OMPI_ALLOW_RUN_AS_ROOT=1",
                  "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", "OMP_NUM_THREADS=1", "PATH=/usr/bin:/bin",
                  "RACKMARK_AGENT=0badcafe", "RACKMARK_EVENTS=/dev/shm/rackmark-0badcafe-42/events",
                  "RACKMARK_RUN=42", "TMPDIR=/dev/shm/rackmark-0badcafe-42"));
}

TEST(Launch, OneRankThatTakesTheWholeHostIsNotBound) {
  LaunchInput in = two_of_two();
  in.ranks = 1;
  in.threads = 2;
  EXPECT_THAT(joined(plan_launch(in)->argv),
              testing::HasSubstr("--tag-output --bind-to none -n 1"));
}

TEST(Launch, SeveralThreadsPerRankGetSeveralCores) {
  LaunchInput in = two_of_two();
  in.threads = 4;
  in.physical_cores = 8;
  EXPECT_THAT(joined(plan_launch(in)->argv),
              testing::HasSubstr("--map-by slot:PE=4 --bind-to core -n 2"));
}

TEST(Launch, MoreRanksThanCoresOversubscribeUnbound) {
  LaunchInput in = two_of_two();
  in.ranks = 3;
  EXPECT_THAT(joined(plan_launch(in)->argv),
              testing::HasSubstr("--bind-to none --oversubscribe -n 3"));
}

TEST(Launch, AnAgentConfinedToSomeCoresDoesNotBind) {
  LaunchInput in = two_of_two();
  in.affinity_restricted = true;
  EXPECT_THAT(plan_launch(in)->argv, Not(Contains("--map-by")));
}

TEST(Launch, WithoutRootNothingIsSaidAboutRoot) {
  LaunchInput in = two_of_two();
  in.root = false;
  EXPECT_THAT(plan_launch(in)->environment, Not(Contains(StartsWith("OMPI_"))));
}

TEST(Launch, OneRankDoesWithoutMpirunWhereThereIsNone) {
  LaunchInput in = two_of_two();
  in.no_mpirun = true;
  EXPECT_EQ(plan_launch(in)->argv.front(), "mpirun");  // several cannot: the start says so
  const auto with_mpirun = plan_launch(in)->environment;
  in.ranks = 1;
  const auto launch = plan_launch(in);
  EXPECT_THAT(launch->argv, ElementsAre("/opt/rackmark/bin/rackmark-worker", "run", "--spec",
                                        "/state/runs/42/spec.json"));
  EXPECT_EQ(launch->environment, with_mpirun);
  EXPECT_EQ(launch->tags, LineTags::kOneRank);
}

TEST(Launch, RefusesASocketPathThatTheKernelWouldCut) {
  LaunchInput in = two_of_two();
  in.events_socket = "/" + std::string(kMaxSocketPath, 'x');
  const auto launch = plan_launch(in);
  ASSERT_TRUE(launch.has_error());
  EXPECT_EQ(launch.error().fields.at(0).field, "events_socket");
  in.events_socket = "/" + std::string(kMaxSocketPath - 1, 'x');
  EXPECT_TRUE(plan_launch(in).has_value());
}

GangInput three_hosts() {
  GangInput in;
  in.run_id = 42;
  in.agent_mark = "0badcafe";
  in.counts = {.hosts = 3, .workers = 5, .servers = 0};
  in.threads = 1;
  in.physical_cores = 2;
  in.root = true;
  in.network = "10.77.0.0/24";
  in.rank_ports = "21000-21999";
  in.launch_ports = "22000-22015";
  in.scratch = "/dev/shm/rackmark-0badcafe-42";
  in.remote_shell = "/dev/shm/rackmark-0badcafe-42/bin/rackmark-rsh";
  in.relay_socket = "/dev/shm/rackmark-0badcafe-42/relay";
  in.run_token = "s3cret";
  in.inherited = {{"PATH", "/usr/bin:/bin"}, {"HOME", "/root"}, {"OPAL_PREFIX", "/opt/pack"}};
  return in;
}

TEST(GangLaunch, OpenMpi4AsItWasTried) {
  const auto launch = plan_gang_launch(three_hosts());
  ASSERT_TRUE(launch.has_value());
  EXPECT_EQ(
      joined(launch->argv),
      "mpirun --mca plm rsh "
      "--mca plm_rsh_agent /dev/shm/rackmark-0badcafe-42/bin/rackmark-rsh "
      "--mca plm_rsh_no_tree_spawn 1 --leave-session-attached --mca if_base_do_not_resolve 1 "
      "--mca pml ob1 --mca btl self,vader,tcp --mca btl_tcp_if_include 10.77.0.0/24 "
      "--mca btl_tcp_flags 312 --mca btl_tcp_sndbuf 262144 --mca pml_ob1_send_pipeline_depth 8 "
      "--mca oob_tcp_if_include 10.77.0.0/24 --mca oob_tcp_keepalive_time 5 "
      "--mca oob_tcp_keepalive_intvl 1 --mca oob_tcp_keepalive_probes 3 "
      "--mca btl_tcp_port_min_v4 21000 --mca btl_tcp_port_range_v4 1000 "
      "--mca oob_tcp_dynamic_ipv4_ports 22000-22015 --tag-output "
      "--map-by slot:PE=1 --bind-to core "
      "--host rackmarkhost0:2,rackmarkhost1:2,rackmarkhost2:1 -n 5 rackmark-worker run");
  // Nothing of this host that the ranks of others could get, and no secret on the command line.
  EXPECT_THAT(launch->environment,
              ElementsAre("HOME=/root", "LC_ALL=C.UTF-8", "OMPI_ALLOW_RUN_AS_ROOT=1",
                          "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", "OPAL_PREFIX=/opt/pack",
                          "PATH=/usr/bin:/bin", "RACKMARK_AGENT=0badcafe",
                          "RACKMARK_RELAY=/dev/shm/rackmark-0badcafe-42/relay", "RACKMARK_RUN=42",
                          "RACKMARK_RUN_TOKEN=s3cret", "TMPDIR=/dev/shm/rackmark-0badcafe-42"));
}

TEST(GangLaunch, OpenMpi5ByItsOwnNames) {
  const auto launch = plan_gang_launch_prrte(three_hosts());
  ASSERT_TRUE(launch.has_value());
  EXPECT_EQ(joined(launch->argv),
            "mpirun --prtemca plm ssh "
            "--prtemca plm_ssh_agent /dev/shm/rackmark-0badcafe-42/bin/rackmark-rsh "
            "--prtemca plm_ssh_no_tree_spawn 1 --leave-session-attached "
            "--prtemca prte_do_not_resolve 1 --prtemca prte_if_include 10.77.0.0/24 "
            "--prtemca prte_keepalive_time 5 --prtemca prte_keepalive_intvl 1 "
            "--prtemca prte_keepalive_probes 3 --prtemca prte_dynamic_ipv4_ports 22000-22015 "
            "--mca pml ob1 --mca btl self,sm,tcp --mca btl_tcp_if_include 10.77.0.0/24 "
            "--mca btl_tcp_flags 313 --mca btl_tcp_sndbuf 262144 "
            "--mca pml_ob1_send_pipeline_depth 8 --mca btl_tcp_port_min_v4 21000 --mca "
            "btl_tcp_port_range_v4 1000 --output tag "
            "--map-by slot:PE=1 --bind-to core "
            "--host rackmarkhost0:2,rackmarkhost1:2,rackmarkhost2:1 -n 5 rackmark-worker run");
  GangInput one_machine = three_hosts();
  one_machine.network = "127.0.0.0/8";
  EXPECT_THAT(joined(plan_gang_launch_prrte(one_machine)->argv),
              testing::AllOf(testing::Not(testing::HasSubstr("prte_if_include")),
                             testing::HasSubstr("--mca coll_han_priority 0")));
  EXPECT_TRUE(uses_prrte("5.0.7"));
  EXPECT_FALSE(uses_prrte("4.1.4"));
  EXPECT_FALSE(uses_prrte(""));
}

TEST(GangLaunch, RefusesWhatWouldNotSurviveMpirun) {
  GangInput in = three_hosts();
  in.remote_shell = "/home/a b/rackmark-rsh";
  EXPECT_EQ(plan_gang_launch(in).error().fields.at(0).field, "remote_shell");
  in = three_hosts();
  in.network.clear();
  EXPECT_EQ(plan_gang_launch(in).error().fields.at(0).field, "network");
  in = three_hosts();
  in.counts.hosts = 1;
  EXPECT_EQ(plan_gang_launch_prrte(in).error().fields.at(0).field, "hosts");
}

TEST(GangLaunch, DedicatedServersGoOnWhereTheWorkersEnd) {
  GangInput in = three_hosts();
  in.counts.servers = 2;
  EXPECT_THAT(joined(plan_gang_launch(in)->argv),
              testing::HasSubstr("--bind-to none --oversubscribe --host "
                                 "rackmarkhost0:3,rackmarkhost1:2,rackmarkhost2:2 -n 7 "));
  in.counts.workers = 2;
  EXPECT_EQ(plan_gang_launch(in).error().fields.at(0).field, "workers");
}

TEST(GangLaunch, NamesOfHostsGoBothWays) {
  EXPECT_EQ(gang_host_position(gang_host_name(0)), 0);
  EXPECT_EQ(gang_host_position(gang_host_name(117)), 117);
  for (const char* bad : {"", "localhost", "rackmarkhost", "rackmarkhost-1", "rackmarkhost1x",
                          "rackmarkhost99999999999999999999"})
    EXPECT_EQ(gang_host_position(bad), std::nullopt) << bad;
}

TEST(GangLaunch, APlaceHasEverythingOfItsOwnHost) {
  const auto place = rank_environment({.run_id = 42,
                                       .agent_mark = "0badcafe",
                                       .threads = 3,
                                       .interface = "eth1",
                                       .scratch = "/dev/shm/rackmark-0badcafe-42",
                                       .bin = "/dev/shm/rackmark-0badcafe-42/bin",
                                       .spec_file = "/state/runs/42/spec.json",
                                       .events_socket = "/dev/shm/rackmark-0badcafe-42/events",
                                       .inherited = {{"OPAL_PREFIX", "/opt/pack"},
                                                     {"PMIX_INSTALL_PREFIX", "/opt/pack/pmix2"},
                                                     {"RACKMARK_PLAN_CACHE", "/state/plans"},
                                                     {"RACKMARK_ENROL_TOKEN", "secret"}}});
  ASSERT_TRUE(place.has_value());
  EXPECT_THAT(
      *place,
      ElementsAre(
          "LC_ALL=C.UTF-8", "NCCL_SOCKET_FAMILY=AF_INET", "NCCL_SOCKET_IFNAME==eth1",
          "OMPI_MCA_btl_sm_backing_directory=/dev/shm/rackmark-0badcafe-42",
          "OMPI_MCA_btl_vader_backing_directory=/dev/shm/rackmark-0badcafe-42", "OMP_NUM_THREADS=3",
          "OPAL_PREFIX=/opt/pack", "PATH=/dev/shm/rackmark-0badcafe-42/bin:/usr/bin:/bin",
          "PMIX_INSTALL_PREFIX=/opt/pack/pmix2", "RACKMARK_AGENT=0badcafe",
          "RACKMARK_EVENTS=/dev/shm/rackmark-0badcafe-42/events",
          "RACKMARK_PLAN_CACHE=/state/plans", "RACKMARK_PMIX_INSTALL_PREFIX=/opt/pack/pmix2",
          "RACKMARK_RUN=42", "RACKMARK_SPEC=/state/runs/42/spec.json",
          "TMPDIR=/dev/shm/rackmark-0badcafe-42"));
}

TEST(RankShape, ReadsTheResolvedSpecAndNamesWhatIsMissing) {
  const auto shape = rank_shape(
      nlohmann::json::parse(R"({"resources": {"workers_per_agent": 2, "threads_per_worker": 3}})"));
  ASSERT_TRUE(shape.has_value());
  EXPECT_EQ(ranks_on_host(shape->counts, 0), 2);
  EXPECT_EQ(shape->threads, 3);
  const auto served = rank_shape(nlohmann::json::parse(
      R"({"resources": {"workers_per_agent": 2, "threads_per_worker": 3},
          "variable_update": "parameter_server",
          "parameter_server": {"placement": "dedicated", "servers": 2}})"));
  EXPECT_EQ(ranks_on_host(served->counts, 0), 4) << "dedicated servers are processes, too";
  const auto uneven = rank_shape(
      nlohmann::json::parse(R"({"resources": {"workers": 5, "threads_per_worker": 1}})"), 3);
  ASSERT_TRUE(uneven.has_value());
  EXPECT_EQ(ranks_on_host(uneven->counts, 0), 2);
  EXPECT_EQ(ranks_on_host(uneven->counts, 2), 1);
  EXPECT_EQ(
      rank_shape(nlohmann::json::parse(R"({"resources": {"workers": 2, "threads_per_worker": 1}})"),
                 3)
          .error()
          .fields.at(0)
          .allowed,
      "3 to 12288");
  for (const char* bad : {"null", "{}", R"({"resources": {"workers_per_agent": 1}})",
                          R"({"resources": {"workers_per_agent": 0, "threads_per_worker": 1}})",
                          R"({"resources": {"workers_per_agent": "2", "threads_per_worker": 1}})",
                          R"({"resources": 3})"})
    EXPECT_THAT(rank_shape(nlohmann::json::parse(bad)).error().message, StartsWith("")) << bad;
  EXPECT_EQ(rank_shape(nlohmann::json::parse(R"({"resources": {"workers_per_agent": 1}})"))
                .error()
                .fields.at(0)
                .field,
            "resources.threads_per_worker");
}

}  // namespace
}  // namespace rackmark::agent

// A run inside an allocation of Slurm: what is typed, and what srun's lines mean.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/launch/slurm.hpp"
#include "agent/probe/inventory.hpp"
#include "agent/runs/srun_output.hpp"

namespace rackmark::agent {
namespace {

using testing::ElementsAre;

SlurmInput two_nodes() {
  SlurmInput in;
  in.run_id = 42;
  in.agent_mark = "0badcafe";
  in.job_id = 7;
  in.nodes = {"node2", "node1"};
  in.counts = {.hosts = 2, .workers = 3};
  in.network = "10.77.0.0/24";
  in.rank_ports = "21000-21999";
  in.openmpi_version = "4.1.4";
  in.agent = "/opt/rackmark/bin/rackmark-agent";
  in.seat_key = "5eed5eed";
  in.inherited = {{"PATH", "/usr/bin:/bin"},     {"HOME", "/root"},
                  {"SLURM_CONF", "/etc/s.conf"}, {"SLURM_JOB_ID", "7"},
                  {"SLURM_NTASKS", "9"},         {"OMPI_MCA_btl", "tcp"},
                  {"LD_LIBRARY_PATH", "/lib"},   {"RACKMARK_ENROL_TOKEN", "secret"}};
  return in;
}

std::string in_one_line(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

TEST(SlurmLaunch, OneStepWithTheHeadsRanksFirst) {
  const auto launch = plan_slurm_launch(two_nodes());
  ASSERT_TRUE(launch.has_value());
  EXPECT_EQ(in_one_line(launch->argv),
            "srun --jobid=7 --job-name=rackmark-run-42 --overlap --overcommit --cpu-bind=none "
            "--mpi=pmix --distribution=arbitrary --nodelist=node2,node2,node1 --nodes=2 "
            "--ntasks=3 --kill-on-bad-exit=1 --export=LD_LIBRARY_PATH,OMPI_MCA_btl,"
            "OMPI_MCA_btl_tcp_flags,OMPI_MCA_btl_tcp_if_include,OMPI_MCA_btl_tcp_port_min_v4,"
            "OMPI_MCA_btl_tcp_port_range_v4,OMPI_MCA_btl_tcp_sndbuf,OMPI_MCA_pml,"
            "OMPI_MCA_pml_ob1_send_pipeline_depth,RACKMARK_RUN,RACKMARK_SEAT "
            "--chdir=/ --input=none --label /opt/rackmark/bin/rackmark-agent take-seat");
  EXPECT_THAT(
      launch->environment,
      ElementsAre("HOME=/root", "LC_ALL=C.UTF-8", "LD_LIBRARY_PATH=/lib",
                  "OMPI_MCA_btl=self,vader,tcp", "OMPI_MCA_btl_tcp_flags=312",
                  "OMPI_MCA_btl_tcp_if_include=10.77.0.0/24", "OMPI_MCA_btl_tcp_port_min_v4=21000",
                  "OMPI_MCA_btl_tcp_port_range_v4=1000", "OMPI_MCA_btl_tcp_sndbuf=262144",
                  "OMPI_MCA_pml=ob1", "OMPI_MCA_pml_ob1_send_pipeline_depth=8",
                  "PATH=/usr/bin:/bin", "RACKMARK_AGENT=0badcafe", "RACKMARK_RUN=42",
                  "RACKMARK_SEAT=5eed5eed", "SLURM_CONF=/etc/s.conf"));
  EXPECT_EQ(launch->tags, LineTags::kSrun);
}

TEST(SlurmLaunch, RefusesWhatSlurmWouldReadOtherwise) {
  const auto refused = [](void (*change)(SlurmInput&)) {
    SlurmInput in = two_nodes();
    change(in);
    const auto launch = plan_slurm_launch(in);
    return launch ? "nothing" : launch.error().fields.at(0).field;
  };
  EXPECT_EQ(refused([](SlurmInput& in) { in.nodes = {"node1"}; }), "nodes");
  EXPECT_EQ(refused([](SlurmInput& in) { in.nodes[1] = "node[1-9]"; }), "nodes");
  EXPECT_EQ(refused([](SlurmInput& in) { in.nodes[0] = ""; }), "nodes");
  EXPECT_EQ(refused([](SlurmInput& in) { in.counts.workers = 1; }), "workers");
  EXPECT_EQ(refused([](SlurmInput& in) { in.counts.hosts = 3; }), "hosts");
  EXPECT_EQ(refused([](SlurmInput& in) { in.job_id = 0; }), "job_id");
  EXPECT_EQ(refused([](SlurmInput& in) { in.network.clear(); }), "network");
}

TEST(SlurmAllocation, IsWhatATaskOfItSees) {
  std::map<std::string, std::string> task{
      {"SLURM_JOB_ID", "7"}, {"SLURMD_NODENAME", "node2"}, {"SLURM_CLUSTER_NAME", "lab"}};
  const auto found = slurm_allocation(task);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->job_id, 7);
  EXPECT_EQ(found->node, "node2");
  EXPECT_EQ(found->cluster, "lab");
  for (const char* bad : {"", "x", "7x", "-7", "0"}) {
    task["SLURM_JOB_ID"] = bad;
    EXPECT_FALSE(slurm_allocation(task)) << bad;
  }
  EXPECT_FALSE(slurm_allocation({{"SLURM_JOB_ID", "7"}}));  // a login shell, not a node's task
  EXPECT_TRUE(srun_knows_pmix("MPI plugin types are...\n\tpmix\n\tpmi2\n\tnone\n"));
  EXPECT_FALSE(srun_knows_pmix("MPI plugin types are...\n\tpmi2\n\tnone\n"));
}

TEST(SrunOutput, TheLabelIsTheRank) {
  const auto line = parse_labelled_line("07: loss: 3", "stderr");
  EXPECT_EQ(line.rank, 7);
  EXPECT_EQ(line.stream, "stderr");
  EXPECT_EQ(line.text, "loss: 3");
  EXPECT_EQ(parse_labelled_line(" 3: a", "stdout").rank, 3);
  EXPECT_EQ(parse_labelled_line("3: ", "stdout").text, "");
  for (const char* own : {"srun: error: node1: task 0: Killed", "12 words", "", ":", "-1: x"}) {
    EXPECT_EQ(parse_labelled_line(own, "stderr").rank, -1) << own;
    EXPECT_EQ(parse_labelled_line(own, "stderr").text, own);
  }
}

TEST(SrunOutput, TheFirstTaskThatEndedBadlyIsTheCause) {
  const auto report = [](std::vector<std::string> lines) { return parse_srun_report(lines); };
  const auto killed =
      report({"srun: job 7 queued and waiting", "srun: error: node2: task 1: Killed",
              "srun: launch/slurm: _step_signal: Terminating StepId=7.3",
              "srun: error: node1: task 0: Terminated"});
  ASSERT_TRUE(killed);
  EXPECT_EQ(killed->rank, 1);
  EXPECT_EQ(killed->signal, 9);
  const auto dumped = report({"srun: error: n: task 12: Segmentation fault (core dumped)"});
  ASSERT_TRUE(dumped);
  EXPECT_EQ(dumped->rank, 12);
  EXPECT_EQ(dumped->signal, 11);
  const auto code = report({"srun: error: node1: tasks 2-3,5: Exited with exit code 3"});
  ASSERT_TRUE(code);
  EXPECT_EQ(code->rank, 2);
  EXPECT_EQ(code->exit_code, 3);
  EXPECT_EQ(code->signal, 0);
  EXPECT_FALSE(report({"srun: error: Unable to create step for job 7: Job/step already completing",
                       "0: srun: error: n: task 1: Killed", "srun: error: n: task x: Killed"}));
}

}  // namespace
}  // namespace rackmark::agent

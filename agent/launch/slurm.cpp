#include "agent/launch/slurm.hpp"

#include <algorithm>
#include <cctype>

#include "agent/launch/environment.hpp"

namespace rackmark::agent {

namespace {

// A list of nodes has its own syntax ("node[1-4],x"): nothing but plain names may go into it.
bool is_node_name(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.';
  });
}

std::optional<Error> step_problem(const SlurmInput& in) {
  if (in.nodes.size() < 2)
    return invalid("nodes", in.nodes.size(), "2 or more", "one host needs no step of Slurm");
  for (const auto& node : in.nodes) {
    if (!is_node_name(node))
      return invalid("nodes", node, "letters, digits, - _ .", "no node of Slurm is called so");
  }
  const auto hosts = static_cast<std::int64_t>(in.nodes.size());
  if (in.counts.hosts != hosts)
    return invalid("hosts", in.counts.hosts, std::to_string(hosts), "every host is a node");
  if (in.counts.workers < hosts)
    return invalid("workers", in.counts.workers, std::to_string(hosts) + " or more",
                   "every host of a run needs a worker");
  if (in.job_id < 1) return invalid("job_id", in.job_id, "1 or more", "there is no allocation");
  if (in.network.empty())
    return invalid("network", in.network, "a CIDR", "the hosts have no network");
  return std::nullopt;
}

// One name for each task: with the distribution "arbitrary" task i runs on the i-th. Every other
// one puts the nodes into Slurm's own order.
std::string task_list(const SlurmInput& in) {
  std::string text;
  for (std::int64_t host = 0; host < in.counts.hosts; ++host) {
    for (std::int64_t i = 0; i < ranks_on_host(in.counts, host); ++i)
      text += (text.empty() ? "" : ",") + in.nodes[static_cast<std::size_t>(host)];
  }
  return text;
}

// What mpirun's command line says of Open MPI where there is an mpirun.
Environment transport(const SlurmInput& in) {
  const auto mca = [](const std::string& name) { return "OMPI_MCA_" + name; };
  Environment out{{mca("pml"), "ob1"},
                  {mca("btl"), uses_prrte(in.openmpi_version) ? "self,sm,tcp" : "self,vader,tcp"},
                  {mca("btl_tcp_if_include"), in.network}};
  for (const auto& [name, value] : two_way_transport(uses_prrte(in.openmpi_version)))
    out[mca(name)] = value;
  if (const auto ports = port_range(in.rank_ports)) {
    out[mca("btl_tcp_port_min_v4")] = std::to_string(ports->first);
    out[mca("btl_tcp_port_range_v4")] = std::to_string(ports->count);
  }
  return out;
}

// What every task gets beside Slurm's and PMIx's own variables; the rest lies at its seat.
Environment task_environment(const SlurmInput& in) {
  Environment out = transport(in);
  out["RACKMARK_RUN"] = std::to_string(in.run_id);
  out["RACKMARK_SEAT"] = in.seat_key;
  const Environment base = base_environment(in.inherited);
  for (const char* name : {"LD_LIBRARY_PATH", "ASAN_OPTIONS"}) {
    if (const auto it = base.find(name); it != base.end()) out.insert(*it);
  }
  return out;
}

std::string names_of(const Environment& environment) {
  std::string text;
  for (const auto& [name, value] : environment) text += (text.empty() ? "" : ",") + name;
  return text;
}

}  // namespace

Result<Launch> plan_slurm_launch(const SlurmInput& in) {
  if (auto problem = step_problem(in)) return *problem;
  const Environment task = task_environment(in);
  Environment environment = base_environment(in.inherited);
  environment.insert(task.begin(), task.end());
  add_marks(environment, in.run_id, in.agent_mark);
  if (const auto it = in.inherited.find("SLURM_CONF"); it != in.inherited.end())
    environment.insert(*it);

  Launch launch;
  launch.tags = LineTags::kSrun;
  launch.argv = {
      "srun",
      "--jobid=" + std::to_string(in.job_id),
      "--job-name=rackmark-run-" + std::to_string(in.run_id),
      "--overlap",     // the agents' own step holds the same cores
      "--overcommit",  // a host may have more ranks than cores; the ranks share out the cores
      "--cpu-bind=none",
      "--mpi=pmix",
      "--distribution=arbitrary",
      "--nodelist=" + task_list(in),
      "--nodes=" + std::to_string(in.nodes.size()),
      "--ntasks=" + std::to_string(in.counts.workers + in.counts.servers),
      "--kill-on-bad-exit=1",  // else the others would wait for a dead rank
      "--export=" + names_of(task),
      "--chdir=/",
      "--input=none",
      "--label",
      in.agent.string(),
      kTakeSeat,
  };
  launch.environment = texts(environment);
  return launch;
}

}  // namespace rackmark::agent

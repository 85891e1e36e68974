#include "agent/launch/launch.hpp"

#include <algorithm>
#include <charconv>

#include "agent/launch/environment.hpp"

namespace rackmark::agent {

namespace {

void add_binding(const LaunchInput& in, std::vector<std::string>& argv) {
  const bool fits = in.ranks * in.threads <= in.physical_cores;
  const bool whole_host = in.ranks == 1 && in.threads >= in.physical_cores;
  // mpirun does not heed an inherited affinity mask: bound ranks would leave the agent's own cores.
  if (!fits || whole_host || in.affinity_restricted) {
    argv.insert(argv.end(), {"--bind-to", "none"});
  } else {
    argv.insert(argv.end(),
                {"--map-by", "slot:PE=" + std::to_string(in.threads), "--bind-to", "core"});
  }
  if (in.ranks > in.physical_cores) argv.emplace_back("--oversubscribe");
}

// mpirun takes the remote-shell agent as words.
std::optional<Error> blank_problem(const char* what, const std::filesystem::path& path) {
  const std::string text = path.string();
  if (text.find_first_of(" \t\n'\"\\") == std::string::npos) return std::nullopt;
  return invalid(what, text, "a path without blanks and quotes",
                 "runs over several agents need a --state folder without blanks and quotes");
}

std::optional<Error> gang_problem(const GangInput& in) {
  const auto& [hosts, workers, servers] = in.counts;
  if (hosts < 2) return invalid("hosts", hosts, "2 or more", "one host needs no gang");
  if (workers < hosts)
    return invalid("workers", workers, std::to_string(hosts) + " or more",
                   "every host of a run needs a worker");
  if (in.threads < 1) return invalid("threads", in.threads, "1 or more", "a rank needs a thread");
  if (in.network.empty())
    return invalid("network", in.network, "a CIDR", "the hosts have no network");
  if (auto problem = socket_problem("relay_socket", in.relay_socket)) return problem;
  return blank_problem("remote_shell", in.remote_shell);
}

Environment gang_environment(const GangInput& in) {
  Environment environment = base_environment(in.inherited);
  environment["TMPDIR"] = in.scratch.string();
  environment["RACKMARK_RELAY"] = in.relay_socket.string();
  environment["RACKMARK_RUN_TOKEN"] = in.run_token;
  add_marks(environment, in.run_id, in.agent_mark);
  if (in.root) {
    environment["OMPI_ALLOW_RUN_AS_ROOT"] = "1";
    environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1";
  }
  return environment;
}

void add(std::vector<std::string>& argv, const std::vector<std::string>& words) {
  argv.insert(argv.end(), words.begin(), words.end());
}

// mpirun fills the slots of one host after the other, in this order (common/domain/ranks.hpp).
void add_ranks(const GangInput& in, std::vector<std::string>& argv) {
  std::string hosts;
  for (std::int64_t i = 0; i < in.counts.hosts; ++i)
    hosts +=
        (i == 0 ? "" : ",") + gang_host_name(i) + ":" + std::to_string(ranks_on_host(in.counts, i));
  add(argv, {"--host", hosts, "-n", std::to_string(in.counts.workers + in.counts.servers)});
  add(argv, {kRankProgram, "run"});
}

// One rule for all hosts: that of the first, which has as many ranks as any.
LaunchInput binding_of(const GangInput& in) {
  LaunchInput one;
  one.ranks = ranks_on_host(in.counts, 0);
  one.threads = in.threads;
  one.physical_cores = in.physical_cores;
  one.affinity_restricted = in.affinity_restricted;
  return one;
}

constexpr const char* kHostPrefix = "rackmarkhost";

}  // namespace

std::string gang_host_name(std::int64_t position) { return kHostPrefix + std::to_string(position); }

std::optional<std::int64_t> gang_host_position(const std::string& name) {
  const std::string prefix = kHostPrefix;
  if (!name.starts_with(prefix)) return std::nullopt;
  std::int64_t position = -1;
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + prefix.size(), end, position);
  if (error != std::errc{} || stop != end || position < 0) return std::nullopt;
  return position;
}

bool uses_prrte(const std::string& openmpi_version) {
  std::int64_t major = 0;
  std::from_chars(openmpi_version.data(), openmpi_version.data() + openmpi_version.size(), major);
  return major >= 5;
}

Result<std::vector<std::string>> rank_environment(const PlaceInput& in) {
  if (auto problem = socket_problem("events_socket", in.events_socket)) return *problem;
  Environment environment = base_environment(in.inherited);
  environment["PATH"] = in.bin.string() + ":" + environment["PATH"];
  environment["TMPDIR"] = in.scratch.string();
  // Both spellings: 4.1 and 5. Shared memory of the ranks, named only after host, user and rank:
  // two agents of one host must not share the folder.
  environment["OMPI_MCA_btl_vader_backing_directory"] = in.scratch.string();
  environment["OMPI_MCA_btl_sm_backing_directory"] = in.scratch.string();
  environment["RACKMARK_EVENTS"] = in.events_socket.string();
  environment["RACKMARK_SPEC"] = in.spec_file.string();
  // mpirun passes its own PMIX_* on to all ranks; the worker takes this host's instead.
  environment["RACKMARK_PMIX_INSTALL_PREFIX"] = environment["PMIX_INSTALL_PREFIX"];
  if (environment["PMIX_INSTALL_PREFIX"].empty()) environment.erase("PMIX_INSTALL_PREFIX");
  environment["OMP_NUM_THREADS"] = std::to_string(in.threads);
  if (!in.interface.empty()) {  // NCCL takes names, "=" before an exact one, and no networks
    environment["NCCL_SOCKET_IFNAME"] = "=" + in.interface;
    environment["NCCL_SOCKET_FAMILY"] = "AF_INET";
  }
  add_marks(environment, in.run_id, in.agent_mark);
  return texts(environment);
}

Result<Launch> plan_gang_launch(const GangInput& in) {
  if (auto problem = gang_problem(in)) return *problem;
  Launch launch;
  launch.argv = {"mpirun"};
  const auto mca = [&launch](const std::string& name, const std::string& value) {
    add(launch.argv, {"--mca", name, value});
  };
  mca("plm", "rsh");
  mca("plm_rsh_agent", in.remote_shell.string());
  // mpirun itself starts every daemon; else a daemon would, on a host that has no relay. This adds
  // --daemonize, which the second one takes back: the remote shell must live as long as its daemon.
  mca("plm_rsh_no_tree_spawn", "1");
  add(launch.argv, {"--leave-session-attached"});
  mca("if_base_do_not_resolve", "1");  // the hosts' names are ours: nobody's name server knows them
  mca("pml", "ob1");
  mca("btl", "self,vader,tcp");
  mca("btl_tcp_if_include", in.network);
  for (const auto& [name, value] : two_way_transport(false)) mca(name, value);
  mca("oob_tcp_if_include", in.network);
  mca("oob_tcp_keepalive_time", "5");
  mca("oob_tcp_keepalive_intvl", "1");
  mca("oob_tcp_keepalive_probes", "3");
  if (const auto ports = port_range(in.rank_ports)) {
    mca("btl_tcp_port_min_v4", std::to_string(ports->first));
    mca("btl_tcp_port_range_v4", std::to_string(ports->count));
  }
  if (!in.launch_ports.empty()) mca("oob_tcp_dynamic_ipv4_ports", in.launch_ports);
  add(launch.argv, {"--tag-output"});
  add_binding(binding_of(in), launch.argv);
  add_ranks(in, launch.argv);
  launch.environment = texts(gang_environment(in));
  return launch;
}

Result<Launch> plan_gang_launch_prrte(const GangInput& in) {
  if (auto problem = gang_problem(in)) return *problem;
  Launch launch;
  launch.argv = {"mpirun"};
  const auto prte = [&launch](const std::string& name, const std::string& value) {
    add(launch.argv, {"--prtemca", name, value});
  };
  const auto mca = [&launch](const std::string& name, const std::string& value) {
    add(launch.argv, {"--mca", name, value});
  };
  prte("plm", "ssh");
  prte("plm_ssh_agent", in.remote_shell.string());
  prte("plm_ssh_no_tree_spawn", "1");
  add(launch.argv, {"--leave-session-attached"});
  prte("prte_do_not_resolve", "1");
  // Its daemons never talk over the loopback while there is anything else; asked to, they warn.
  const bool one_machine = in.network.starts_with("127.");
  if (!one_machine) prte("prte_if_include", in.network);
  prte("prte_keepalive_time", "5");
  prte("prte_keepalive_intvl", "1");
  prte("prte_keepalive_probes", "3");
  if (!in.launch_ports.empty()) prte("prte_dynamic_ipv4_ports", in.launch_ports);
  mca("pml", "ob1");
  mca("btl", "self,sm,tcp");
  mca("btl_tcp_if_include", in.network);
  for (const auto& [name, value] : two_way_transport(true)) mca(name, value);
  // Takes hosts of one name for one host, and then waits for ever.
  if (one_machine) mca("coll_han_priority", "0");
  if (const auto ports = port_range(in.rank_ports)) {
    mca("btl_tcp_port_min_v4", std::to_string(ports->first));
    mca("btl_tcp_port_range_v4", std::to_string(ports->count));
  }
  add(launch.argv, {"--output", "tag"});
  add_binding(binding_of(in), launch.argv);
  add_ranks(in, launch.argv);
  auto environment = gang_environment(in);
  if (in.root) {
    environment["PRTE_ALLOW_RUN_AS_ROOT"] = "1";
    environment["PRTE_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1";
  }
  launch.environment = texts(environment);
  return launch;
}

Result<Launch> plan_launch(const LaunchInput& in) {
  if (in.ranks < 1) return invalid("ranks", in.ranks, "1 or more", "a run needs a rank");
  if (in.threads < 1) return invalid("threads", in.threads, "1 or more", "a rank needs a thread");
  const std::string socket = in.events_socket.string();
  if (auto problem = socket_problem("events_socket", in.events_socket)) return *problem;

  Environment environment = base_environment(in.inherited);
  // With these, Open MPI puts everything it makes below the scratch folder; see guard.
  environment["TMPDIR"] = in.scratch.string();
  environment["RACKMARK_EVENTS"] = socket;
  add_marks(environment, in.run_id, in.agent_mark);
  environment["OMP_NUM_THREADS"] = std::to_string(in.threads);
  if (in.root) {
    environment["OMPI_ALLOW_RUN_AS_ROOT"] = "1";
    environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1";
  }

  Launch launch;
  const std::vector<std::string> worker{in.worker.string(), "run", "--spec", in.spec_file.string()};
  if (in.no_mpirun && in.ranks == 1) {
    launch.argv = worker;
    launch.environment = texts(environment);
    launch.tags = LineTags::kOneRank;
    return launch;
  }
  // Plain "mpirun": called by a path, Open MPI would prefix remote commands with shell text.
  launch.argv = {
      "mpirun",
      "--mca",
      "plm",
      "isolated",  // this host alone: needs no ssh, and no Slurm around the agent is asked
      "--mca",
      "pml",
      "ob1",  // spares the 200 ms of UCX's probing
      "--mca",
      "btl",
      "self,vader",  // one host: shared memory only
      "--mca",
      "orte_tmpdir_base",
      in.scratch.string(),
      "--mca",
      "btl_vader_backing_directory",
      in.scratch.string(),
      "--tag-output"};
  add_binding(in, launch.argv);
  launch.argv.insert(launch.argv.end(), {"-n", std::to_string(in.ranks)});
  for (const char* name : {"RACKMARK_EVENTS", "RACKMARK_RUN", "RACKMARK_AGENT", "OMP_NUM_THREADS"})
    launch.argv.insert(launch.argv.end(), {"-x", name});
  add(launch.argv, worker);
  launch.environment = texts(environment);
  return launch;
}

}  // namespace rackmark::agent

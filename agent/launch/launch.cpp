#include "agent/launch/launch.hpp"

#include <algorithm>

namespace rackmark::agent {

namespace {

// What a rank and Open MPI may need of the agent's own environment: where programs and libraries
// are (a packed agent carries Open MPI with it), and the sanitizers' options in tests. Everything
// else is left out, above all SLURM_* and OMPI_MCA_*, which would change what mpirun does.
constexpr const char* kInherited[] = {"PATH",         "LD_LIBRARY_PATH",     "OPAL_PREFIX",
                                      "HOME",         "PMIX_INSTALL_PREFIX", "ASAN_OPTIONS",
                                      "UBSAN_OPTIONS"};

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

}  // namespace

Result<Launch> plan_launch(const LaunchInput& in) {
  if (in.ranks < 1) return invalid("ranks", in.ranks, "1 or more", "a run needs a rank");
  if (in.threads < 1) return invalid("threads", in.threads, "1 or more", "a rank needs a thread");
  const std::string socket = in.events_socket.string();
  if (socket.size() > kMaxSocketPath)
    return invalid("events_socket", socket, "at most 107 bytes",
                   "the path of the events socket is too long; use a shorter --state folder");

  std::map<std::string, std::string> environment{{"LC_ALL", "C.UTF-8"}, {"PATH", "/usr/bin:/bin"}};
  for (const char* name : kInherited) {
    if (const auto it = in.inherited.find(name); it != in.inherited.end())
      environment[name] = it->second;
  }
  // With these, Open MPI puts everything it makes below the scratch folder; see guard.
  environment["TMPDIR"] = in.scratch.string();
  environment["RACKMARK_EVENTS"] = socket;
  environment["RACKMARK_RUN"] = std::to_string(in.run_id);
  environment["RACKMARK_AGENT"] = in.agent_mark;
  environment["OMP_NUM_THREADS"] = std::to_string(in.threads);
  if (in.root) {
    environment["OMPI_ALLOW_RUN_AS_ROOT"] = "1";
    environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1";
  }

  Launch launch;
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
  launch.argv.insert(launch.argv.end(),
                     {in.worker.string(), "run", "--spec", in.spec_file.string()});
  for (const auto& [name, value] : environment) launch.environment.push_back(name + "=" + value);
  return launch;
}

namespace {

// Processes of this host beside the workers (common/domain/ranks.hpp); 0 where the spec says
// nothing of the kind.
std::int64_t dedicated_servers(const nlohmann::json& spec) {
  const auto update = spec.find("variable_update"), server = spec.find("parameter_server");
  if (update == spec.end() || *update != "parameter_server") return 0;
  if (server == spec.end() || !server->is_object() || !server->contains("placement")) return 0;
  if ((*server)["placement"] != "dedicated") return 0;
  const auto servers = server->find("servers");
  const bool counted = servers != server->end() && servers->is_number_integer();
  return counted ? std::clamp<std::int64_t>(servers->get<std::int64_t>(), 1, 1024) : 1;
}

}  // namespace

Result<RankShape> rank_shape(const nlohmann::json& spec) {
  const auto resources = spec.is_object() ? spec.find("resources") : spec.end();
  auto whole = [&](const char* name) -> Result<std::int64_t> {
    const std::string path = std::string("resources.") + name;
    if (resources == spec.end() || !resources->is_object() || !resources->contains(name))
      return invalid(path, nullptr, "a whole number", "the spec does not say " + path);
    const auto& value = (*resources)[name];
    if (!value.is_number_integer() || value.get<std::int64_t>() < 1 ||
        value.get<std::int64_t>() > 4096)
      return invalid(path, value, "1 to 4096", path + " is not 1 to 4096");
    return value.get<std::int64_t>();
  };
  const auto workers = whole("workers_per_agent");
  if (!workers) return workers.error();
  const auto threads = whole("threads_per_worker");
  if (!threads) return threads.error();
  return RankShape{*workers + dedicated_servers(spec), *threads};
}

}  // namespace rackmark::agent

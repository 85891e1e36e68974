#include "agent/launch/environment.hpp"

#include "agent/launch/launch.hpp"

namespace rackmark::agent {

namespace {

// What a rank and Open MPI may need of the agent's own environment: where programs and libraries
// are (a packed agent carries Open MPI with it), whether ranks that wait should yield (where
// several agents share the cores of one machine), which GPUs are this agent's, where what was
// planned for them is kept, and the sanitizers' options in tests. Everything else is left out,
// above all SLURM_* and other OMPI_MCA_*, which would change what the launcher does.
constexpr const char* kInherited[] = {"PATH",
                                      "LD_LIBRARY_PATH",
                                      "OPAL_PREFIX",
                                      "HOME",
                                      "PMIX_INSTALL_PREFIX",
                                      "OMPI_MCA_mpi_yield_when_idle",
                                      "ASAN_OPTIONS",
                                      "UBSAN_OPTIONS",
                                      "CUDA_VISIBLE_DEVICES",
                                      "CUDA_DEVICE_ORDER",
                                      "RACKMARK_PLAN_CACHE"};

}  // namespace

Environment base_environment(const Environment& inherited) {
  Environment environment{{"LC_ALL", "C.UTF-8"}, {"PATH", "/usr/bin:/bin"}};
  for (const char* name : kInherited) {
    if (const auto it = inherited.find(name); it != inherited.end()) environment[name] = it->second;
  }
  return environment;
}

void add_marks(Environment& environment, std::int64_t run_id, const std::string& agent_mark) {
  environment["RACKMARK_RUN"] = std::to_string(run_id);
  environment["RACKMARK_AGENT"] = agent_mark;
}

std::vector<std::string> texts(const Environment& environment) {
  std::vector<std::string> out;
  for (const auto& [name, value] : environment) out.push_back(name + "=" + value);
  return out;
}

std::optional<PortRange> port_range(const std::string& ports) {
  const auto dash = ports.find('-');
  if (dash == std::string::npos) return std::nullopt;
  const int first = std::stoi(ports.substr(0, dash)), last = std::stoi(ports.substr(dash + 1));
  return PortRange{first, last - first + 1};
}

std::optional<Error> socket_problem(const char* what, const std::filesystem::path& path) {
  const std::string socket = path.string();
  if (socket.size() <= kMaxSocketPath) return std::nullopt;
  return invalid(what, socket, "at most 107 bytes",
                 "the path of a socket is too long; use a shorter --state folder");
}

std::map<std::string, std::string> two_way_transport(bool prrte) {
  return {{"btl_tcp_flags", prrte ? "313" : "312"},
          {"btl_tcp_sndbuf", "262144"},
          {"pml_ob1_send_pipeline_depth", "8"}};
}

}  // namespace rackmark::agent

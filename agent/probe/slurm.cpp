#include <charconv>
#include <cstdlib>
#include <sstream>

#include "agent/probe/inventory.hpp"
#include "agent/process/spawn.hpp"

namespace rackmark::agent {

using protocol::SlurmAllocation;

namespace {

constexpr int kSrunAnswersMs = 20000;

std::map<std::string, std::string> variables(std::initializer_list<const char*> names) {
  std::map<std::string, std::string> found;
  for (const char* name : names) {
    if (const char* value = std::getenv(name); value != nullptr && *value != '\0')
      found[name] = value;
  }
  return found;
}

}  // namespace

std::optional<SlurmAllocation> slurm_allocation(
    const std::map<std::string, std::string>& environment) {
  const auto value = [&environment](const char* name) {
    const auto it = environment.find(name);
    return it == environment.end() ? std::string() : it->second;
  };
  SlurmAllocation allocation{value("SLURM_CLUSTER_NAME"), value("SLURMD_NODENAME"), 0};
  const std::string job = value("SLURM_JOB_ID");
  const auto [end, error] = std::from_chars(job.data(), job.data() + job.size(), allocation.job_id);
  if (error != std::errc{} || end != job.data() + job.size() || allocation.job_id < 1)
    return std::nullopt;
  if (allocation.node.empty()) return std::nullopt;
  return allocation;
}

bool srun_knows_pmix(std::string_view mpi_types) {
  std::istringstream words{std::string(mpi_types)};
  for (std::string word; words >> word;) {
    if (word == "pmix") return true;
  }
  return false;
}

std::optional<SlurmAllocation> usable_slurm_allocation() {
  auto allocation =
      slurm_allocation(variables({"SLURM_JOB_ID", "SLURM_CLUSTER_NAME", "SLURMD_NODENAME"}));
  if (!allocation) return std::nullopt;
  std::vector<std::string> environment{"LC_ALL=C.UTF-8"};
  for (const auto& [name, value] : variables({"PATH", "SLURM_CONF", "LD_LIBRARY_PATH"}))
    environment.push_back(name + "=" + value);
  const Captured asked = capture({"srun", "--mpi=list"}, environment, kSrunAnswersMs);
  if (!srun_knows_pmix(asked.out)) return std::nullopt;
  return allocation;
}

}  // namespace rackmark::agent

#include "worker/collective/communicator.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <stdexcept>
#include <string_view>

#include "common/json/json.hpp"
#include "worker/failure.hpp"

namespace rackmark::worker {

namespace {

namespace fs = std::filesystem;

constexpr const char* kPlugin = "librackmark-mpi.so";
constexpr const char* kEntryPoint = "rackmark_make_communicator";

class SingleCommunicator : public Communicator {
 public:
  std::int64_t rank() const override { return 0; }
  std::int64_t size() const override { return 1; }
  void barrier() override {}
  void all_reduce_sum(std::span<float>) override {}
  double all_reduce_max(double value) override { return value; }
  void broadcast(std::span<float>, std::int64_t) override {}
  std::vector<std::string> all_gather(const std::string& text) override { return {text}; }
  void all_to_all(std::span<const std::uint16_t> send, std::span<std::uint16_t> receive) override {
    std::copy(send.begin(), send.end(), receive.begin());
  }
  void all_gather(std::span<const std::uint16_t> mine, std::span<std::uint16_t> all) override {
    std::copy(mine.begin(), mine.end(), all.begin());
  }
  std::unique_ptr<Communicator> first_ranks(std::int64_t) override {
    return make_single_communicator();
  }
  std::unique_ptr<Messages> open_messages() override { return open_mailbox(make_mailboxes(), 0); }
  void finish() override {}
  void abort(int) override {}
};

std::int64_t from_environment(const char* name, std::int64_t otherwise) {
  const char* text = std::getenv(name);
  if (text == nullptr) return otherwise;
  std::int64_t value = 0;
  const char* end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, value);
  if (error != std::errc() || stop != end || value < 0) {
    throw std::runtime_error(std::string(name) + " is '" + text + "', not a number");
  }
  return value;
}

// "2(x3),1", tasks of each node, the first 2 three times: those of the node at `index`; 1 when the
// list does not say.
std::int64_t tasks_of_node(const std::string& list, std::int64_t index) {
  std::istringstream items(list);
  for (std::string item; std::getline(items, item, ',');) {
    const char* end = item.data() + item.size();
    std::int64_t tasks = 1, nodes = 1;
    const auto counted = std::from_chars(item.data(), end, tasks);
    if (counted.ec != std::errc()) break;
    if (std::string_view(counted.ptr).starts_with("(x"))
      std::from_chars(counted.ptr + 2, end, nodes);
    if (index < nodes) return tasks;
    index -= nodes;
  }
  return 1;
}

// Of a task that Slurm started with PMIx. Without PMIx its variables say nothing of ranks: every
// program of a batch script has them.
bool is_task_of_slurm() {
  return std::getenv("PMIX_RANK") != nullptr && std::getenv("SLURM_PROCID") != nullptr;
}

LaunchedRanks slurm_tasks() {
  LaunchedRanks ranks;
  ranks.rank = from_environment("SLURM_PROCID", 0);
  ranks.size = std::max<std::int64_t>(1, from_environment("SLURM_STEP_NUM_TASKS", 1));
  ranks.local_rank = from_environment("SLURM_LOCALID", 0);
  const char* tasks = std::getenv("SLURM_STEP_TASKS_PER_NODE");
  ranks.local_size = std::max<std::int64_t>(
      1, tasks_of_node(tasks == nullptr ? "" : tasks, from_environment("SLURM_NODEID", 0)));
  return ranks;
}

fs::path plugin_folder() {
  if (const char* set = std::getenv("RACKMARK_PLUGIN_DIR"); set != nullptr && *set != '\0') {
    return set;
  }
  return fs::read_symlink("/proc/self/exe").parent_path();
}

}  // namespace

std::string host_name() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
}

std::unique_ptr<Communicator> make_single_communicator() {
  return std::make_unique<SingleCommunicator>();
}

LaunchedRanks launched_ranks() {
  if (std::getenv("OMPI_COMM_WORLD_RANK") == nullptr && is_task_of_slurm()) return slurm_tasks();
  LaunchedRanks ranks;
  ranks.rank = from_environment("OMPI_COMM_WORLD_RANK", 0);
  ranks.size = std::max<std::int64_t>(1, from_environment("OMPI_COMM_WORLD_SIZE", 1));
  ranks.local_rank = from_environment("OMPI_COMM_WORLD_LOCAL_RANK", 0);
  ranks.local_size = std::max<std::int64_t>(1, from_environment("OMPI_COMM_WORLD_LOCAL_SIZE", 1));
  return ranks;
}

std::unique_ptr<Communicator> connect_ranks(const CommunicatorOptions& options) {
  if (launched_ranks().size == 1) return make_single_communicator();
  const fs::path path = plugin_folder() / kPlugin;
  // Global: Open MPI's own plug-ins look for its symbols. Never closed: MPI leaves threads behind.
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) {
    throw std::runtime_error(std::string("several ranks need MPI: dlopen: ") + dlerror());
  }
  const auto make =
      reinterpret_cast<Communicator* (*)(const CommunicatorOptions&)>(dlsym(library, kEntryPoint));
  if (make == nullptr) throw std::runtime_error(path.string() + " has no " + kEntryPoint);
  return std::unique_ptr<Communicator>(make(options));
}

void require_agreement(Communicator& ranks, const std::map<std::string, std::string>& statement) {
  if (ranks.size() == 1) return;
  const nlohmann::json mine = {{"host", host_name()}, {"says", statement}};
  const auto texts = ranks.all_gather(mine.dump());
  const auto first = nlohmann::json::parse(texts.front());
  for (std::size_t rank = 1; rank < texts.size(); ++rank) {
    const auto other = nlohmann::json::parse(texts[rank]);
    for (const auto& [what, said] : first.at("says").items()) {
      const auto wanted = said.get<std::string>();
      const std::string found = other.at("says").value(what, "nothing");
      if (found == wanted) continue;
      throw Failure(Reason::kLaunchFailed,
                    "rank " + std::to_string(rank) + " on host " +
                        other.at("host").get<std::string>() + " has another " + what +
                        " than rank 0 on host " + first.at("host").get<std::string>() + ": " +
                        found.substr(0, 300) + " instead of " + wanted.substr(0, 300));
    }
  }
}

}  // namespace rackmark::worker

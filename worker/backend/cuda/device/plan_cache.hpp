// What was found by timing, kept between processes: a JSON file for each device and version of the
// libraries. Losing it costs time and nothing else, so whatever is wrong with it is passed over:
// a file that cannot be read is as none, one that cannot be written is left, and said once.
// Several processes may use one folder: under a lock of the folder a file is replaced as a whole,
// with what others have added.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace rackmark::worker::cuda {

struct PlanEntry {
  std::string form;
  std::int64_t engine = 0;
  std::vector<std::pair<int, std::int64_t>> knobs;  // type, value
  double ms = 0;                                    // as measured then
  bool compiled = false;                            // by the library at run time
  std::string plan;  // then EnginePlan::saved(); "": was not kept, and is to be built again
  bool operator==(const PlanEntry&) const = default;
};

class PlanCache {
 public:
  static constexpr std::uintmax_t kMostPlanBytes = std::uintmax_t{1} << 30;
  // `device` names what entries hold for ("NVIDIA H200 sm_90 cudnn 9.19.0"); an empty folder: keeps
  // nothing. Plans of a folder that are more bytes together are removed, least recently used first;
  // they are then built again.
  PlanCache(std::filesystem::path folder, const std::string& device,
            std::uintmax_t most_plan_bytes = kMostPlanBytes);
  PlanCache(const PlanCache&) = delete;
  PlanCache& operator=(const PlanCache&) = delete;
  ~PlanCache();  // saves

  std::optional<PlanEntry> find(const std::string& task) const;
  void put(const std::string& task, PlanEntry entry);
  void save();  // what was put since the last time
  const std::filesystem::path& file() const { return file_; }
  const std::string& trouble() const { return trouble_; }  // why nothing is kept; "": it is

 private:
  using Entries = std::map<std::string, PlanEntry>;
  Entries read() const;  // without plans, which are large: each has a file of its own
  void write(const Entries& entries) const;
  std::filesystem::path plan_file(const std::string& task) const;

  std::filesystem::path folder_, file_;
  std::uintmax_t most_plan_bytes_;
  Entries entries_, added_;
  std::string trouble_;
};

// RACKMARK_PLAN_CACHE, else $XDG_CACHE_HOME/rackmark, else ~/.cache/rackmark; empty: nowhere.
std::filesystem::path plan_cache_folder();

}  // namespace rackmark::worker::cuda

#include "worker/backend/cuda/device/plan_cache.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <system_error>

#include "worker/net/text_hash.hpp"

namespace rackmark::worker::cuda {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr const char* kPlanExtension = ".compiled";
constexpr std::size_t kSaveEvery = 16;  // entries; a process that is killed loses fewer

std::string as_file_name(const std::string& device) {
  std::string name = "plans-" + device + ".json";
  for (char& c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '.' || c == '-' || c == '_';
    if (!plain) c = '-';
  }
  return name;
}

PlanEntry entry_from(const Json& json) {
  return {.form = json.at("form"),
          .engine = json.at("engine"),
          .knobs = json.at("knobs").get<std::vector<std::pair<int, std::int64_t>>>(),
          .ms = json.at("ms"),
          .compiled = json.value("compiled", false)};
}

Json as_json(const PlanEntry& entry) {
  Json json{
      {"form", entry.form}, {"engine", entry.engine}, {"knobs", entry.knobs}, {"ms", entry.ms}};
  if (entry.compiled) json["compiled"] = true;
  return json;
}

// As a whole or not at all.
void replace_file(const fs::path& file, const std::string& text) {
  const fs::path fresh = file.string() + "." + std::to_string(getpid());
  std::ofstream stream(fresh);
  stream << text;
  stream.close();
  if (!stream) {
    std::error_code ignored;
    fs::remove(fresh, ignored);
    throw std::runtime_error("cannot write " + fresh.string());
  }
  fs::rename(fresh, file);
}

std::string folder_from(const char* variable, const char* below) {
  const char* set = std::getenv(variable);
  return set != nullptr && *set != '\0' ? std::string(set) + below : std::string();
}

struct PlanFile {
  fs::path path;
  fs::file_time_type used;
  std::uintmax_t bytes = 0;
};

std::vector<PlanFile> plan_files(const fs::path& folder) {
  std::vector<PlanFile> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    std::error_code gone;  // removed meanwhile: left out
    const PlanFile file{entry.path(), entry.last_write_time(gone), entry.file_size(gone)};
    if (!gone && file.path.extension() == kPlanExtension) files.push_back(file);
  }
  return files;
}

// Other devices' and other libraries' too: those are the ones that nobody uses any more.
void remove_least_used(const fs::path& folder, std::uintmax_t most_bytes) {
  std::vector<PlanFile> files = plan_files(folder);
  std::sort(files.begin(), files.end(),
            [](const PlanFile& a, const PlanFile& b) { return a.used > b.used; });
  std::uintmax_t kept = 0;
  for (const PlanFile& file : files) {
    kept += file.bytes;
    std::error_code ignored;
    if (kept > most_bytes) fs::remove(file.path, ignored);
  }
}

// Held while the file is read, added to and replaced, so that nobody's entries are lost in between.
// Where the folder cannot be locked they may be.
class FolderLock {
 public:
  explicit FolderLock(const fs::path& folder)
      : descriptor_(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (descriptor_ >= 0) flock(descriptor_, LOCK_EX);
  }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  ~FolderLock() {
    if (descriptor_ >= 0) close(descriptor_);
  }

 private:
  int descriptor_;
};

}  // namespace

PlanCache::PlanCache(fs::path folder, const std::string& device, std::uintmax_t most_plan_bytes)
    : folder_(std::move(folder)), most_plan_bytes_(most_plan_bytes) {
  if (folder_.empty()) return;
  file_ = folder_ / as_file_name(device);
  entries_ = read();
}

PlanCache::~PlanCache() { save(); }

std::optional<PlanEntry> PlanCache::find(const std::string& task) const {
  const auto found = entries_.find(task);
  if (found == entries_.end()) return std::nullopt;
  PlanEntry entry = found->second;
  if (entry.compiled && entry.plan.empty() && !file_.empty()) {
    std::ifstream stream(plan_file(task));
    std::string whose;
    std::getline(stream, whose);
    if (whose == task) entry.plan.assign(std::istreambuf_iterator<char>(stream), {});
    std::error_code ignored;
    fs::last_write_time(plan_file(task), fs::file_time_type::clock::now(), ignored);  // used now
  }
  return entry;
}

void PlanCache::put(const std::string& task, PlanEntry entry) {
  added_[task] = entry;
  entries_[task] = std::move(entry);
  if (added_.size() >= kSaveEvery) save();
}

void PlanCache::save() {
  if (file_.empty() || added_.empty()) return;
  try {
    fs::create_directories(folder_);
    const FolderLock lock(folder_);
    Entries all = read();  // others may have added theirs
    for (const auto& [task, entry] : added_) {
      all[task] = entry;
      if (!entry.plan.empty()) replace_file(plan_file(task), task + "\n" + entry.plan);
    }
    write(all);
    remove_least_used(folder_, most_plan_bytes_);
  } catch (const std::exception& error) {
    if (trouble_.empty()) {
      trouble_ = error.what();
      std::fprintf(stderr, "rackmark-worker: timed plans are not kept: %s\n", error.what());
    }
  }
  added_.clear();
}

PlanCache::Entries PlanCache::read() const {
  std::ifstream stream(file_);
  const Json json = Json::parse(stream, nullptr, /*allow_exceptions=*/false);
  Entries entries;
  if (!json.is_object()) return entries;
  for (const auto& [task, value] : json.items()) {
    try {
      entries[task] = entry_from(value);
    } catch (const Json::exception&) {  // of another version
    }
  }
  return entries;
}

void PlanCache::write(const Entries& entries) const {
  Json json = Json::object();
  for (const auto& [task, entry] : entries) json[task] = as_json(entry);
  replace_file(file_, json.dump(1) + "\n");
}

fs::path PlanCache::plan_file(const std::string& task) const {
  return folder_ / (file_.stem().string() + "-" + text_hash_digits(task) + kPlanExtension);
}

fs::path plan_cache_folder() {
  for (const auto& [variable, below] :
       {std::pair("RACKMARK_PLAN_CACHE", ""), std::pair("XDG_CACHE_HOME", "/rackmark"),
        std::pair("HOME", "/.cache/rackmark")}) {
    if (const std::string folder = folder_from(variable, below); !folder.empty()) return folder;
  }
  return {};
}

}  // namespace rackmark::worker::cuda

#include "agent/runs/run_folder.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <system_error>

#include "agent/process/described_file.hpp"

namespace rackmark::agent {

namespace fs = std::filesystem;

namespace {

bool make_private_folder(const fs::path& path) {
  std::error_code error;
  // What an earlier process of this agent left; another user's folder of this name cannot be
  // removed, and mkdir then fails.
  if (!fs::is_symlink(path, error)) fs::remove_all(path, error);
  return ::mkdir(path.c_str(), 0700) == 0;
}

}  // namespace

RunFolder::RunFolder(const fs::path& runs, std::int64_t run_id)
    : path_(runs / std::to_string(run_id)) {}

void RunFolder::create() const { fs::create_directories(path_); }

void RunFolder::write_record(RunRecord record) const {
  record.wanted.run_token.clear();
  write_described(path_ / "run.json", record);
}

std::optional<RunRecord> RunFolder::read_record() const {
  return read_described<RunRecord>(path_ / "run.json");
}

void RunFolder::write_spec(const nlohmann::json& spec) const {
  write_file_atomically(spec_file(),
                        spec.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

void RunFolder::write_end(const protocol::ObservedRun& end) const {
  write_described(path_ / "end.json", end);
}

std::optional<protocol::ObservedRun> RunFolder::read_end() const {
  return read_described<protocol::ObservedRun>(path_ / "end.json");
}

void RunFolder::remove() const {
  std::error_code error;
  fs::remove_all(path_, error);
}

std::vector<std::int64_t> list_run_folders(const fs::path& runs) {
  std::vector<std::int64_t> ids;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(runs, error)) {
    const std::string name = entry.path().filename().string();
    std::int64_t id = 0;
    const auto [end, bad] = std::from_chars(name.data(), name.data() + name.size(), id);
    if (bad == std::errc{} && end == name.data() + name.size()) ids.push_back(id);
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

fs::path make_scratch(const std::string& agent_mark, std::int64_t run_id,
                      const fs::path& fallback) {
  const std::string name = fmt::format("rackmark-{}-{}", agent_mark, run_id);
  for (const fs::path& base : {fs::path("/dev/shm"), fallback}) {
    if (make_private_folder(base / name)) return base / name;
  }
  throw std::system_error(errno, std::generic_category(),
                          "cannot make " + (fallback / name).string());
}

std::optional<fs::path> resolve_input(const std::string& wanted,
                                      const std::vector<std::string>& roots) {
  if (wanted.empty() || wanted.find('\0') != std::string::npos) return std::nullopt;
  std::error_code error;
  for (const auto& root_text : roots) {
    const fs::path root = fs::canonical(root_text, error);
    if (error) continue;
    const fs::path real =
        fs::canonical(root / wanted, error);  // an absolute `wanted` replaces root
    if (error) continue;
    const auto [in_root, rest] = std::mismatch(root.begin(), root.end(), real.begin(), real.end());
    if (in_root == root.end()) return real;
  }
  return std::nullopt;
}

}  // namespace rackmark::agent

// A fresh folder for a database; gone with the test. (SQLite's own in-memory databases have no
// write-ahead log.) On a memory file system where there is one: every commit is synced, and
// hundreds of them wait for a disk far longer than the tests compute.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace rackmark::store {

class TempFolder {
 public:
  TempFolder() {
    std::error_code ignored;
    const bool shared_memory = std::filesystem::is_directory("/dev/shm", ignored);
    const std::filesystem::path parent =
        shared_memory ? "/dev/shm" : std::filesystem::temp_directory_path();
    std::string pattern = (parent / "rackmark-XXXXXX").string();
    if (!::mkdtemp(pattern.data())) throw std::runtime_error("mkdtemp " + pattern);
    path_ = pattern;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace rackmark::store

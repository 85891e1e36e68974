// Writes one shard of packed pictures (packed_format.hpp).
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "worker/input/packed_format.hpp"

namespace rackmark::worker {

// A file that has its name only once it is whole and on the disk. All functions throw
// std::runtime_error naming file and reason.
class FreshFile {
 public:
  explicit FreshFile(std::filesystem::path path);
  FreshFile(const FreshFile&) = delete;
  FreshFile& operator=(const FreshFile&) = delete;
  ~FreshFile();  // removes what was not committed

  void write(std::span<const std::uint8_t> bytes);
  void write_at(std::int64_t offset, std::span<const std::uint8_t> bytes);
  void commit();

 private:
  [[noreturn]] void fail(const char* what) const;

  const std::filesystem::path path_, temporary_;
  int fd_;
  std::int64_t bytes_ = 0;
};

class ShardWriter {
 public:
  // Header with everything but the number of pictures.
  ShardWriter(const std::filesystem::path& folder, const ShardHeader& header);
  void append(std::span<const std::uint8_t> pixels, std::int32_t label);
  std::int64_t pictures() const { return static_cast<std::int64_t>(labels_.size()); }
  PackedShard finish();  // all but its checksum

 private:
  ShardHeader header_;
  FreshFile file_;
  std::vector<std::int32_t> labels_;
};

// Of a whole file. Throws std::runtime_error.
std::string sha256_of_file(const std::filesystem::path& path);

}  // namespace rackmark::worker

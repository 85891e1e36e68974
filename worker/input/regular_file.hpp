// Reading what users' folders hold: regular files only, wherever a name leads.
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

namespace rackmark::worker {

// The text says why in a few words, without the name.
struct UnreadableFile : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class RegularFile {
 public:
  explicit RegularFile(const std::string& path);  // throws UnreadableFile
  RegularFile(RegularFile&& other) noexcept;
  RegularFile(const RegularFile&) = delete;
  RegularFile& operator=(const RegularFile&) = delete;
  ~RegularFile();

  std::int64_t bytes() const { return bytes_; }  // when it was opened
  // Bytes read: fewer than wanted only where the file ends. Throws UnreadableFile. Thread-safe.
  std::size_t read_at(std::int64_t offset, std::span<std::uint8_t> into) const;

 private:
  int fd_;
  std::int64_t bytes_ = 0;
};

}  // namespace rackmark::worker

#include "worker/input/shard_writer.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "common/domain/spec.hpp"

namespace rackmark::worker {

FreshFile::FreshFile(std::filesystem::path path)
    : path_(std::move(path)),
      temporary_(path_.string() + ".tmp"),
      fd_(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)) {
  if (fd_ < 0) fail("cannot be made");
}

FreshFile::~FreshFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void FreshFile::fail(const char* what) const {
  throw std::runtime_error("'" + path_.string() + "' " + what + ": " + std::strerror(errno));
}

void FreshFile::write(std::span<const std::uint8_t> bytes) {
  write_at(bytes_, bytes);
  bytes_ += static_cast<std::int64_t>(bytes.size());
}

void FreshFile::write_at(std::int64_t offset, std::span<const std::uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("cannot be written");
    offset += n;
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
}

void FreshFile::commit() {
  if (::fsync(fd_) != 0) fail("cannot be written");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("cannot be named");
  ::close(std::exchange(fd_, -1));
}

ShardWriter::ShardWriter(const std::filesystem::path& folder, const ShardHeader& header)
    : header_(header), file_(folder / shard_name(header.number)) {
  file_.write(encode_header(header_));
}

void ShardWriter::append(std::span<const std::uint8_t> pixels, std::int32_t label) {
  file_.write(pixels);
  labels_.push_back(label);
}

PackedShard ShardWriter::finish() {
  file_.write(encode_labels(labels_));
  header_.pictures = labels_.size();
  file_.write_at(0, encode_header(header_));
  file_.commit();
  return {.file = shard_name(header_.number),
          .pictures = pictures(),
          .bytes = shard_bytes(header_.side, pictures()),
          .sha256 = ""};
}

std::string sha256_of_file(const std::filesystem::path& path) {
  const auto bytes = static_cast<std::size_t>(std::filesystem::file_size(path));
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  void* mapped = fd < 0 ? MAP_FAILED : ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0);
  const int error = errno;
  if (fd >= 0) ::close(fd);
  if (mapped == MAP_FAILED) {
    throw std::runtime_error("'" + path.string() + "' cannot be read: " + std::strerror(error));
  }
  std::string digest = sha256_hex({static_cast<const char*>(mapped), bytes});
  ::munmap(mapped, bytes);
  return digest;
}

}  // namespace rackmark::worker

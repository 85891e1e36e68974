#include "worker/input/picture_loader.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "worker/input/jpeg.hpp"

namespace rackmark::worker {

namespace {

constexpr std::int64_t kMaxFileBytes = 64 * 1024 * 1024;

class OpenFile {
 public:
  // O_NONBLOCK: a FIFO in the tree must not hold up a decode thread for ever.
  explicit OpenFile(const std::string& path)
      : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    if (fd_ < 0) throw BrokenPicture(std::string("cannot be opened: ") + std::strerror(errno));
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  ~OpenFile() { ::close(fd_); }
  int fd() const { return fd_; }

 private:
  int fd_;
};

std::vector<std::uint8_t> read_file(const std::string& path) {
  const OpenFile file(path);
  struct stat facts {};
  if (::fstat(file.fd(), &facts) != 0 || !S_ISREG(facts.st_mode)) {
    throw BrokenPicture("is not a regular file");
  }
  if (facts.st_size > kMaxFileBytes) throw BrokenPicture("is larger than 64 MiB");
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(facts.st_size));
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::read(file.fd(), bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw BrokenPicture(std::string("cannot be read: ") + std::strerror(errno));
    if (n == 0) break;  // it has become shorter
    done += static_cast<std::size_t>(n);
  }
  bytes.resize(done);
  return bytes;
}

}  // namespace

std::shared_ptr<const Pixels> FileLoader::load(std::int64_t index) {
  const ListedPicture& picture = list_.pictures[static_cast<std::size_t>(index)];
  return std::make_shared<const Pixels>(
      decode_jpeg(read_file(list_.root + "/" + picture.path), size_));
}

CachedLoader::CachedLoader(std::unique_ptr<PictureLoader> inner, std::int64_t pictures,
                           std::int64_t max_bytes)
    : inner_(std::move(inner)), bytes_left_(max_bytes), kept_(static_cast<std::size_t>(pictures)) {}

std::shared_ptr<const Pixels> CachedLoader::load(std::int64_t index) {
  auto& place = kept_[static_cast<std::size_t>(index)];
  if (auto kept = place.load()) return kept;
  auto pixels = inner_->load(index);
  const auto bytes = static_cast<std::int64_t>(pixels->size());
  if (bytes_left_.fetch_sub(bytes) >= bytes) {
    place.store(pixels);
  } else {
    bytes_left_.fetch_add(bytes);
  }
  return pixels;
}

}  // namespace rackmark::worker

#include "worker/measure/line_sink.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace rackmark::worker {

LineSink::LineSink(int fd, bool owns_fd, std::size_t max_queued_bytes)
    : fd_(fd), owns_fd_(owns_fd), max_queued_bytes_(max_queued_bytes) {
  thread_ = std::thread([this] { pump(); });
}

LineSink::~LineSink() {
  drain(1.0);
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
  if (owns_fd_) ::close(fd_);
}

void LineSink::write(std::string line) {
  line.push_back('\n');
  {
    const std::lock_guard lock(mutex_);
    if (!broken_.empty()) return;
    if (queued_bytes_ + line.size() > max_queued_bytes_) {
      broken_ = "the reader of the events is too slow: more than " +
                std::to_string(max_queued_bytes_) + " bytes wait for it";
      return;
    }
    queued_bytes_ += line.size();
    queue_.push_back(std::move(line));
  }
  changed_.notify_all();
}

std::string LineSink::broken() const {
  const std::lock_guard lock(mutex_);
  return broken_;
}

bool LineSink::drain(double seconds) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::duration<double>(seconds),
                    [this] { return queued_bytes_ == 0 || !broken_.empty(); });
  return queued_bytes_ == 0 && broken_.empty();
}

void LineSink::pump() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (stopping_) return;
    std::string bytes;
    while (!queue_.empty()) {  // one write for all that waits
      bytes += queue_.front();
      queue_.pop_front();
    }
    lock.unlock();
    const bool sent = send_all(bytes);
    const int error = errno;
    lock.lock();
    queued_bytes_ -= bytes.size();
    if (!sent && broken_.empty() && !stopping_) {
      broken_ = std::string("the reader of the events is gone: ") + std::strerror(error);
    }
    changed_.notify_all();
  }
}

// Polls in short turns so that a reader that never reads cannot hold up the end of the process.
bool LineSink::send_all(const std::string& bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    pollfd ready{fd_, POLLOUT, 0};
    const int polled = ::poll(&ready, 1, 100);
    if (polled < 0 && errno != EINTR) return false;
    if (polled <= 0) {
      const std::lock_guard lock(mutex_);
      if (stopping_) return false;
      continue;
    }
    // Never more than a pipe takes at once: a blocking descriptor is then written without blocking.
    const std::size_t chunk = std::min<std::size_t>(bytes.size() - done, 4096);
    ssize_t n = ::send(fd_, bytes.data() + done, chunk, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == ENOTSOCK) n = ::write(fd_, bytes.data() + done, chunk);
    if (n < 0 && errno != EAGAIN && errno != EINTR) return false;
    if (n > 0) done += static_cast<std::size_t>(n);
  }
  return true;
}

int connect_unix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    throw std::runtime_error("RACKMARK_EVENTS: '" + path + "' is no path of a Unix socket");
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw std::runtime_error(std::string("socket: ") + std::strerror(errno));
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const std::string why = std::strerror(errno);
    ::close(fd);
    throw std::runtime_error("RACKMARK_EVENTS: cannot connect to " + path + ": " + why);
  }
  return fd;
}

}  // namespace rackmark::worker

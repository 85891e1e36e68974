// Where event lines go: a Unix stream socket, or a file descriptor such as standard output.
//
// write() never blocks on the reader: lines queue up to a bound and a thread of the sink's own
// hands them on. When the reader is gone or so slow that the bound is reached, the sink is broken
// for good and says so; the training loop looks at broken() between steps.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

namespace rackmark::worker {

class LineSink {
 public:
  static constexpr std::size_t kMaxQueuedBytes = 16 * 1024 * 1024;

  // Takes over `fd` when `owns_fd`. SIGPIPE must be ignored in the process.
  explicit LineSink(int fd, bool owns_fd = true, std::size_t max_queued_bytes = kMaxQueuedBytes);
  LineSink(const LineSink&) = delete;
  LineSink& operator=(const LineSink&) = delete;
  ~LineSink();  // drains for at most a second

  void write(std::string line);  // without the newline; from any thread; no effect once broken
  // "" while all is well, else why nothing goes out any more.
  std::string broken() const;
  // Waits until everything written so far is handed on; false when it took longer or is broken.
  bool drain(double seconds);

 private:
  void pump();
  bool send_all(const std::string& bytes);

  const int fd_;
  const bool owns_fd_;
  const std::size_t max_queued_bytes_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> queue_;
  std::size_t queued_bytes_ = 0;  // includes what the thread is just sending
  std::string broken_;
  bool stopping_ = false;
  std::thread thread_;
};

// A connected stream socket; throws std::runtime_error naming the path when nobody listens there.
int connect_unix(const std::string& path);

}  // namespace rackmark::worker

// A controller on a real socket that answers what a test tells it to. Plain POSIX, one thread.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "common/json/json.hpp"

namespace rackmark::cli {

struct FakeRequest {
  std::string method, target, body;
  std::map<std::string, std::string> headers;  // names in lower case
};
struct FakeReply {
  int status = 200;
  nlohmann::json body;
};

class FakeController {
 public:
  using Handler = std::function<FakeReply(const FakeRequest&)>;
  // Listens on a free port of the loopback address. `handler` runs on the server's thread.
  explicit FakeController(Handler handler);
  ~FakeController();
  FakeController(const FakeController&) = delete;
  FakeController& operator=(const FakeController&) = delete;

  std::string url() const;
  std::vector<FakeRequest> requests() const;  // so far

 private:
  void serve();
  void answer(int connection);

  Handler handler_;
  int port_ = 0;  // before listener_, whose initialiser sets it
  int listener_ = -1;
  mutable std::mutex mutex_;
  std::vector<FakeRequest> requests_;  // guarded by mutex_
  std::thread thread_;
};

int unused_port();  // nothing listens there

}  // namespace rackmark::cli

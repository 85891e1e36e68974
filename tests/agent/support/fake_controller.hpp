// A controller's side of the agent protocol on a real socket: one thread, HTTP/1.1 with keep-alive,
// answers given by a function. For tests of the agent as a program.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "agent/process/unique_fd.hpp"
#include "common/json/json.hpp"

namespace rackmark::agent {

struct FakeRequest {
  std::string method, target, authorization;
  nlohmann::json body;
};
struct FakeReply {
  int status = 200;
  nlohmann::json body;
};

class FakeController {
 public:
  // `answer` is called from the server's thread.
  explicit FakeController(std::function<FakeReply(const FakeRequest&)> answer);
  ~FakeController();
  int port() const { return port_; }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  void set_deaf(bool deaf) { deaf_ = deaf; }  // takes requests and never answers them

 private:
  void serve();
  bool answer_one(int fd, std::string& buffer);

  std::function<FakeReply(const FakeRequest&)> answer_;
  UniqueFd listener_, stop_;
  int port_ = 0;
  std::atomic<bool> deaf_{false};
  std::thread thread_;
};

}  // namespace rackmark::agent

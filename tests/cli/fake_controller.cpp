#include "fake_controller.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>
#include <stdexcept>

namespace rackmark::cli {
namespace {

int listen_on_free_port(int& port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      listen(fd, 16) != 0 || getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    throw std::runtime_error("no port on the loopback address");
  }
  port = ntohs(address.sin_port);
  return fd;
}

// Until the blank line and Content-Length bytes after it; "" when the peer has gone.
std::string read_request(int connection) {
  std::string text;
  char buffer[4096];
  for (;;) {
    const auto end = text.find("\r\n\r\n");
    if (end != text.npos) {
      std::string head = text.substr(0, end);
      std::transform(head.begin(), head.end(), head.begin(), ::tolower);
      const auto at = head.find("content-length:");
      const std::size_t length = at == head.npos ? 0 : std::stoul(head.substr(at + 15));
      if (text.size() >= end + 4 + length) return text;
    }
    const ssize_t got = read(connection, buffer, sizeof buffer);
    if (got <= 0) return "";
    text.append(buffer, static_cast<std::size_t>(got));
  }
}

FakeRequest parse_request(const std::string& text) {
  FakeRequest request;
  const auto end = text.find("\r\n\r\n");
  std::istringstream head(text.substr(0, end));
  head >> request.method >> request.target;
  std::string line;
  std::getline(head, line);
  while (std::getline(head, line)) {
    const auto colon = line.find(':');
    std::string name = line.substr(0, colon);
    std::transform(name.begin(), name.end(), name.begin(), ::tolower);
    std::string value = line.substr(colon + 1);
    value.erase(0, value.find_first_not_of(' '));
    value.erase(value.find_last_not_of("\r ") + 1);
    request.headers[name] = value;
  }
  request.body = text.substr(end + 4);
  return request;
}

}  // namespace

FakeController::FakeController(Handler handler)
    : handler_(std::move(handler)), listener_(listen_on_free_port(port_)) {
  thread_ = std::thread([this] { serve(); });
}

FakeController::~FakeController() {
  shutdown(listener_, SHUT_RDWR);  // ends accept()
  thread_.join();
  close(listener_);
}

std::string FakeController::url() const { return "http://127.0.0.1:" + std::to_string(port_); }

std::vector<FakeRequest> FakeController::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

void FakeController::serve() {
  for (;;) {
    const int connection = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) return;
    answer(connection);
    close(connection);
  }
}

void FakeController::answer(int connection) {
  const std::string text = read_request(connection);
  if (text.empty()) return;
  const FakeRequest request = parse_request(text);
  {
    const std::lock_guard lock(mutex_);
    requests_.push_back(request);
  }
  const FakeReply reply = handler_(request);
  const std::string body = reply.body.dump();
  const std::string type = reply.status < 400 ? "application/json" : "application/problem+json";
  const std::string out =
      "HTTP/1.1 " + std::to_string(reply.status) + " Answer\r\nContent-Type: " + type +
      "\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  for (std::size_t sent = 0; sent < out.size();) {
    const ssize_t n = send(connection, out.data() + sent, out.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) return;
    sent += static_cast<std::size_t>(n);
  }
}

int unused_port() {
  int port = 0;
  close(listen_on_free_port(port));
  return port;
}

}  // namespace rackmark::cli

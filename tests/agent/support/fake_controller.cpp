#include "tests/agent/support/fake_controller.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <map>

namespace rackmark::agent {

FakeController::FakeController(std::function<FakeReply(const FakeRequest&)> answer)
    : answer_(std::move(answer)),
      listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)),
      stop_(::eventfd(0, EFD_CLOEXEC)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      ::listen(listener_.get(), 16) != 0 ||
      ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw std::runtime_error("cannot listen");
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { serve(); });
}

FakeController::~FakeController() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto n = ::write(stop_.get(), &one, sizeof one);
  thread_.join();
}

void FakeController::serve() {
  std::map<int, std::string> connections;
  while (true) {
    std::vector<pollfd> fds{{stop_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
    for (const auto& [fd, buffer] : connections) fds.push_back({fd, POLLIN, 0});
    ::poll(fds.data(), fds.size(), -1);
    if (fds[0].revents != 0) break;
    if (fds[1].revents != 0)
      connections[::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)];
    for (std::size_t i = 2; i < fds.size(); ++i) {
      if (fds[i].revents == 0) continue;
      if (answer_one(fds[i].fd, connections[fds[i].fd])) continue;
      ::close(fds[i].fd);
      connections.erase(fds[i].fd);
    }
  }
  for (const auto& [fd, buffer] : connections) ::close(fd);
}

bool FakeController::answer_one(int fd, std::string& buffer) {
  std::array<char, 65536> bytes{};
  const ssize_t n = ::read(fd, bytes.data(), bytes.size());
  if (n <= 0) return false;
  buffer.append(bytes.data(), static_cast<std::size_t>(n));
  const auto head_end = buffer.find("\r\n\r\n");
  if (head_end == std::string::npos) return true;
  std::string head = buffer.substr(0, head_end), lower = head;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  auto header = [&](const std::string& name) -> std::string {
    const auto at = lower.find("\r\n" + name + ": ");
    if (at == std::string::npos) return "";
    const auto begin = at + name.size() + 4;
    return head.substr(begin, head.find("\r\n", begin) - begin);
  };
  const std::string length_text = header("content-length");
  const std::size_t length = length_text.empty() ? 0 : std::stoul(length_text);
  if (buffer.size() < head_end + 4 + length) return true;
  FakeRequest request;
  request.method = head.substr(0, head.find(' '));
  const auto target = head.find(' ') + 1;
  request.target = head.substr(target, head.find(' ', target) - target);
  request.authorization = header("authorization");
  request.body = nlohmann::json::parse(buffer.substr(head_end + 4, length), nullptr, false);
  buffer.erase(0, head_end + 4 + length);
  if (deaf_) return true;
  const FakeReply reply = answer_(request);
  const std::string body = reply.body.dump();
  const std::string text = "HTTP/1.1 " + std::to_string(reply.status) + " x\r\nContent-Type: " +
                           (reply.status >= 400 ? "application/problem+json" : "application/json") +
                           "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  return ::send(fd, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
}

}  // namespace rackmark::agent

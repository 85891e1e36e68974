#include "tests/support/raw_connection.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <stdexcept>

namespace rackmark::test {
namespace {

using Clock = std::chrono::steady_clock;

Clock::time_point after(double seconds) {
  return Clock::now() +
         std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

// One piece; empty and `over` when the peer closed or the time is over.
std::string read_piece(int fd, Clock::time_point end, bool& over, bool& closed) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
  pollfd wait{fd, POLLIN, 0};
  if (left.count() <= 0 || ::poll(&wait, 1, static_cast<int>(left.count())) <= 0) {
    over = true;
    return {};
  }
  char buffer[65536];
  const ssize_t n = ::recv(fd, buffer, sizeof buffer, 0);
  if (n <= 0) {
    over = closed = true;
    return {};
  }
  return std::string(buffer, static_cast<std::size_t>(n));
}

}  // namespace

RawConnection::RawConnection(int port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    ::close(fd_);
    throw std::runtime_error("connection refused");
  }
}

RawConnection::~RawConnection() { ::close(fd_); }

bool RawConnection::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

void RawConnection::finish_sending() { ::shutdown(fd_, SHUT_WR); }

std::string RawConnection::read_until(std::string_view until, double seconds) {
  const auto end = after(seconds);
  std::string got;
  bool over = false, closed = false;
  while (!over && got.find(until) == std::string::npos) got += read_piece(fd_, end, over, closed);
  return got;
}

std::string RawConnection::read_all(double seconds) {
  const auto end = after(seconds);
  std::string got;
  bool over = false, closed = false;
  while (!over) got += read_piece(fd_, end, over, closed);
  EXPECT_TRUE(closed) << "the connection was still open after " << seconds << " s";
  return got;
}

bool RawConnection::closed_by_peer(double seconds) {
  const auto end = after(seconds);
  bool over = false, closed = false;
  while (!over) read_piece(fd_, end, over, closed);
  return closed;
}

std::string talk(int port, std::string_view bytes, double seconds) {
  RawConnection connection(port);
  connection.send(bytes);
  return connection.read_all(seconds);
}

int status_of(std::string_view reply) {
  return reply.starts_with("HTTP/1.") && reply.size() > 12 ? std::atoi(reply.data() + 9) : 0;
}

}  // namespace rackmark::test

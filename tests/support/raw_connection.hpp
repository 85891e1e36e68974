// Bytes over a real TCP connection to loopback, for requests that no client would make.
#pragma once

#include <string>
#include <string_view>

namespace rackmark::test {

class RawConnection {
 public:
  explicit RawConnection(int port);  // throws when refused
  ~RawConnection();
  RawConnection(const RawConnection&) = delete;
  RawConnection& operator=(const RawConnection&) = delete;

  bool send(std::string_view bytes);  // false when the peer has closed
  void finish_sending();              // half close
  // What comes until `until` is in it, the peer closes, or `seconds` are over.
  std::string read_until(std::string_view until, double seconds = 5);
  // What comes until the peer closes; fails the test after `seconds`.
  std::string read_all(double seconds = 5);
  bool closed_by_peer(double seconds);  // true when it closes within that time

 private:
  int fd_ = -1;
};

// One request on its own connection, read to the end of the connection.
std::string talk(int port, std::string_view bytes, double seconds = 5);
int status_of(std::string_view reply);  // 0 when it is none

}  // namespace rackmark::test

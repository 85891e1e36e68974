// Which names and origins may speak to this controller. A page on the web whose name was rebound to
// 127.0.0.1 still sends its own Host, and its Origin with every unsafe request: both are refused.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/error.hpp"
#include "controller/http/message.hpp"

namespace rackmark::http {

struct HostPolicy {
  std::vector<std::string> names;  // beside localhost and loopback addresses
  bool any_address = false;        // bound beyond loopback: every literal address is a fair Host
};

// kMalformed without exactly one Host; kForbidden for a foreign Host, or on POST, PUT and DELETE an
// Origin that is neither this Host's own nor one of `names`.
std::optional<Error> check_host(const Request& request, const HostPolicy& policy);

}  // namespace rackmark::http

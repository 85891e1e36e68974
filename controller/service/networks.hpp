// On which network the agents of one run talk to each other, as pure functions of what they say of
// themselves. IPv4 only: Open MPI of the distributions is built without IPv6.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace rackmark::service {

// "10.0.0.7/24" -> "10.0.0.0/24". nullopt: not IPv4, or not a CIDR.
std::optional<std::string> network_of(std::string_view cidr);

struct Networked {
  std::vector<std::string> addresses;  // CIDR of every interface
  std::string stated;                  // CIDR that the agent's owner chose; "" = not stated
};

// Where this host can be reached: what its owner states, else every network of its interfaces but
// link-local ones.
std::vector<std::string> networks_of(const Networked& host);

// The networks that all hosts share. One in which two of them have the same address (a bridge such
// as docker0, private to each host) connects nobody and is left out, unless it is stated.
std::vector<std::string> common_networks(const std::vector<Networked>& hosts);

}  // namespace rackmark::service

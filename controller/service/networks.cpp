#include "controller/service/networks.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <set>

namespace rackmark::service {

namespace {

std::optional<std::uint32_t> number(std::string_view text, std::uint32_t most) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size() || value > most)
    return std::nullopt;
  return value;
}

std::optional<std::uint32_t> ipv4(std::string_view text) {
  std::uint32_t address = 0;
  for (int part = 0; part < 4; ++part) {
    const std::size_t dot = part < 3 ? text.find('.') : text.size();
    if (dot == std::string_view::npos) return std::nullopt;
    const auto byte = number(text.substr(0, dot), 255);
    if (!byte) return std::nullopt;
    address = (address << 8) | *byte;
    text.remove_prefix(std::min(dot + 1, text.size()));
  }
  return address;
}

bool is_link_local(const std::string& network) { return network.starts_with("169.254."); }

// The host's own address in `network`; "" when it has none there.
std::string address_in(const Networked& host, const std::string& network) {
  for (const std::string& cidr : host.addresses) {
    if (network_of(cidr) == network) return cidr.substr(0, cidr.find('/'));
  }
  return "";
}

bool addresses_differ(const std::vector<Networked>& hosts, const std::string& network) {
  std::set<std::string> seen;
  return std::all_of(hosts.begin(), hosts.end(), [&](const Networked& host) {
    return !host.stated.empty() || seen.insert(address_in(host, network)).second;
  });
}

}  // namespace

std::optional<std::string> network_of(std::string_view cidr) {
  const std::size_t slash = cidr.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const auto address = ipv4(cidr.substr(0, slash));
  const auto bits = number(cidr.substr(slash + 1), 32);
  if (!address || !bits) return std::nullopt;
  const std::uint32_t mask = *bits == 0 ? 0 : ~std::uint32_t{0} << (32 - *bits);
  const std::uint32_t net = *address & mask;
  std::string text;
  for (int shift = 24; shift >= 0; shift -= 8) {
    text += std::to_string((net >> shift) & 255) + (shift > 0 ? "." : "");
  }
  return text + "/" + std::to_string(*bits);
}

std::vector<std::string> networks_of(const Networked& host) {
  std::vector<std::string> found;
  const auto add = [&found](const std::string& cidr) {
    const auto network = network_of(cidr);
    if (network && std::find(found.begin(), found.end(), *network) == found.end()) {
      found.push_back(*network);
    }
  };
  if (!host.stated.empty()) {
    add(host.stated);
    return found;
  }
  for (const std::string& cidr : host.addresses) add(cidr);
  std::erase_if(found, is_link_local);
  return found;
}

std::vector<std::string> common_networks(const std::vector<Networked>& hosts) {
  if (hosts.empty()) return {};
  std::vector<std::string> common = networks_of(hosts.front());
  for (const Networked& host : hosts) {
    const auto own = networks_of(host);
    std::erase_if(common, [&own](const std::string& network) {
      return std::find(own.begin(), own.end(), network) == own.end();
    });
  }
  std::erase_if(common,
                [&hosts](const auto& network) { return !addresses_differ(hosts, network); });
  return common;
}

}  // namespace rackmark::service

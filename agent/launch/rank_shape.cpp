#include "agent/launch/rank_shape.hpp"

#include <algorithm>
#include <string>

namespace rackmark::agent {

namespace {

constexpr std::int64_t kMaxPerHost = 4096;

// 0 where the spec says nothing of the kind.
std::int64_t dedicated_servers(const nlohmann::json& spec) {
  const auto update = spec.find("variable_update"), server = spec.find("parameter_server");
  if (update == spec.end() || *update != "parameter_server") return 0;
  if (server == spec.end() || !server->is_object() || !server->contains("placement")) return 0;
  if ((*server)["placement"] != "dedicated") return 0;
  const auto servers = server->find("servers");
  const bool counted = servers != server->end() && servers->is_number_integer();
  return counted ? std::clamp<std::int64_t>(servers->get<std::int64_t>(), 1, 1024) : 1;
}

Result<std::int64_t> whole(const nlohmann::json& resources, const char* name, std::int64_t least,
                           std::int64_t most) {
  const std::string path = std::string("resources.") + name;
  const auto value = resources.find(name);
  if (value == resources.end())
    return invalid(path, nullptr, "a whole number", "the spec does not say " + path);
  const bool fits = value->is_number_integer() && value->get<std::int64_t>() >= least &&
                    value->get<std::int64_t>() <= most;
  const std::string range = std::to_string(least) + " to " + std::to_string(most);
  if (!fits) return invalid(path, *value, range, path + " is not " + range);
  return value->get<std::int64_t>();
}

// Equally many on each host, or all of them together (common/domain/spec.hpp).
Result<std::int64_t> workers_of(const nlohmann::json& resources, std::int64_t hosts) {
  if (resources.contains("workers")) return whole(resources, "workers", hosts, hosts * kMaxPerHost);
  const auto each = whole(resources, "workers_per_agent", 1, kMaxPerHost);
  if (!each) return each.error();
  return *each * hosts;
}

}  // namespace

Result<RankShape> rank_shape(const nlohmann::json& spec, std::int64_t hosts) {
  const auto found = spec.is_object() ? spec.find("resources") : spec.end();
  const bool there = found != spec.end() && found->is_object();
  const nlohmann::json resources = there ? *found : nlohmann::json::object();
  const auto workers = workers_of(resources, hosts);
  if (!workers) return workers.error();
  const auto threads = whole(resources, "threads_per_worker", 1, kMaxPerHost);
  if (!threads) return threads.error();
  return RankShape{{hosts, *workers, dedicated_servers(spec)}, *threads};
}

}  // namespace rackmark::agent

#include <hwloc.h>

#include <array>
#include <cstdlib>
#include <map>
#include <memory>
#include <sstream>

#include "agent/probe/inventory.hpp"

namespace rackmark::agent {

using protocol::CpuInventory;

namespace {

std::int64_t to_number(const std::string& text) { return std::strtoll(text.c_str(), nullptr, 10); }

std::string or_unknown(const std::string& text) { return text.empty() ? "unknown" : text; }

}  // namespace

std::string isa_level(std::string_view flags) {
  const std::string padded = " " + std::string(flags) + " ";
  auto has = [&](std::string_view flag) {
    return padded.find(" " + std::string(flag) + " ") != std::string::npos;
  };
  const bool avx512 = has("avx512f") && has("avx512bw") && has("avx512vl") && has("avx512dq");
  if (has("amx_tile") && has("amx_bf16")) return "amx";
  if (avx512 && has("avx512_bf16")) return "avx512_bf16";
  if (avx512 && has("avx512_vnni")) return "avx512_vnni";
  if (avx512) return "avx512";
  if (has("avx2") && has("fma")) return "avx2";
  if (has("sse4_1")) return "sse4_1";
  return "baseline";
}

CpuInventory parse_cpuinfo(std::string_view text) {
  std::map<std::string, std::string> first;  // of the first processor: the others are alike
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    const auto colon = line.find(':');
    if (colon == std::string::npos) continue;
    const auto name_end = line.find_last_not_of(" \t", colon == 0 ? 0 : colon - 1);
    const auto value_at = line.find_first_not_of(" \t", colon + 1);
    first.try_emplace(line.substr(0, name_end + 1),
                      value_at == std::string::npos ? "" : line.substr(value_at));
  }
  CpuInventory cpu;
  cpu.vendor = or_unknown(first["vendor_id"]);
  cpu.model_name = or_unknown(first["model name"]);
  cpu.family = to_number(first["cpu family"]);
  cpu.model = to_number(first["model"]);
  cpu.stepping = to_number(first["stepping"]);
  cpu.isa = first["flags"].empty() ? "unknown" : isa_level(first["flags"]);
  return cpu;
}

void probe_topology(CpuInventory& cpu) {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) return;
  const std::unique_ptr<hwloc_topology, decltype(&hwloc_topology_destroy)> topology(
      raw, hwloc_topology_destroy);
  if (hwloc_topology_load(raw) != 0) return;
  auto count = [&](hwloc_obj_type_t type) {
    return static_cast<std::int64_t>(std::max(hwloc_get_nbobjs_by_type(raw, type), 0));
  };
  cpu.sockets = std::max<std::int64_t>(count(HWLOC_OBJ_PACKAGE), 1);
  cpu.logical_cpus = std::max<std::int64_t>(count(HWLOC_OBJ_PU), 1);
  cpu.physical_cores = count(HWLOC_OBJ_CORE);
  if (cpu.physical_cores == 0) cpu.physical_cores = cpu.logical_cpus;  // some virtual machines
  cpu.numa_domains = std::max<std::int64_t>(count(HWLOC_OBJ_NUMANODE), 1);
  cpu.smt = cpu.logical_cpus > cpu.physical_cores;
}

}  // namespace rackmark::agent

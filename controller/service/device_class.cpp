#include "controller/service/device_class.hpp"

#include <map>

namespace rackmark::service {

namespace {

std::string known(const std::string& text) { return text.empty() ? "unknown" : text; }

std::string gpu_class(const std::vector<protocol::GpuInventory>& gpus) {
  std::map<std::string, int> counts;
  for (const auto& gpu : gpus) ++counts[known(gpu.name)];
  std::string text = "gpu";
  for (const auto& [name, count] : counts) {
    text += (text == "gpu" ? " " : " + ") + std::to_string(count) + "x " + name;
  }
  return text;
}

}  // namespace

std::string device_class_of(const protocol::Inventory& inventory) {
  if (!inventory.gpus.empty()) return gpu_class(inventory.gpus);
  const auto& cpu = inventory.cpu;
  return "cpu " + std::to_string(cpu.sockets) + "x " + known(cpu.vendor) + "-" +
         std::to_string(cpu.family) + "-" + std::to_string(cpu.model) + "-" +
         std::to_string(cpu.stepping) + " " + known(cpu.isa) + " " +
         std::to_string(cpu.physical_cores) + "c";
}

}  // namespace rackmark::service

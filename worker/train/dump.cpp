#include "worker/train/dump.hpp"

#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "common/json/json.hpp"

namespace rackmark::worker {

namespace {

static_assert(std::endian::native == std::endian::little);

[[noreturn]] void cannot_write(const std::string& path) {
  throw std::runtime_error("cannot write " + path + ": " + std::strerror(errno));
}

}  // namespace

void dump_parameters(const TrainPlan& plan, const std::string& path) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  nlohmann::json index = {{"parameters", nlohmann::json::array()},
                          {"running", nlohmann::json::array()}};
  std::size_t offset = 0;
  const auto append = [&](const char* group, const std::string& name,
                          const std::vector<double>& values) {
    const std::vector<float> floats(values.begin(), values.end());
    file.write(reinterpret_cast<const char*>(floats.data()),
               static_cast<std::streamsize>(floats.size() * sizeof(float)));
    index[group].push_back({{"name", name}, {"offset", offset}, {"elements", floats.size()}});
    offset += floats.size();
  };
  const Net& net = plan.net();
  for (std::size_t p = 0; p < net.parameters().size(); ++p) {
    append("parameters", net.parameters()[p].name, plan.read_parameter(static_cast<int>(p)));
  }
  for (std::size_t s = 0; s < net.running_statistics().size(); ++s) {
    append("running", net.running_statistics()[s].name, plan.read_running(static_cast<int>(s)));
  }
  file.close();
  if (!file) cannot_write(path);
  std::ofstream names(path + ".json", std::ios::trunc);
  names << index.dump(1) << '\n';
  names.close();
  if (!names) cannot_write(path + ".json");
}

}  // namespace rackmark::worker

#include "worker/models/registry.hpp"

#include <array>
#include <stdexcept>

namespace rackmark::worker {

void build_alexnet(Net& net);
void build_catsdogs_deep(Net& net);
void build_catsdogs_improved(Net& net);
void build_catsdogs_original(Net& net);
void build_cifar10(Net& net);
void build_googlenet(Net& net);
void build_inception_v3(Net& net);
void build_resnet50(Net& net);

namespace {

constexpr std::array kModels{
    // name, image sizes: default, smallest, largest; classes
    ModelEntry{"resnet50", 224, 32, 4096, 1000, build_resnet50},
    ModelEntry{"inception_v3", 299, 299, 4096, 1000, build_inception_v3},
    ModelEntry{"googlenet", 224, 32, 4096, 1000, build_googlenet},
    ModelEntry{"alexnet", 224, 63, 4096, 1000, build_alexnet},
    ModelEntry{"cifar10", 24, 24, 24, 10, build_cifar10},
    ModelEntry{"catsdogs_original", 64, 64, 64, 2, build_catsdogs_original},
    ModelEntry{"catsdogs_improved", 128, 128, 128, 2, build_catsdogs_improved},
    ModelEntry{"catsdogs_deep", 128, 128, 128, 2, build_catsdogs_deep},
};

std::string allowed_sizes(const ModelEntry& model) {
  const std::string least = std::to_string(model.minimum_image_size);
  if (model.minimum_image_size == model.maximum_image_size) return "allowed: " + least;
  return "allowed: " + least + " to " + std::to_string(model.maximum_image_size);
}

}  // namespace

std::span<const ModelEntry> models() { return kModels; }

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const auto& model : kModels) names.emplace_back(model.name);
  return names;
}

const ModelEntry* find_model(const std::string& name) {
  for (const auto& model : kModels) {
    if (name == model.name) return &model;
  }
  return nullptr;
}

Net build_model(const std::string& name, int image_size, int classes) {
  const ModelEntry* model = find_model(name);
  if (model == nullptr) {
    std::string known;
    for (const auto& k : model_names()) known += (known.empty() ? "" : ", ") + k;
    throw std::invalid_argument("unknown model '" + name + "', known: " + known);
  }
  const int size = image_size == 0 ? model->image_size : image_size;
  if (size < model->minimum_image_size || size > model->maximum_image_size) {
    throw std::invalid_argument("model '" + name + "': image size is " + std::to_string(size) +
                                ", " + allowed_sizes(*model));
  }
  Net net(name, size, classes == 0 ? model->classes : classes);
  model->build(net);
  return net;
}

}  // namespace rackmark::worker

// The models by name. A model is one small file that builds a Net with torchvision's parameter
// names, plus one line in registry.cpp.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "worker/net/net.hpp"

namespace rackmark::worker {

struct ModelEntry {
  const char* name;
  int image_size;          // default
  int minimum_image_size;  // smaller ones do not fit through the layers
  int maximum_image_size;  // the default again where linear layers fix the size
  int classes;             // default
  void (*build)(Net&);     // adds everything from input() to loss()
};

std::span<const ModelEntry> models();
std::vector<std::string> model_names();
const ModelEntry* find_model(const std::string& name);  // nullptr when unknown

// 0 takes the model's default. Throws std::invalid_argument: an unknown name (with the known ones),
// or a size that does not fit.
Net build_model(const std::string& name, int image_size = 0, int classes = 0);

}  // namespace rackmark::worker

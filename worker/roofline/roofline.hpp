// `rackmark-worker roofline`: ceilings of this device, or the convolution-only bound of a model.
#pragma once

#include <cstdint>
#include <string>

namespace rackmark::worker {

struct RooflineOptions {
  std::string backend;       // "": the best one of this host
  std::int64_t threads = 0;  // 0: this process's physical cores
  bool json = false;
  std::string model;                       // "": ceilings; else the bound of this model
  std::int64_t batch = 0, image_size = 0;  // 0: the model's
  std::string mode = "training";           // or "inference": forward passes only
  std::string precision = "fp32";          // of the bound
};

// Prints on standard output; returns an exit status of failure.hpp. Throws what a backend throws.
int run_roofline(const RooflineOptions& options);

}  // namespace rackmark::worker

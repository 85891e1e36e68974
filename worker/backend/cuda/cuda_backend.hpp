// The GPU backend, as plug-in librackmark-backend-cuda.so.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "worker/backend/backend.hpp"
#include "worker/backend/cuda/device/device.hpp"

namespace rackmark::worker {

// How the backend gets at its device, which is opened when it is first needed.
struct DeviceSource {
  std::function<std::string()> why_none;  // "" when there is a device
  std::function<std::unique_ptr<cuda::Device>()> open;
  // As Backend::open_file_decoder.
  std::function<std::shared_ptr<FileDecoder>()> open_file_decoder;
};
std::unique_ptr<Backend> make_cuda_backend(DeviceSource source);

}  // namespace rackmark::worker

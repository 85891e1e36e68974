// What an agent's hardware is called when its owner gave it no name.
#pragma once

#include <string>

#include "common/protocol/agents.hpp"

namespace rackmark::service {

// "cpu 1x GenuineIntel-6-143-8 avx512_vnni 2c": sockets x vendor-family-model-stepping, instruction
// set, physical cores that the agent may use; "gpu 8x NVIDIA H200": count and name. Never from
// memory size, and of CPUs never from the marketing string, which differs between equal hardware.
std::string device_class_of(const protocol::Inventory& inventory);

}  // namespace rackmark::service

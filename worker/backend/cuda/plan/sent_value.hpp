// A small value that the host sends to the device again and again.
#pragma once

#include <cstring>
#include <memory>

#include "worker/backend/cuda/device/device.hpp"

namespace rackmark::worker::cuda {

// In the queue's order, from memory that the device reads on its own: a copy from any other may
// wait for all that the queue has been given.
template <class Value>
class SentValue {
 public:
  void open(Device& device) {  // outlives this
    device_ = &device;
    memory_ = device.allocate_host(sizeof(Value));
    read_ = device.make_mark();
  }
  void send(void* to, const Value& value) {
    read_->wait();  // the value before: a step or more ago
    std::memcpy(memory_.get(), &value, sizeof value);
    device_->upload(to, memory_.get(), sizeof value);
    read_->set();
  }

 private:
  Device* device_ = nullptr;
  std::shared_ptr<std::byte> memory_;
  std::unique_ptr<Mark> read_;
};

}  // namespace rackmark::worker::cuda

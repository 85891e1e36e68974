// The batch of a plan: what it must be, where it lies in the device's memory, and how it gets
// there.
//
// It lies there once. Forward passes are the last to read it, so the next batch arrives beside the
// backward pass: step() returns when its loss is known, which is when forward has run, and the
// source then has the rest of the step to come up with the next batch. The host copies a batch
// once, into the inlet's memory, which costs as many bytes of the host.
#pragma once

#include <memory>
#include <vector>

#include "worker/backend/backend.hpp"
#include "worker/backend/cuda/device/device.hpp"

namespace rackmark::worker::cuda {

class BatchInput {
 public:
  // raw_side as in PlanOptions. Throws std::invalid_argument for one that the net's pictures cannot
  // be cut from.
  BatchInput(const Net& net, int batch, int raw_side, bool with_labels);
  std::int64_t picture_bytes() const;  // of all pictures, as floats or as bytes
  std::int64_t window_bytes() const;   // 0 for floats
  std::int64_t label_bytes() const;    // 0 without labels
  void describe(PlanFacts& facts) const;

  struct Places {  // in the device's memory
    std::byte *pictures = nullptr, *windows = nullptr, *labels = nullptr;
  };
  void open(Device& device, const Places& places);  // `device` outlives this

  // Throws std::invalid_argument for a batch of another sort or size than the plan was compiled
  // for, and for a window that leaves its picture.
  void load(const Batch& batch);
  void release();  // the queue has been given all that reads the batch

 private:
  bool is_raw() const { return raw_side_ != 0; }
  void check(const Batch& batch) const;
  void check_raw(const Batch& batch) const;
  void require_count(std::size_t got, std::int64_t wanted, const char* what) const;
  std::vector<Inlet::Piece> pieces(const Batch& batch) const;
  Inlet& inlet();

  std::int64_t batch_, values_;  // values of all pictures
  int size_, raw_side_;
  bool with_labels_;
  Device* device_ = nullptr;
  Places places_;
  std::unique_ptr<Inlet> inlet_;  // made when it is needed
  std::uint64_t loaded_ = 0;      // Batch::identity of the pictures on the device
};

}  // namespace rackmark::worker::cuda

#include "worker/backend/cuda/plan/batch_input.hpp"

#include <stdexcept>

namespace rackmark::worker::cuda {
namespace {

constexpr int kMostRawSide = 1 << 15;  // of the kernel

std::string as_bytes(int side) {
  return "pictures as bytes of " + std::to_string(side) + " pixels (raw_side)";
}

}  // namespace

BatchInput::BatchInput(const Net& net, int batch, int raw_side, bool with_labels)
    : batch_(batch),
      values_(batch * net.nodes()[0].shape.elements()),
      size_(net.nodes()[0].shape.width),
      raw_side_(raw_side),
      with_labels_(with_labels) {
  if (!is_raw() || (raw_side_ >= size_ && raw_side_ <= kMostRawSide)) return;
  throw std::invalid_argument("cuda: raw_side " + std::to_string(raw_side_) +
                              " must be 0 or from the net's " + std::to_string(size_) +
                              " pixels to " + std::to_string(kMostRawSide));
}

std::int64_t BatchInput::picture_bytes() const {
  return is_raw() ? batch_ * raw_side_ * raw_side_ * 3 : 4 * values_;
}
std::int64_t BatchInput::window_bytes() const {
  return is_raw() ? batch_ * static_cast<std::int64_t>(sizeof(PictureWindow)) : 0;
}
std::int64_t BatchInput::label_bytes() const { return with_labels_ ? 4 * batch_ : 0; }

void BatchInput::describe(PlanFacts& facts) const {
  if (!is_raw()) return;
  facts.notes["pictures"] =
      "come as bytes of " + std::to_string(raw_side_) + " pixels, cut and normalised by the GPU";
}

void BatchInput::open(Device& device, const Places& places) {
  device_ = &device;
  places_ = places;
  if (is_raw()) inlet();  // such batches are never sent twice
}

Inlet& BatchInput::inlet() {
  if (!inlet_) inlet_ = device_->make_inlet(picture_bytes() + window_bytes() + label_bytes());
  return *inlet_;
}

void BatchInput::require_count(std::size_t got, std::int64_t wanted, const char* what) const {
  if (static_cast<std::int64_t>(got) == wanted) return;
  throw std::invalid_argument("cuda: a batch of " + std::to_string(batch_) + " needs " +
                              std::to_string(wanted) + " " + what + ", not " + std::to_string(got));
}

void BatchInput::check(const Batch& batch) const {
  if (with_labels_) require_count(batch.labels.size(), batch_, "labels");
  if (is_raw()) return check_raw(batch);
  if (batch.raw.side != 0) {
    throw std::invalid_argument("cuda: this plan was compiled for images of floats, not for " +
                                as_bytes(batch.raw.side));
  }
  require_count(batch.images.size(), values_, "image values");
}

void BatchInput::check_raw(const Batch& batch) const {
  if (!batch.images.empty() || batch.raw.side != raw_side_) {
    throw std::invalid_argument(
        "cuda: this plan was compiled for " + as_bytes(raw_side_) + ", not for " +
        (batch.images.empty() ? as_bytes(batch.raw.side) : "images of floats"));
  }
  require_count(batch.raw.windows.size(), batch_, "windows");
  require_windows(batch.raw, size_);
}

std::vector<Inlet::Piece> BatchInput::pieces(const Batch& batch) const {
  std::vector<Inlet::Piece> pieces;
  if (with_labels_) pieces.push_back({places_.labels, batch.labels.data(), label_bytes()});
  if (is_raw()) {
    pieces.push_back({places_.windows, batch.raw.windows.data(), window_bytes()});
    pieces.push_back({places_.pictures, batch.raw.pixels.data(), picture_bytes()});
  } else {
    pieces.push_back({places_.pictures, batch.images.data(), picture_bytes()});
  }
  return pieces;
}

void BatchInput::load(const Batch& batch) {
  check(batch);
  if (batch.identity != 0 && batch.identity == loaded_) return;  // on the device already
  loaded_ = 0;
  if (batch.identity == 0) {
    inlet().bring(pieces(batch));
  } else {  // comes once: no memory is kept for it
    for (const Inlet::Piece& piece : pieces(batch)) {
      device_->upload(piece.to, piece.from, piece.bytes);
    }
  }
  loaded_ = batch.identity;
}

void BatchInput::release() {
  if (inlet_) inlet_->release();
}

}  // namespace rackmark::worker::cuda

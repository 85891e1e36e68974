#include "worker/input/plain_jpeg.hpp"

#include <algorithm>
#include <array>

namespace rackmark::worker {
namespace {

enum Marker : std::uint8_t {
  kBaseline = 0xC0,  // start of frame: baseline, extended, progressive
  kProgressive = 0xC2,
  kHuffmanTables = 0xC4,
  kFirstRestart = 0xD0,
  kLastRestart = 0xD7,
  kStart = 0xD8,
  kEnd = 0xD9,
  kScan = 0xDA,
  kQuantization = 0xDB,
  kRestartInterval = 0xDD,
  kJfif = 0xE0,
  kAdobe = 0xEE,
  kLastApplication = 0xEF,
  kComment = 0xFE,
};

using Bytes = std::span<const std::uint8_t>;

bool is_tables(std::uint8_t marker) {
  return marker == kHuffmanTables || marker == kQuantization || marker == kRestartInterval ||
         marker == kJfif;
}
bool is_metadata(std::uint8_t marker) {
  return (marker > kJfif && marker <= kLastApplication && marker != kAdobe) || marker == kComment;
}
bool is_frame(std::uint8_t marker) { return marker >= kBaseline && marker <= kProgressive; }

// Of a segment behind its length: precision, height, width, number of components, three bytes each.
bool is_usual_frame(Bytes frame) {
  constexpr std::size_t kHead = 6, kEach = 3;
  if (frame.size() < kHead || frame[0] != 8) return false;
  const std::size_t components = frame[5];
  if (frame.size() != kHead + kEach * components) return false;
  if (components != 3) return components == 1;
  // Named so, they are no YCbCr.
  const std::array names{frame[kHead], frame[kHead + kEach], frame[kHead + 2 * kEach]};
  return names != std::array<std::uint8_t, 3>{'R', 'G', 'B'};
}

// "Adobe", version, two flags, and the transform: 1 is YCbCr.
bool is_usual_adobe(Bytes segment) {
  constexpr std::size_t kTransformAt = 11;
  return segment.size() <= kTransformAt || segment[kTransformAt] == 1;
}

class Walk {
 public:
  explicit Walk(Bytes file) : file_(file) { plain_.reserve(file.size()); }

  std::optional<std::vector<std::uint8_t>> go() {
    if (file_.size() < 4 || file_[0] != 0xFF || file_[1] != kStart) return std::nullopt;
    keep(0, 2);
    at_ = 2;
    while (step()) {
    }
    const bool usual = ended_ && frames_ == 1 && scans_ >= 1;
    return usual ? std::optional(std::move(plain_)) : std::nullopt;
  }

 private:
  void keep(std::size_t from, std::size_t to) {
    plain_.insert(plain_.end(), file_.begin() + static_cast<std::ptrdiff_t>(from),
                  file_.begin() + static_cast<std::ptrdiff_t>(to));
  }

  // One segment, with the scan behind it; false at the end, and where the file is not usual.
  bool step() {
    if (at_ + 1 >= file_.size() || file_[at_] != 0xFF) return false;
    const std::uint8_t marker = file_[at_ + 1];
    if (marker == 0xFF) {  // a fill byte
      ++at_;
      return true;
    }
    if (marker == kEnd) {
      keep(at_, at_ + 2);
      ended_ = true;
      return false;
    }
    if (at_ + 4 > file_.size()) return false;
    const std::size_t length = std::size_t{256} * file_[at_ + 2] + file_[at_ + 3];
    const std::size_t end = at_ + 2 + length;
    if (length < 2 || end > file_.size()) return false;
    const Bytes content = file_.subspan(at_ + 4, length - 2);
    if (!is_metadata(marker)) {
      if (!may_follow(marker, content)) return false;
      keep(at_, end);
    }
    at_ = end;
    if (marker == kScan) skip_scan();
    return true;
  }

  bool may_follow(std::uint8_t marker, Bytes content) {
    if (is_tables(marker)) return true;
    if (marker == kAdobe) return is_usual_adobe(content);
    if (is_frame(marker)) return ++frames_ == 1 && is_usual_frame(content);
    return marker == kScan && frames_ == 1 && ++scans_ <= kMaxScans;
  }

  // Up to the next marker that is neither a stuffed byte nor a restart.
  void skip_scan() {
    const std::size_t begin = at_;
    for (; at_ + 1 < file_.size(); ++at_) {
      if (file_[at_] != 0xFF) continue;
      const std::uint8_t next = file_[at_ + 1];
      if (next != 0 && (next < kFirstRestart || next > kLastRestart)) break;
    }
    keep(begin, at_);
  }

  Bytes file_;
  std::size_t at_ = 0;
  int frames_ = 0, scans_ = 0;
  bool ended_ = false;
  std::vector<std::uint8_t> plain_;
};

}  // namespace

std::optional<std::vector<std::uint8_t>> plain_jpeg(std::span<const std::uint8_t> file) {
  return Walk(file).go();
}

}  // namespace rackmark::worker

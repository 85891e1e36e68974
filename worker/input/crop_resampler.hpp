// Resize to a shortest side, then take the side x side centre: both in one pass over the rows of
// the picture, so that only the window of interest is ever kept, whatever the picture's shape.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace rackmark::worker {

class CropResampler {
 public:
  // side <= shortest. A triangle filter that widens when shrinking (antialiasing), as Pillow's
  // BILINEAR.
  CropResampler(std::int64_t width, std::int64_t height, std::int64_t shortest, std::int64_t side);

  // Rows of the source that matter: [first_row, end_row).
  std::int64_t first_row() const { return rows_.first; }
  std::int64_t end_row() const { return rows_.end; }
  // `rgb` holds width x 3 bytes; rows come in order, each of first_row() to end_row() - 1 once.
  void push_row(std::span<const std::uint8_t> rgb);
  // side x side x 3 bytes, interleaved, once all rows are in.
  std::vector<std::uint8_t> finish() const;

 private:
  struct Axis {
    std::int64_t first = 0, end = 0;   // source range that any output needs
    std::vector<std::int64_t> starts;  // per output: first source index
    std::vector<std::vector<float>> weights;
  };
  // `length` becomes length x shortest / least, of which the middle `side` is wanted.
  static Axis make_axis(std::int64_t length, std::int64_t least, std::int64_t shortest,
                        std::int64_t side);

  const std::int64_t side_;
  Axis columns_, rows_;
  std::vector<float> kept_;  // rows in the window, already resampled across: row x side x 3
};

// The shortest side after resizing where the centre of size x size is all that is used.
constexpr std::int64_t resized_side(std::int64_t size) { return (size * 256 + 112) / 224; }

}  // namespace rackmark::worker

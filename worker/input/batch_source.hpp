// Where training batches come from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "worker/input/pixels.hpp"
#include "worker/net/pictures.hpp"

namespace rackmark::worker {

struct InputBatch {
  std::vector<float> images;         // batch x 3 x size x size, NCHW, normalised
  std::vector<std::int32_t> labels;  // batch
  std::uint64_t identity = 0;        // as in Batch (worker/backend)
  // Instead of images, of sources that were asked for them.
  Pixels pixels;
  std::vector<PictureWindow> windows;
  int side = 0;
  RawPictures raw() const { return {pixels, windows, side}; }
};

struct InputReport {                         // whole life of the source
  std::int64_t pictures_read = 0;            // put into batches, again in each epoch, cached or not
  std::int64_t pictures_broken = 0;          // files, each counted once
  std::int64_t left_to_cpu = 0;              // files that a decoder beside it did not take
  std::vector<std::string> broken_pictures;  // the first 20, by path inside the input path
};

class BatchSource {
 public:
  virtual ~BatchSource() = default;
  // The next batch; valid until the next call. Never ends: epochs follow each other. Throws
  // Failure(input_broken) when nothing can be decoded any more.
  virtual const InputBatch& next() = 0;
  virtual InputReport report() const { return {}; }
};

}  // namespace rackmark::worker

// Pictures that something else than the CPU decodes.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

namespace rackmark::worker {

struct WholePicture {
  std::int64_t width = 0, height = 0;
  std::span<const std::uint8_t> rgb;  // interleaved, row by row
};

class FileDecoder {
 public:
  virtual ~FileDecoder() = default;
  virtual std::string library() const = 0;  // "nvjpeg"
  virtual std::string version() const = 0;  // "13.0.1"
  // Decodes a JPEG file, of those that plain_jpeg() gives, and gives the whole picture to `use`,
  // once, before it returns. False: this decoder leaves the file to the CPU, which also says what
  // is wrong with a broken one; `use` was not called. Thread-safe. Throws std::runtime_error when
  // the device itself does not go on.
  using Use = std::function<void(const WholePicture&)>;
  virtual bool decode(std::span<const std::uint8_t> file, const Use& use) = 0;
};

}  // namespace rackmark::worker

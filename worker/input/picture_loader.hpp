// Read and decode stages, each wrapping the one before.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "worker/input/picture_list.hpp"
#include "worker/input/pixels.hpp"

namespace rackmark::worker {

// All loaders are thread-safe and throw BrokenPicture.
class PictureLoader {
 public:
  virtual ~PictureLoader() = default;
  // Fills `pixels`, side x side x 3 bytes.
  virtual void load(std::int64_t index, std::span<std::uint8_t> pixels) = 0;
};

// Reads the file and decodes it: the centre of side x side of the picture whose shortest side has
// become `shortest`. Only regular files of at most 64 MiB.
class FileLoader : public PictureLoader {
 public:
  FileLoader(const PictureList& list, std::int64_t shortest, std::int64_t side)
      : list_(list), shortest_(shortest), side_(side) {}
  void load(std::int64_t index, std::span<std::uint8_t> pixels) override;

 private:
  const PictureList& list_;
  const std::int64_t shortest_, side_;
};

// Keeps decoded pictures up to a number of bytes; later ones are loaded again each time.
class CachedLoader : public PictureLoader {
 public:
  CachedLoader(std::unique_ptr<PictureLoader> inner, std::int64_t pictures, std::int64_t max_bytes);
  void load(std::int64_t index, std::span<std::uint8_t> pixels) override;

 private:
  std::unique_ptr<PictureLoader> inner_;
  std::atomic<std::int64_t> bytes_left_;
  std::vector<std::atomic<std::shared_ptr<const Pixels>>> kept_;
};

}  // namespace rackmark::worker

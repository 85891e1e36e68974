// Read and decode stages, each wrapping the one before.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "worker/input/picture_list.hpp"

namespace rackmark::worker {

using Pixels = std::vector<std::uint8_t>;  // size x size x 3, RGB interleaved

// All loaders are thread-safe and throw BrokenPicture.
class PictureLoader {
 public:
  virtual ~PictureLoader() = default;
  virtual std::shared_ptr<const Pixels> load(std::int64_t index) = 0;
};

// Reads the file and decodes it. Only regular files of at most 64 MiB.
class FileLoader : public PictureLoader {
 public:
  FileLoader(const PictureList& list, std::int64_t size) : list_(list), size_(size) {}
  std::shared_ptr<const Pixels> load(std::int64_t index) override;

 private:
  const PictureList& list_;
  const std::int64_t size_;
};

// Keeps decoded pictures up to a number of bytes; later ones are loaded again each time.
class CachedLoader : public PictureLoader {
 public:
  CachedLoader(std::unique_ptr<PictureLoader> inner, std::int64_t pictures, std::int64_t max_bytes);
  std::shared_ptr<const Pixels> load(std::int64_t index) override;

 private:
  std::unique_ptr<PictureLoader> inner_;
  std::atomic<std::int64_t> bytes_left_;
  std::vector<std::atomic<std::shared_ptr<const Pixels>>> kept_;
};

}  // namespace rackmark::worker

// Read and decode stages, each wrapping the one before.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "worker/input/picture_list.hpp"
#include "worker/input/pixels.hpp"
#include "worker/net/file_decoder.hpp"

namespace rackmark::worker {

// All loaders are thread-safe and throw BrokenPicture.
class PictureLoader {
 public:
  virtual ~PictureLoader() = default;
  // Fills `pixels`, side x side x 3 bytes.
  virtual void load(std::int64_t index, std::span<std::uint8_t> pixels) = 0;
  // Files that a decoder beside the CPU left to it, each counted once.
  virtual std::int64_t left_to_cpu() const { return 0; }
};

// Reads the file and decodes it: the centre of side x side of the picture whose shortest side has
// become `shortest`. Only regular files of at most 64 MiB. With a `decoder` that decodes files of
// the usual sort (plain_jpeg), and the CPU resizes; what it leaves is decoded by the CPU.
class FileLoader : public PictureLoader {
 public:
  FileLoader(const PictureList& list, std::int64_t shortest, std::int64_t side,
             std::shared_ptr<FileDecoder> decoder = nullptr)
      : list_(list),
        shortest_(shortest),
        side_(side),
        decoder_(std::move(decoder)),
        left_(decoder_ ? list.pictures.size() : 0) {}
  void load(std::int64_t index, std::span<std::uint8_t> pixels) override;
  std::int64_t left_to_cpu() const override { return left_to_cpu_; }

 private:
  bool decoded_elsewhere(std::span<const std::uint8_t> file, std::span<std::uint8_t> pixels);

  const PictureList& list_;
  const std::int64_t shortest_, side_;
  const std::shared_ptr<FileDecoder> decoder_;  // may be null
  std::vector<std::atomic<bool>> left_;         // by it, to the CPU
  std::atomic<std::int64_t> left_to_cpu_{0};
};

// Keeps decoded pictures up to a number of bytes; later ones are loaded again each time.
class CachedLoader : public PictureLoader {
 public:
  CachedLoader(std::unique_ptr<PictureLoader> inner, std::int64_t pictures, std::int64_t max_bytes);
  void load(std::int64_t index, std::span<std::uint8_t> pixels) override;
  std::int64_t left_to_cpu() const override { return inner_->left_to_cpu(); }

 private:
  std::unique_ptr<PictureLoader> inner_;
  std::atomic<std::int64_t> bytes_left_;
  std::vector<std::atomic<std::shared_ptr<const Pixels>>> kept_;
};

}  // namespace rackmark::worker

// Read stage of packed pictures (packed_format.hpp): instead of a file to decode, a place to copy
// from. Reads are as random as the order: from the page cache they run at the speed of memory, from
// a disk every picture is one read of its bytes, which flash does well and a spinning disk does
// not.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "worker/input/packed_format.hpp"
#include "worker/input/picture_list.hpp"
#include "worker/input/picture_loader.hpp"
#include "worker/input/regular_file.hpp"

namespace rackmark::worker {

// Open files of a data set whose index, headers, sizes and labels have been checked against each
// other. Pixels are not: their checksums take a reading of everything (`rackmark-worker pack
// --check`).
class PackedShards {
 public:
  // Throws Failure: input_unavailable when something is missing or cannot be read, input_broken
  // when it is cut short or foreign; each names the file.
  PackedShards(const std::string& root, const std::string& option);

  const PackedIndex& index() const { return index_; }
  const std::vector<std::int32_t>& labels() const { return labels_; }
  // Thread-safe. Throws BrokenPicture.
  void read(std::int64_t picture, std::span<std::uint8_t> pixels) const;

 private:
  void open_shard(const std::string& path, std::size_t number);

  PackedIndex index_;
  std::vector<RegularFile> files_;
  std::vector<std::int64_t> starts_;  // first picture of each file
  std::vector<std::int32_t> labels_;
};

class PackedLoader : public PictureLoader {
 public:
  explicit PackedLoader(std::shared_ptr<const PackedShards> shards) : shards_(std::move(shards)) {}
  void load(std::int64_t index, std::span<std::uint8_t> pixels) override {
    shards_->read(index, pixels);
  }

 private:
  std::shared_ptr<const PackedShards> shards_;
};

// The pictures of a folder that `rackmark-worker pack` made, in the order of the tree that it read.
// Throws as PackedShards.
PictureList list_packed(const std::string& root, const std::string& option = "input.path");

}  // namespace rackmark::worker

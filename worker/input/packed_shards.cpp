#include "worker/input/packed_shards.hpp"

#include <algorithm>
#include <stdexcept>

#include "worker/failure.hpp"
#include "worker/input/jpeg.hpp"

namespace rackmark::worker {

namespace {

constexpr std::int64_t kMaxIndexBytes = 64 * 1024 * 1024;

// What is wrong inside a file, as opposed to one that cannot be read.
struct ForeignFile : std::runtime_error {
  using std::runtime_error::runtime_error;
};

PackedIndex read_index(const std::string& path) {
  const RegularFile file(path);
  if (file.bytes() > kMaxIndexBytes) throw ForeignFile("is larger than 64 MiB");
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(file.bytes()));
  bytes.resize(file.read_at(0, bytes));
  try {
    return decode_index({bytes.begin(), bytes.end()});
  } catch (const std::runtime_error& problem) {
    throw ForeignFile(problem.what());
  }
}

// Runs `work` on root/name; what goes wrong becomes a failure that names the file.
template <class Work>
auto on_file(const std::string& option, const std::string& root, const std::string& name,
             Work work) try {
  return work(root + "/" + name);
} catch (const UnreadableFile& problem) {
  throw Failure(
      Reason::kInputUnavailable,
      option + " '" + root + "': " + name + " " + problem.what() +
          (name == kPackedIndexName ? "; a folder that rackmark-worker pack made is expected"
                                    : ""));
} catch (const ForeignFile& problem) {
  throw Failure(Reason::kInputBroken, option + " '" + root + "': " + name + " " + problem.what());
}

std::vector<std::uint8_t> read_whole(const RegularFile& file, std::int64_t offset,
                                     std::int64_t count) {
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(count));
  if (file.read_at(offset, bytes) != bytes.size()) throw ForeignFile("has become shorter");
  return bytes;
}

}  // namespace

PackedShards::PackedShards(const std::string& root, const std::string& option) {
  index_ = on_file(option, root, kPackedIndexName, read_index);
  labels_.reserve(static_cast<std::size_t>(index_.pictures));
  for (std::size_t number = 0; number < index_.shards.size(); ++number) {
    on_file(option, root, index_.shards[number].file,
            [&](const std::string& path) { open_shard(path, number); });
  }
}

void PackedShards::open_shard(const std::string& path, std::size_t number) {
  const PackedShard& shard = index_.shards[number];
  RegularFile file(path);
  if (file.bytes() != shard.bytes) {
    throw ForeignFile("has " + std::to_string(file.bytes()) + " bytes, the index says " +
                      std::to_string(shard.bytes));
  }
  const ShardHeader wanted = {.number = static_cast<std::uint32_t>(number),
                              .side = static_cast<std::uint32_t>(index_.side),
                              .classes = static_cast<std::uint32_t>(index_.classes.size()),
                              .pictures = static_cast<std::uint64_t>(shard.pictures)};
  const std::string problem = header_problem(read_whole(file, 0, kShardHeaderBytes), wanted);
  if (!problem.empty()) throw ForeignFile(problem);

  const auto label_bytes = shard.pictures * std::int64_t{sizeof(std::int32_t)};
  const auto labels = read_whole(file, shard.bytes - label_bytes, label_bytes);
  starts_.push_back(static_cast<std::int64_t>(labels_.size()));
  for (std::size_t i = 0; i < static_cast<std::size_t>(shard.pictures); ++i) {
    const std::int32_t label = decode_label(labels, i);
    if (label < 0 || static_cast<std::size_t>(label) >= index_.classes.size()) {
      throw ForeignFile("has label " + std::to_string(label) + " at picture " + std::to_string(i) +
                        ", allowed: 0 to " + std::to_string(index_.classes.size() - 1));
    }
    labels_.push_back(label);
  }
  files_.push_back(std::move(file));
}

void PackedShards::read(std::int64_t picture, std::span<std::uint8_t> pixels) const try {
  const auto after = std::upper_bound(starts_.begin(), starts_.end(), picture);
  const auto shard = static_cast<std::size_t>(after - starts_.begin()) - 1;
  const std::int64_t offset =
      kShardHeaderBytes + (picture - starts_[shard]) * packed_picture_bytes(index_.side);
  if (files_[shard].read_at(offset, pixels) != pixels.size()) {
    throw BrokenPicture("the shard has become shorter");
  }
} catch (const UnreadableFile& file) {
  throw BrokenPicture(std::string("the shard ") + file.what());
}

PictureList list_packed(const std::string& root, const std::string& option) {
  const auto shards = std::make_shared<const PackedShards>(root, option);
  PictureList list{
      .root = root, .classes = shards->index().classes, .pictures = {}, .shards = shards};
  list.pictures.reserve(shards->labels().size());
  for (const PackedShard& shard : shards->index().shards) {
    for (std::int64_t i = 0; i < shard.pictures; ++i) {
      list.pictures.push_back(
          {shard.file + ":" + std::to_string(i), shards->labels()[list.pictures.size()]});
    }
  }
  return list;
}

}  // namespace rackmark::worker

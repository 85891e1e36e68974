// Packed pictures: decoded ones in a few large files, so that a GPU need not wait for decoders. A
// folder with index.json and 00000.shard, 00001.shard, ...; numbers are little-endian.
//
//   bytes of a shard        what
//   0 to 7                  "RMPACKED"
//   8, 12, 16, 20           uint32: version (1), number of the shard, side, classes
//   24                      uint64: pictures
//   32 to 4095              zeros
//   4096                    pictures x side x side x 3 bytes, RGB interleaved, row by row
//   then                    pictures x int32: labels, each less than classes; the file ends here
//
// index.json is PackedIndex; sha256 is that of the whole shard, as sha256sum prints it.
#pragma once

#include <array>
#include <boost/describe.hpp>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace rackmark::worker {

inline constexpr const char* kPackedIndexName = "index.json";
inline constexpr std::int64_t kPackedVersion = 1, kShardHeaderBytes = 4096;
inline constexpr std::int64_t kMinPackedSide = 8, kMaxPackedSide = 2048;
inline constexpr std::int64_t kMaxShards = 512;  // all are open at the same time
inline constexpr std::int64_t kMaxPackedPictures = 20'000'000;
inline constexpr std::int64_t kMaxPackedClasses = 100'000;  // the spec's bound

struct PackedShard {
  std::string file;
  std::int64_t pictures = 0, bytes = 0;
  std::string sha256;
};
BOOST_DESCRIBE_STRUCT(PackedShard, (), (file, pictures, bytes, sha256))

struct PackedIndex {
  std::string format = "rackmark packed pictures";
  std::int64_t version = kPackedVersion, side = 0, pictures = 0;
  std::vector<std::string> classes;
  std::vector<PackedShard> shards;
};
BOOST_DESCRIBE_STRUCT(PackedIndex, (), (format, version, side, pictures, classes, shards))

struct ShardHeader {
  std::uint32_t number = 0, side = 0, classes = 0;
  std::uint64_t pictures = 0;
};

std::string shard_name(std::int64_t number);  // "00003.shard"
std::int64_t packed_picture_bytes(std::int64_t side);
std::int64_t shard_bytes(std::int64_t side, std::int64_t pictures);  // of the whole file

std::array<std::uint8_t, kShardHeaderBytes> encode_header(const ShardHeader& header);
// "" when the bytes are the header that is wanted, else why not: "is no shard of packed pictures".
std::string header_problem(std::span<const std::uint8_t> bytes, const ShardHeader& wanted);

std::vector<std::uint8_t> encode_labels(std::span<const std::int32_t> labels);
std::int32_t decode_label(std::span<const std::uint8_t> labels, std::size_t place);

std::string encode_index(const PackedIndex& index);
// Throws std::runtime_error saying what is wrong in the text of an index.json: not JSON, another
// format or version, members missing, out of range or at odds with each other.
PackedIndex decode_index(const std::string& text);

}  // namespace rackmark::worker

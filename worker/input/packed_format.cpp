#include "worker/input/packed_format.hpp"

#include <algorithm>
#include <cstdio>
#include <stdexcept>

#include "common/json/described.hpp"

namespace rackmark::worker {

namespace {

constexpr std::string_view kShardMagic = "RMPACKED";

template <class Unsigned>
void put_number(Unsigned value, std::uint8_t* at) {
  for (std::size_t i = 0; i < sizeof value; ++i) at[i] = static_cast<std::uint8_t>(value >> 8 * i);
}
template <class Unsigned>
Unsigned get_number(const std::uint8_t* at) {
  Unsigned value = 0;
  for (std::size_t i = 0; i < sizeof value; ++i) value |= Unsigned{at[i]} << 8 * i;
  return value;
}

void want(bool holds, const std::string& problem) {
  if (!holds) throw std::runtime_error(problem);
}

void want_range(const std::string& member, std::int64_t value, std::int64_t least,
                std::int64_t most) {
  want(value >= least && value <= most, member + " is " + std::to_string(value) + ", allowed: " +
                                            std::to_string(least) + " to " + std::to_string(most));
}

}  // namespace

std::string shard_name(std::int64_t number) {
  const std::string digits = std::to_string(number);
  return std::string(5 - std::min<std::size_t>(5, digits.size()), '0') + digits + ".shard";
}

std::int64_t packed_picture_bytes(std::int64_t side) { return side * side * 3; }

std::int64_t shard_bytes(std::int64_t side, std::int64_t pictures) {
  const auto each = packed_picture_bytes(side) + std::int64_t{sizeof(std::int32_t)};
  return kShardHeaderBytes + pictures * each;
}

std::array<std::uint8_t, kShardHeaderBytes> encode_header(const ShardHeader& header) {
  std::array<std::uint8_t, kShardHeaderBytes> bytes{};
  std::copy(kShardMagic.begin(), kShardMagic.end(), bytes.begin());
  put_number(static_cast<std::uint32_t>(kPackedVersion), &bytes[8]);
  put_number(header.number, &bytes[12]);
  put_number(header.side, &bytes[16]);
  put_number(header.classes, &bytes[20]);
  put_number(header.pictures, &bytes[24]);
  return bytes;
}

std::string header_problem(std::span<const std::uint8_t> bytes, const ShardHeader& wanted) {
  const auto expected = encode_header(wanted);
  if (bytes.size() < expected.size() ||
      !std::equal(kShardMagic.begin(), kShardMagic.end(), bytes.begin())) {
    return "is no shard of packed pictures";
  }
  if (const auto version = get_number<std::uint32_t>(&bytes[8]); version != kPackedVersion) {
    return "has version " + std::to_string(version) + ", this program reads " +
           std::to_string(kPackedVersion);
  }
  if (!std::equal(expected.begin(), expected.end(), bytes.begin())) {
    return "is not the shard that the index names: its header says number " +
           std::to_string(get_number<std::uint32_t>(&bytes[12])) + ", side " +
           std::to_string(get_number<std::uint32_t>(&bytes[16])) + ", " +
           std::to_string(get_number<std::uint32_t>(&bytes[20])) + " classes, " +
           std::to_string(get_number<std::uint64_t>(&bytes[24])) + " pictures";
  }
  return "";
}

std::vector<std::uint8_t> encode_labels(std::span<const std::int32_t> labels) {
  std::vector<std::uint8_t> bytes(labels.size() * sizeof(std::int32_t));
  for (std::size_t i = 0; i < labels.size(); ++i) {
    put_number(static_cast<std::uint32_t>(labels[i]), &bytes[i * sizeof(std::int32_t)]);
  }
  return bytes;
}

std::int32_t decode_label(std::span<const std::uint8_t> labels, std::size_t place) {
  return static_cast<std::int32_t>(
      get_number<std::uint32_t>(&labels[place * sizeof(std::int32_t)]));
}

std::string encode_index(const PackedIndex& index) {
  // Folder names need not be UTF-8.
  return json::encode(index).dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

PackedIndex decode_index(const std::string& text) {
  const auto parsed = json::parse(text);
  if (!parsed) throw std::runtime_error(parsed.error().message);
  // Before the rest: a later version may have other members.
  const auto format =
      parsed->is_object() ? parsed->value("format", nlohmann::json()) : nlohmann::json();
  want(format == PackedIndex().format, "is no index of packed pictures");
  const auto version = parsed->value("version", nlohmann::json());
  want(version == kPackedVersion,
       "has version " + version.dump() + ", this program reads " + std::to_string(kPackedVersion));
  auto decoded = json::decode<PackedIndex>(*parsed, json::Unknown::kRefuse);
  if (!decoded) throw std::runtime_error(decoded.error().message);
  const PackedIndex& index = *decoded;
  want_range("side", index.side, kMinPackedSide, kMaxPackedSide);
  want_range("pictures", index.pictures, 1, kMaxPackedPictures);
  want_range("the number of classes", static_cast<std::int64_t>(index.classes.size()), 1,
             kMaxPackedClasses);
  want_range("the number of shards", static_cast<std::int64_t>(index.shards.size()), 1, kMaxShards);
  std::int64_t pictures = 0;
  for (std::size_t i = 0; i < index.shards.size(); ++i) {
    const PackedShard& shard = index.shards[i];
    const std::string name = shard_name(static_cast<std::int64_t>(i)),
                      member = "shards[" + std::to_string(i) + "]";
    want(shard.file == name, member + ".file is '" + shard.file + "', allowed: " + name);
    want_range(member + ".pictures", shard.pictures, 1, kMaxPackedPictures);
    const std::int64_t bytes = shard_bytes(index.side, shard.pictures);
    want_range(member + ".bytes", shard.bytes, bytes, bytes);
    pictures += shard.pictures;
  }
  want_range("pictures", index.pictures, pictures, pictures);
  return std::move(*decoded);
}

}  // namespace rackmark::worker

#include "worker/input/picture_loader.hpp"

#include <algorithm>
#include <utility>

#include "worker/input/crop_resampler.hpp"
#include "worker/input/jpeg.hpp"
#include "worker/input/plain_jpeg.hpp"
#include "worker/input/regular_file.hpp"

namespace rackmark::worker {

namespace {

constexpr std::int64_t kMaxFileBytes = 64 * 1024 * 1024;

std::vector<std::uint8_t> read_picture_file(const std::string& path) try {
  const RegularFile file(path);
  if (file.bytes() > kMaxFileBytes) throw BrokenPicture("is larger than 64 MiB");
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(file.bytes()));
  bytes.resize(file.read_at(0, bytes));  // it may have become shorter
  return bytes;
} catch (const UnreadableFile& file) {
  throw BrokenPicture(file.what());
}

}  // namespace

void FileLoader::load(std::int64_t index, std::span<std::uint8_t> pixels) {
  const ListedPicture& picture = list_.pictures[static_cast<std::size_t>(index)];
  const auto file = read_picture_file(list_.root + "/" + picture.path);
  if (decoder_ && decoded_elsewhere(file, pixels)) return;
  const auto decoded = decode_jpeg(file, shortest_, side_);
  std::copy(decoded.begin(), decoded.end(), pixels.begin());
  const bool counts = decoder_ && !left_[static_cast<std::size_t>(index)].exchange(true);
  if (counts) ++left_to_cpu_;  // and is not broken
}

bool FileLoader::decoded_elsewhere(std::span<const std::uint8_t> file,
                                   std::span<std::uint8_t> pixels) {
  const auto plain = plain_jpeg(file);
  return plain && decoder_->decode(*plain, [&](const WholePicture& picture) {
    CropResampler resampler(picture.width, picture.height, shortest_, side_);
    const auto row_bytes = static_cast<std::size_t>(3 * picture.width);
    for (std::int64_t row = resampler.first_row(); row < resampler.end_row(); ++row) {
      resampler.push_row(picture.rgb.subspan(static_cast<std::size_t>(row) * row_bytes, row_bytes));
    }
    const auto resized = resampler.finish();
    std::copy(resized.begin(), resized.end(), pixels.begin());
  });
}

CachedLoader::CachedLoader(std::unique_ptr<PictureLoader> inner, std::int64_t pictures,
                           std::int64_t max_bytes)
    : inner_(std::move(inner)), bytes_left_(max_bytes), kept_(static_cast<std::size_t>(pictures)) {}

void CachedLoader::load(std::int64_t index, std::span<std::uint8_t> pixels) {
  auto& place = kept_[static_cast<std::size_t>(index)];
  if (const auto kept = place.load()) {
    std::copy(kept->begin(), kept->end(), pixels.begin());
    return;
  }
  inner_->load(index, pixels);
  const auto bytes = static_cast<std::int64_t>(pixels.size());
  if (bytes_left_.fetch_sub(bytes) >= bytes) {
    place.store(std::make_shared<const Pixels>(pixels.begin(), pixels.end()));
  } else {
    bytes_left_.fetch_add(bytes);
  }
}

}  // namespace rackmark::worker

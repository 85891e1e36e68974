#include "worker/infer/picture_stream.hpp"

#include <cmath>
#include <numbers>
#include <string>

#include "worker/net/net.hpp"
#include "worker/train/rank_setup.hpp"

namespace rackmark::worker {

namespace {

constexpr int kWaves = 8, kNumbersPerWave = 6;  // cycles across, cycles down, phase, three colours
constexpr float kMostCycles = 12, kNoise = 0.1F;

void append(auto& values, const auto& more) {
  values.insert(values.end(), more.begin(), more.end());
}

}  // namespace

PictureStream::PictureStream(const JobSpec& spec, const std::optional<PictureList>& pictures,
                             bool raw)
    : seed_(spec.seed), size_(spec.image_size) {
  if (!pictures) return;
  JobSpec one = spec;
  one.batch_size = 1;
  one.input.cache = false;
  source_ = open_source(one, pictures, {.raw = raw});
}

InputBatch PictureStream::take(std::int64_t count) {
  InputBatch taken;
  for (std::int64_t i = 0; i < count; ++i) {
    if (!source_) {
      append(taken.images, test_card(seed_, drawn_++, size_));
      continue;
    }
    const InputBatch& picture = source_->next();
    append(taken.images, picture.images);
    append(taken.pixels, picture.pixels);
    append(taken.windows, picture.windows);
    taken.side = picture.side;
  }
  return taken;
}

std::vector<float> PictureStream::take_values(std::int64_t count) {
  InputBatch taken = take(count);
  if (taken.side == 0) return std::move(taken.images);
  std::vector<float> values(static_cast<std::size_t>(count * 3 * size_ * size_));
  normalise(taken.raw(), static_cast<int>(size_), values);
  return values;
}

std::vector<float> test_card(std::int64_t seed, std::int64_t number, std::int64_t size) {
  const std::string name = std::to_string(seed) + ":card:" + std::to_string(number);
  const auto numbers = uniform(name, kWaves * kNumbersPerWave);
  auto picture = uniform(name + ":noise", 3 * size * size);
  for (float& value : picture) value *= kNoise;
  for (int wave = 0; wave < kWaves; ++wave) {
    const float* n = &numbers[static_cast<std::size_t>(wave) * kNumbersPerWave];
    const float across = kMostCycles * n[0] * std::abs(n[0]);  // long waves are more frequent
    const float down = kMostCycles * n[1] * std::abs(n[1]);
    const float turn = 2 * std::numbers::pi_v<float> / static_cast<float>(size);
    std::size_t at = 0;
    for (int colour = 0; colour < 3; ++colour) {
      for (std::int64_t y = 0; y < size; ++y) {
        for (std::int64_t x = 0; x < size; ++x) {
          const float angle =
              turn * (across * static_cast<float>(x) + down * static_cast<float>(y));
          picture[at++] += n[3 + colour] * std::cos(angle + std::numbers::pi_v<float> * n[2]);
        }
      }
    }
  }
  return picture;
}

}  // namespace rackmark::worker

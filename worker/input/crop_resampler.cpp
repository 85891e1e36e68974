#include "worker/input/crop_resampler.hpp"

#include <algorithm>
#include <cmath>

namespace rackmark::worker {

CropResampler::CropResampler(std::int64_t width, std::int64_t height, std::int64_t shortest,
                             std::int64_t side)
    : side_(side),
      columns_(make_axis(width, std::min(width, height), shortest, side)),
      rows_(make_axis(height, std::min(width, height), shortest, side)) {
  kept_.reserve(static_cast<std::size_t>((rows_.end - rows_.first) * side * 3));
}

CropResampler::Axis CropResampler::make_axis(std::int64_t length, std::int64_t least,
                                             std::int64_t shortest, std::int64_t side) {
  // The longer side is rounded to whole pixels, as an actual resize would.
  const double resized = std::round(static_cast<double>(length) * static_cast<double>(shortest) /
                                    static_cast<double>(least));
  const double scale = static_cast<double>(length) / resized;
  const double reach = std::max(1.0, scale);
  const double offset = std::floor((resized - static_cast<double>(side)) / 2);
  Axis axis;
  axis.first = length;
  for (std::int64_t out = 0; out < side; ++out) {
    const double centre = (offset + static_cast<double>(out) + 0.5) * scale;
    const std::int64_t from =
        std::max<std::int64_t>(0, static_cast<std::int64_t>(std::floor(centre - reach + 0.5)));
    const std::int64_t to =
        std::min(length, static_cast<std::int64_t>(std::floor(centre + reach + 0.5)));
    std::vector<float> weights;
    double sum = 0;
    for (std::int64_t source = from; source < to; ++source) {
      const double distance = std::abs((static_cast<double>(source) + 0.5 - centre) / reach);
      const double weight = std::max(0.0, 1.0 - distance);
      weights.push_back(static_cast<float>(weight));
      sum += weight;
    }
    for (float& weight : weights) weight = static_cast<float>(weight / sum);
    axis.first = std::min(axis.first, from);
    axis.end = std::max(axis.end, to);
    axis.starts.push_back(from);
    axis.weights.push_back(std::move(weights));
  }
  return axis;
}

void CropResampler::push_row(std::span<const std::uint8_t> rgb) {
  for (std::size_t out = 0; out < static_cast<std::size_t>(side_); ++out) {
    const std::uint8_t* pixel = rgb.data() + columns_.starts[out] * 3;
    float red = 0, green = 0, blue = 0;
    for (const float weight : columns_.weights[out]) {
      red += weight * static_cast<float>(pixel[0]);
      green += weight * static_cast<float>(pixel[1]);
      blue += weight * static_cast<float>(pixel[2]);
      pixel += 3;
    }
    kept_.insert(kept_.end(), {red, green, blue});
  }
}

std::vector<std::uint8_t> CropResampler::finish() const {
  const std::size_t stride = static_cast<std::size_t>(side_) * 3;
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(side_) * stride);
  std::vector<float> row(stride);
  for (std::size_t out = 0; out < static_cast<std::size_t>(side_); ++out) {
    std::fill(row.begin(), row.end(), 0.0F);
    const float* source =
        kept_.data() + static_cast<std::size_t>(rows_.starts[out] - rows_.first) * stride;
    for (const float weight : rows_.weights[out]) {
      for (std::size_t i = 0; i < stride; ++i) row[i] += weight * source[i];
      source += stride;
    }
    for (std::size_t i = 0; i < stride; ++i) {
      pixels[out * stride + i] = static_cast<std::uint8_t>(std::clamp(row[i] + 0.5F, 0.0F, 255.0F));
    }
  }
  return pixels;
}

}  // namespace rackmark::worker

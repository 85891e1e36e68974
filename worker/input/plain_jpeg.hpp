// What of a JPEG file may be given to a decoder that is not ours.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace rackmark::worker {

inline constexpr int kMaxScans = 500;  // a progressive file with more is made to keep decoders busy

// The file with nothing but what decoding needs: no metadata, nothing behind its end. Only of whole
// files of the usual sort: baseline or progressive, 8 bits, gray or YCbCr, at most kMaxScans scans.
// Nothing for any other, and for what is no JPEG. Reads the file's markers (ITU-T T.81, annex B),
// no picture data.
std::optional<std::vector<std::uint8_t>> plain_jpeg(std::span<const std::uint8_t> file);

}  // namespace rackmark::worker

// Which files may be given to a decoder that is not ours, and what of them.
#include "worker/input/plain_jpeg.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/worker/input/jpeg_writer.hpp"
#include "worker/input/jpeg.hpp"

namespace rackmark::worker {
namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes picture(int channels = 3, bool progressive = false) {
  const auto paint = [](int x, int y, int c) { return static_cast<std::uint8_t>(x * 3 + y + c); };
  return testing::encode_jpeg(60, 40, channels, paint, progressive);
}

Bytes segment(std::uint8_t marker, const Bytes& content) {
  const std::size_t length = content.size() + 2;
  Bytes bytes{0xFF, marker, static_cast<std::uint8_t>(length >> 8),
              static_cast<std::uint8_t>(length)};
  bytes.insert(bytes.end(), content.begin(), content.end());
  return bytes;
}

Bytes with(Bytes file, const Bytes& more) {  // behind the start
  file.insert(file.begin() + 2, more.begin(), more.end());
  return file;
}

Bytes adobe(std::uint8_t transform) {
  return segment(0xEE, {'A', 'd', 'o', 'b', 'e', 0, 100, 0, 0, 0, 0, transform});
}

std::size_t position_of(const Bytes& file, std::uint8_t marker) {
  const Bytes wanted{0xFF, marker};
  return static_cast<std::size_t>(
      std::search(file.begin(), file.end(), wanted.begin(), wanted.end()) - file.begin());
}

TEST(PlainJpeg, KeepsWhatDecodingNeeds) {
  for (const int channels : {1, 3}) {
    for (const bool progressive : {false, true}) {
      const Bytes file = picture(channels, progressive);
      EXPECT_EQ(plain_jpeg(file), file);
      Bytes more = with(file, segment(0xE1, Bytes(3000, 'x')));
      more = with(more, segment(0xFE, {'h', 'i'}));
      more.insert(more.end(), 40, 0);
      EXPECT_EQ(plain_jpeg(more), file);
    }
  }
  const Bytes said = with(picture(), adobe(1));
  ASSERT_TRUE(plain_jpeg(said));
  EXPECT_EQ(decode_jpeg(*plain_jpeg(said), 32, 32), decode_jpeg(said, 32, 32));
}

TEST(PlainJpeg, LeavesWhatIsUnusual) {
  EXPECT_FALSE(plain_jpeg(picture(4)));                 // CMYK
  EXPECT_FALSE(plain_jpeg(with(picture(), adobe(0))));  // RGB, by Photoshop
  Bytes rgb = picture();
  const std::size_t frame = position_of(rgb, 0xC0);
  for (const auto& [i, name] : {std::pair{0, 'R'}, {1, 'G'}, {2, 'B'}}) {
    rgb[frame + 10 + 3 * static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(name);
  }
  EXPECT_FALSE(plain_jpeg(rgb));
  Bytes deep = picture();
  deep[frame + 4] = 12;  // bits
  EXPECT_FALSE(plain_jpeg(deep));
  Bytes arithmetic = picture();
  arithmetic[frame + 1] = 0xC9;
  EXPECT_FALSE(plain_jpeg(arithmetic));
  EXPECT_FALSE(plain_jpeg(Bytes{}));
  EXPECT_FALSE(plain_jpeg(Bytes(5000, 'x')));
}

TEST(PlainJpeg, LeavesWhatKeepsDecodersBusy) {
  Bytes file = picture(3, true);
  const std::size_t scan = position_of(file, 0xDA), end = file.size() - 2;
  const Bytes again(file.begin() + static_cast<std::ptrdiff_t>(scan),
                    file.begin() + static_cast<std::ptrdiff_t>(scan) + 10);
  const auto with_scans = [&](int scans) {
    Bytes more(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(end));
    for (int i = 0; i < scans; ++i) {
      const Bytes header = segment(0xDA, Bytes(again.begin() + 4, again.end()));
      more.insert(more.end(), header.begin(), header.end());
    }
    more.insert(more.end(), {0xFF, 0xD9});
    return more;
  };
  EXPECT_TRUE(plain_jpeg(with_scans(400)));
  EXPECT_FALSE(plain_jpeg(with_scans(kMaxScans)));
}

// Wherever it is cut, and whatever is in it, nothing is read that is not there.
TEST(PlainJpeg, LeavesWhatIsCutOrMadeUp) {
  for (const bool progressive : {false, true}) {
    const Bytes file = picture(3, progressive);
    for (std::size_t size = 0; size < file.size(); ++size) {
      EXPECT_FALSE(
          plain_jpeg(Bytes(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size))))
          << size;
    }
    std::mt19937 engine(7);
    for (int round = 0; round < 3000; ++round) {
      Bytes changed = file;
      for (int i = 0; i < 4; ++i) changed[engine() % changed.size()] = engine() % 256;
      const auto plain = plain_jpeg(changed);
      EXPECT_TRUE(!plain || plain->size() <= changed.size());
    }
  }
}

}  // namespace
}  // namespace rackmark::worker

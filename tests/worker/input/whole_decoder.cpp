#include "tests/worker/input/whole_decoder.hpp"

#include <cstdio>
#include <vector>

// After <cstdio>: it needs FILE.
#include <jpeglib.h>

namespace rackmark::worker::testing {
namespace {

struct Refused {};

struct Reader {
  Reader() {
    info.err = jpeg_std_error(&errors);
    errors.error_exit = [](j_common_ptr) { throw Refused{}; };
    errors.emit_message = [](j_common_ptr, int) {};
    jpeg_create_decompress(&info);
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  ~Reader() { jpeg_destroy_decompress(&info); }
  jpeg_error_mgr errors{};
  jpeg_decompress_struct info{};
};

std::vector<std::uint8_t> read_whole(Reader& reader, std::span<const std::uint8_t> file) {
  jpeg_decompress_struct& info = reader.info;
  jpeg_mem_src(&info, file.data(), file.size());
  jpeg_read_header(&info, TRUE);
  if (info.num_components == 4) throw Refused{};
  info.out_color_space = JCS_RGB;
  jpeg_start_decompress(&info);
  const std::size_t row_bytes = std::size_t{3} * info.output_width;
  std::vector<std::uint8_t> rgb(row_bytes * info.output_height);
  while (info.output_scanline < info.output_height) {
    JSAMPROW row = rgb.data() + row_bytes * info.output_scanline;
    jpeg_read_scanlines(&info, &row, 1);
  }
  return rgb;
}

}  // namespace

bool WholeDecoder::decode(std::span<const std::uint8_t> file, const Use& use) {
  Reader reader;
  std::vector<std::uint8_t> rgb;
  try {
    rgb = read_whole(reader, file);
  } catch (const Refused&) {
    return false;
  }
  ++decoded_;
  use({static_cast<std::int64_t>(reader.info.output_width),
       static_cast<std::int64_t>(reader.info.output_height), rgb});
  return true;
}

}  // namespace rackmark::worker::testing

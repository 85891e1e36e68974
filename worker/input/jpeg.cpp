#include "worker/input/jpeg.hpp"

#include <jerror.h>
#include <jpeglib.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstdio>  // jpeglib.h needs FILE
#include <memory>
#include <optional>

#include "worker/input/crop_resampler.hpp"
#include "worker/input/plain_jpeg.hpp"

namespace rackmark::worker {

namespace {

// libjpeg reports errors by longjmp. Every function that sets the jump holds only trivial locals,
// so that no destructor is jumped over; C++ objects live in the callers.
struct ErrorHandler {
  jpeg_error_mgr base{};
  std::jmp_buf jump{};
  std::array<char, JMSG_LENGTH_MAX> text{};
};

void on_error(j_common_ptr info) {
  auto* handler = reinterpret_cast<ErrorHandler*>(info->err);
  handler->base.format_message(info, handler->text.data());
  std::longjmp(handler->jump, 1);
}

// libjpeg fills up what is missing of a cut file with gray and calls that a warning.
void on_message(j_common_ptr info, int level) {
  if (level >= 0) return;
  const int code = info->err->msg_code;
  if (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER) on_error(info);
  ++info->err->num_warnings;
}

void on_progress(j_common_ptr info) {
  if (!info->is_decompressor) return;
  const auto* decoder = reinterpret_cast<j_decompress_ptr>(info);
  if (decoder->input_scan_number <= kMaxScans) return;
  auto* handler = reinterpret_cast<ErrorHandler*>(info->err);
  std::snprintf(handler->text.data(), handler->text.size(), "more than %d scans", kMaxScans);
  std::longjmp(handler->jump, 1);
}

class JpegReader {
 public:
  JpegReader() {
    decoder_.err = jpeg_std_error(&handler_.base);
    handler_.base.error_exit = on_error;
    handler_.base.emit_message = on_message;
    progress_.progress_monitor = on_progress;
    if (setjmp(handler_.jump) == 0) {
      jpeg_create_decompress(&decoder_);
      decoder_.progress = &progress_;
      created_ = true;
    }
  }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;
  ~JpegReader() {
    if (created_) jpeg_destroy_decompress(&decoder_);
  }

  bool read_header(const std::uint8_t* bytes, std::size_t count) {
    if (!created_ || setjmp(handler_.jump) != 0) return false;
    jpeg_mem_src(&decoder_, bytes, count);
    jpeg_read_header(&decoder_, TRUE);
    return true;
  }

  // Chooses the smallest of the DCT's scales that still leaves `shortest` pixels.
  bool start(std::int64_t shortest) {
    if (setjmp(handler_.jump) != 0) return false;
    const std::int64_t side = std::min(decoder_.image_width, decoder_.image_height);
    decoder_.scale_denom = 8;
    decoder_.scale_num = 8;
    for (const unsigned eighths : {4U, 2U, 1U}) {
      if (side * eighths / 8 >= shortest) decoder_.scale_num = eighths;
    }
    const bool four =
        decoder_.jpeg_color_space == JCS_CMYK || decoder_.jpeg_color_space == JCS_YCCK;
    decoder_.out_color_space = four ? JCS_CMYK : JCS_RGB;
    jpeg_start_decompress(&decoder_);
    return true;
  }

  bool read_row(std::uint8_t* row) {
    if (setjmp(handler_.jump) != 0) return false;
    JSAMPROW rows[] = {row};
    return jpeg_read_scanlines(&decoder_, rows, 1) == 1;
  }

  const jpeg_decompress_struct& decoder() const { return decoder_; }
  std::string error() const {
    return handler_.text[0] == '\0' ? "cannot be decoded" : handler_.text.data();
  }

 private:
  ErrorHandler handler_;
  jpeg_progress_mgr progress_{};
  jpeg_decompress_struct decoder_{};
  bool created_ = false;
};

// Photoshop stores CMYK inverted, and so does everybody after it; such files carry its marker.
void cmyk_to_rgb(const std::vector<std::uint8_t>& cmyk, bool inverted,
                 std::vector<std::uint8_t>& rgb) {
  for (std::size_t pixel = 0; pixel < rgb.size() / 3; ++pixel) {
    const std::uint8_t* in = cmyk.data() + pixel * 4;
    const unsigned black = inverted ? in[3] : 255U - in[3];
    for (std::size_t c = 0; c < 3; ++c) {
      const unsigned light = inverted ? in[c] : 255U - in[c];
      rgb[pixel * 3 + c] = static_cast<std::uint8_t>((light * black + 127) / 255);
    }
  }
}

}  // namespace

std::vector<std::uint8_t> decode_jpeg(std::span<const std::uint8_t> bytes, std::int64_t shortest,
                                      std::int64_t side) {
  if (bytes.empty()) throw BrokenPicture("is empty");
  const auto reader = std::make_unique<JpegReader>();
  if (!reader->read_header(bytes.data(), bytes.size())) throw BrokenPicture(reader->error());
  const jpeg_decompress_struct& decoder = reader->decoder();
  if (std::int64_t{decoder.image_width} * decoder.image_height > kMaxPicturePixels) {
    throw BrokenPicture("has " + std::to_string(decoder.image_width) + " x " +
                        std::to_string(decoder.image_height) + " pixels, more than 100 million");
  }
  if (!reader->start(shortest)) throw BrokenPicture(reader->error());

  const std::int64_t width = decoder.output_width, height = decoder.output_height;
  const bool four = decoder.out_color_space == JCS_CMYK;
  CropResampler resampler(width, height, shortest, side);
  std::vector<std::uint8_t> row(static_cast<std::size_t>(width) * (four ? 4 : 3));
  std::vector<std::uint8_t> rgb(static_cast<std::size_t>(width) * 3);
  // Rows after the window are read, too: a cut file is broken even where the middle is whole.
  for (std::int64_t y = 0; y < height; ++y) {
    if (!reader->read_row(row.data())) throw BrokenPicture(reader->error());
    if (y < resampler.first_row() || y >= resampler.end_row()) continue;
    if (four) cmyk_to_rgb(row, decoder.saw_Adobe_marker != 0, rgb);
    resampler.push_row(four ? rgb : row);
  }
  return resampler.finish();
}

std::string libjpeg_version() {
#define RACKMARK_TEXT_OF(x) #x
#define RACKMARK_TEXT(x) RACKMARK_TEXT_OF(x)
  return RACKMARK_TEXT(LIBJPEG_TURBO_VERSION);
#undef RACKMARK_TEXT
#undef RACKMARK_TEXT_OF
}

}  // namespace rackmark::worker

// A decoder of whole files for tests, in the place of one that is a GPU's: libjpeg, as lenient as
// it is. Refuses CMYK.
#pragma once

#include <atomic>
#include <cstdint>

#include "worker/net/file_decoder.hpp"

namespace rackmark::worker::testing {

class WholeDecoder : public FileDecoder {
 public:
  std::string library() const override { return "whole_decoder"; }
  std::string version() const override { return "1"; }
  bool decode(std::span<const std::uint8_t> file, const Use& use) override;
  std::int64_t decoded() const { return decoded_; }

 private:
  std::atomic<std::int64_t> decoded_{0};
};

}  // namespace rackmark::worker::testing

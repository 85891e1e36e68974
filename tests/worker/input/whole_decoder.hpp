// A decoder of whole files for tests, in the place of one that is a GPU's: libjpeg, which leaves
// CMYK to the CPU, and what is broken.
#pragma once

#include <atomic>
#include <cstdint>

#include "worker/net/file_decoder.hpp"

namespace rackmark::worker::testing {

class WholeDecoder : public FileDecoder {
 public:
  std::string name() const override { return "libjpeg of a test"; }
  bool decode(std::span<const std::uint8_t> file, const Use& use) override;
  std::int64_t decoded() const { return decoded_; }

 private:
  std::atomic<std::int64_t> decoded_{0};
};

}  // namespace rackmark::worker::testing

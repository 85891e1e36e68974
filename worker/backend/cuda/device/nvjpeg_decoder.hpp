// Pictures decoded by the GPU: nvJPEG, which is looked for when it is wanted. Neither its header
// nor its library is needed to build this.
#pragma once

#include <memory>

#include "worker/net/file_decoder.hpp"

namespace rackmark::worker::cuda {

// On the first GPU that this process may use. Every thread that decodes has a stream and memory for
// the largest picture that it has met, on the device and pinned on the host. CMYK and whatever
// nvJPEG refuses are left to the CPU, as are pictures of more than 16 megapixels, for which threads
// together would take too much, and what there is no memory for beside a plan. nvJPEG 12.1 or
// newer: files that break the specification are errors there, and colours are upsampled as libjpeg
// does. Throws std::runtime_error naming what was looked for.
std::shared_ptr<FileDecoder> open_nvjpeg();

}  // namespace rackmark::worker::cuda

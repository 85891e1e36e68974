// What convolutions of ours do with a result on its way to memory.
#pragma once

namespace rackmark::worker::onednn {

// Plus bias, plus (`sum`) what is there already, then ReLU.
struct ConvolutionEnd {
  const float* bias;  // of the first block of channels, padded as the convolution says; null: none
  bool sum, relu;
};

}  // namespace rackmark::worker::onednn

// Augment stage: which part of a picture a network sees. It only decides; whoever normalises cuts
// (worker/net/pictures.hpp), on the host or on a GPU.
#pragma once

#include <cstdint>

#include "worker/net/pictures.hpp"

namespace rackmark::worker {

struct Augment {
  bool crop = false;  // a random window instead of the centre
  bool flip = false;  // half of the pictures are mirrored
};

// Of picture `index` of the list in that epoch: a window of size x size inside side x side (size <=
// side), every place equally likely with crop. Made from the arguments alone, not from the order in
// which threads ask: two runs see the same.
PictureWindow choose_window(const Augment& augment, std::int64_t side, std::int64_t size,
                            std::int64_t seed, std::int64_t epoch, std::int64_t index);

}  // namespace rackmark::worker

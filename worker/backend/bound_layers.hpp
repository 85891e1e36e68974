// Which layers of a net its convolution-only bound counts (ceilings.hpp), for every backend alike.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "worker/backend/ceilings.hpp"
#include "worker/net/net.hpp"

namespace rackmark::worker {

// A distinct layer, and how often it occurs.
struct BoundLayer {
  std::string shape;  // BoundRow::shape
  int node = -1;      // the first of its kind: a Conv2d or a Linear
  std::int64_t count = 0;
  double flop_per_image = 0;  // of one execution; a multiply-add is 2
  bool reads_input = false;   // wants no data gradient
};
// `training` false: those before the main head.
std::vector<BoundLayer> bound_layers(const Net& net, bool training);

// Rounds of times, as a bound.
class BoundTimes {
 public:
  // `row` without times. Rows are numbered in this order.
  void add(BoundRow row) { items_.push_back({std::move(row), {}}); }
  void put(std::size_t row, double ms) { items_[row].ms.push_back(ms); }
  ConvolutionBound result() const;

 private:
  struct Item {
    BoundRow row;
    std::vector<double> ms;
  };
  std::vector<Item> items_;
};

}  // namespace rackmark::worker

// What a device can do at most, as a backend measures it: single rates (Ceiling), and the time that
// the convolutions of a net need alone (ConvolutionBound).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace rackmark::worker {

// One measured rate. Nothing was measured where `best` is null: `why_not` says why.
struct Ceiling {
  std::string kind;       // "matrix", "convolution", "memory", "cache"
  std::string what;       // "1024 x 1024 x 1024", "copy"
  std::string precision;  // "fp32", "bf16", "int8"; "" of memory
  std::string unit;       // "GFLOP/s" (a multiply-add is 2), "GOP/s" of int8, "GB/s" (1e9 bytes)
  std::optional<double> best, median;  // of `runs`, in `unit`
  std::optional<double> spread;        // (best - worst) / median, a fraction
  std::int64_t runs = 0;
  std::string implementation;  // name of the kernel
  std::string why_not;
};

// One distinct convolution (or linear layer) of a net in one pass, at the batch of the bound.
struct BoundRow {
  std::string shape;  // "64x56x56 -> 64 3x3/1", one image
  std::string pass;   // forward, backward_data, backward_weights
  std::int64_t count = 1;
  double ms = 0, best_ms = 0;  // median and least of all rounds, of one execution
  double gflop = 0;            // of one execution
  std::string implementation;
};

// The sum over all convolution nodes, with multiplicity, of the fastest direct implementation in
// blocked layout, without reorders; no data gradient for layers fed by the input. Linear layers
// count where they hold most of the parameters before the main head (AlexNet).
struct ConvolutionBound {
  double ms = 0, best_ms = 0;  // of one step: sums of medians and of least times
  std::int64_t rounds = 0;
  std::vector<BoundRow> rows;  // largest count x ms first
};

// Measures the bound in rounds, so that rounds can alternate with the steps that are compared with
// it. Owns its memory. One thread.
class BoundMeter {
 public:
  virtual ~BoundMeter() = default;
  virtual void round() = 0;                     // times every primitive once
  virtual ConvolutionBound result() const = 0;  // of the rounds so far, at least one
};

}  // namespace rackmark::worker

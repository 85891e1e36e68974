// `--output tf`: the lines of tf_cnn_benchmarks, for tools that read them. Written by rank 0 only.
#pragma once

#include <cstdint>
#include <cstdio>
#include <vector>

#include "common/domain/spec.hpp"

namespace rackmark::worker {

class TfOutput {
 public:
  // Does not own `out`.
  TfOutput(std::FILE* out, const JobSpec& spec, std::int64_t ranks, std::int64_t dataset_pictures);

  void header();
  void warming_up();
  void done_warm_up();
  // Prints at step 1 and every 10 steps; statistics are over all measured steps so far.
  void step(double step_s, double loss);
  // The one "total images/sec" line.
  void total(double images_per_second);

 private:
  double global_batch() const;
  void line(const char* name, const char* value);

  std::FILE* out_;
  const JobSpec spec_;
  const std::int64_t ranks_, dataset_pictures_;
  std::vector<double> step_seconds_;
};

}  // namespace rackmark::worker

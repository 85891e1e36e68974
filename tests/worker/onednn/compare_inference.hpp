// Runs the same net in inference on the plain backend and on oneDNN, and compares the logits.
#pragma once

#include "tests/worker/compare_inference.hpp"
#include "tests/worker/onednn/compare.hpp"

namespace rackmark::worker::test {

inline std::unique_ptr<InferPlan> fast_plan(const Net& net, InferOptions options) {
  options.threads = 2;
  return make_onednn_backend()->compile_inference(net, options, make_values(net));
}

inline void expect_same(const Net& net, int batch, const std::string& fusion = "",
                        double tolerance = 2e-5, const char* exact = "fp64", int runs = 2,
                        const char* precision = "fp32") {
  SCOPED_TRACE(net.model() + " " + precision + " batch " + std::to_string(batch) + " fusion '" +
               fusion + "'");
  InferOptions options;
  options.precision = precision;
  options.batch = batch;
  options.fusion = fusion;
  const auto plan = fast_plan(net, options);
  for (int seed = 0; seed < runs; ++seed) {  // twice: nothing of the run before may be left
    const auto images = make_images(net, batch, seed);
    plan->run({.images = images});
    EXPECT_LT(relative_distance(plan->logits(), exact_logits(net, batch, images, exact)),
              tolerance);
  }
}

}  // namespace rackmark::worker::test

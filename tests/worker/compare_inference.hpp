// The same net in inference on the plain backend in double.
#pragma once

#include "tests/worker/compare_training.hpp"

namespace rackmark::worker::test {

// Running statistics unlike their initial 0 and 1, so that folding them matters.
inline TrainedValues make_values(const Net& net) {
  TrainedValues values;
  for (const Parameter& p : net.parameters()) values.parameters.push_back(initial_value(p, 1));
  for (const RunningStatistic& s : net.running_statistics()) {
    auto statistic = uniform("statistic:" + s.name, s.channels);
    const bool variance = s.name.ends_with(".running_var");
    for (float& v : statistic) v = variance ? 1.0F + 0.5F * v : 0.3F * v;
    values.running.push_back(std::move(statistic));
  }
  return values;
}

inline std::vector<float> make_images(const Net& net, int batch, int seed) {
  return uniform("images:" + std::to_string(seed), batch * net.nodes()[0].shape.elements());
}

inline std::vector<double> exact_logits(const Net& net, int batch, const std::vector<float>& images,
                                        const char* precision = "fp64") {
  InferOptions options;
  options.batch = batch;
  options.threads = 2;
  options.precision = precision;
  auto plan = make_reference_backend()->compile_inference(net, options, make_values(net));
  plan->run({.images = images});
  return plan->logits();
}

}  // namespace rackmark::worker::test

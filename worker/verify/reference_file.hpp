// A reference result: what a model must compute. The format is described in tests/golden/README.md.
#pragma once

#include <boost/describe.hpp>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace rackmark::worker {

// One value an entry name (a parameter, or a running statistic).
using Entries = std::map<std::string, double>;

// What a training run yields, computed elsewhere or here.
struct Results {
  std::vector<std::vector<double>> logits, eval_logits;  // the first (up to) 16 of every image
  std::vector<double> loss;                              // by step
  Entries gradient_l2, gradient_probe;                   // of the first backward pass
  Entries running;                                       // after the first step
  Entries parameter_l2, parameter_probe;                 // after all steps
  std::map<std::string, std::vector<std::int64_t>> shapes;
  std::int64_t parameters = 0;
};
BOOST_DESCRIBE_STRUCT(Results, (),
                      (logits, eval_logits, loss, gradient_l2, gradient_probe, running,
                       parameter_l2, parameter_probe, shapes, parameters))

struct ReferenceOptimizer {
  std::string kind;
  double learning_rate = 0, momentum = 0, weight_decay = 0;
};
BOOST_DESCRIBE_STRUCT(ReferenceOptimizer, (), (kind, learning_rate, momentum, weight_decay))

struct ReferenceBatchNorm {
  double epsilon = 0, momentum = 0;
};
BOOST_DESCRIBE_STRUCT(ReferenceBatchNorm, (), (epsilon, momentum))

// Distance of float32 runs of the program that wrote the file, by group.
struct Float32Error {
  double logits = 0, eval_logits = 0;
  std::vector<double> loss;  // by step
  double gradient_l2 = 0, gradient_probe = 0, running = 0, parameter_l2 = 0, parameter_probe = 0;
};
BOOST_DESCRIBE_STRUCT(Float32Error, (),
                      (logits, eval_logits, loss, gradient_l2, gradient_probe, running,
                       parameter_l2, parameter_probe))

struct Reference : Results {
  std::string model;
  std::int64_t batch = 0, image_size = 0, seed = 0, steps = 0, classes = 0;
  ReferenceOptimizer optimizer;
  double auxiliary_loss_weight = 0;
  ReferenceBatchNorm batch_norm;
  Float32Error float32_error;
};
BOOST_DESCRIBE_STRUCT(Reference, (Results),
                      (model, batch, image_size, seed, steps, classes, optimizer,
                       auxiliary_loss_weight, batch_norm, float32_error))

// Throws std::runtime_error with one line naming the file and what is wrong: unreadable, cut off,
// a member that is missing or of the wrong type, lists that do not belong together.
Reference read_reference(const std::string& path);

}  // namespace rackmark::worker

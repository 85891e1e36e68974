// A small but complete reference file, as JSON that a test can break in one place.
#pragma once

#include <fstream>

#include "common/json/json.hpp"

namespace rackmark::worker {

inline nlohmann::json sample_reference() {
  const nlohmann::json entries{{"fc.weight", 2.0}, {"fc.bias", 0.5}};
  return {{"model", "resnet50"},
          {"batch", 2},
          {"image_size", 32},
          {"seed", 1},
          {"steps", 2},
          {"classes", 3},
          {"optimizer",
           {{"kind", "sgd"}, {"learning_rate", 0.1}, {"momentum", 0.9}, {"weight_decay", 0}}},
          {"auxiliary_loss_weight", 0},
          {"batch_norm", {{"epsilon", 1e-5}, {"momentum", 0.1}}},
          {"float32_error",
           {{"logits", 1e-3},
            {"eval_logits", 1e-7},
            {"loss", {1e-4, 1e-3}},
            {"gradient_l2", 1e-3},
            {"gradient_probe", 1e-3},
            {"running", 0},
            {"parameter_l2", 1e-3},
            {"parameter_probe", 1e-3}}},
          {"logits", {{1, 2, 3}, {4, 5, 6}}},
          {"eval_logits", {{1, 2, 3}, {4, 5, 6}}},
          {"loss", {2.0, 1.0}},
          {"gradient_l2", entries},
          {"gradient_probe", entries},
          {"running", {{"bn.running_mean", 3.0}, {"bn.running_var", 5.0}}},
          {"parameter_l2", entries},
          {"parameter_probe", entries},
          {"shapes", {{"fc.weight", {3, 4}}, {"fc.bias", {3}}}},
          {"parameters", 15},
          {"pytorch", "any"}};
}

}  // namespace rackmark::worker

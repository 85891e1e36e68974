#include <array>

#include "common/domain/spec.hpp"

namespace rackmark {

// Work is counted layer by layer, one multiply-add as 2; training is three times forward less the
// input gradient of the first convolution.
std::span<const ModelFacts> model_facts() {
  static const std::array<ModelFacts, 8> facts{{
      {.name = "resnet50",
       .title = "ResNet-50 v1.5",
       .image_size = 224,
       .classes = 1000,
       .default_batch = 32,
       .minimum_image_size = 32,
       .parameters = 25'557'032,
       .forward_gflop_per_image = 8.178,
       .training_gflop_per_image = 24.299,
       .available = true},
      {.name = "inception_v3", .title = "Inception v3", .image_size = 299, .classes = 1000},
      {.name = "alexnet", .title = "AlexNet, one tower", .image_size = 224, .classes = 1000},
      {.name = "googlenet", .title = "GoogLeNet", .image_size = 224, .classes = 1000},
      {.name = "cifar10", .title = "CIFAR-10 tutorial network", .image_size = 24, .classes = 10},
      {.name = "catsdogs_original",
       .title = "Cats and dogs, original",
       .image_size = 64,
       .classes = 2},
      {.name = "catsdogs_improved",
       .title = "Cats and dogs, improved",
       .image_size = 128,
       .classes = 2},
      {.name = "catsdogs_deep", .title = "Cats and dogs, deep", .image_size = 128, .classes = 2},
  }};
  return facts;
}

}  // namespace rackmark

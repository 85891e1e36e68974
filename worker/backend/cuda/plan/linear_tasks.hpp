// What a linear layer asks of a device.
#pragma once

#include "worker/backend/cuda/device/device.hpp"

namespace rackmark::worker::cuda {

struct LinearTasks {
  ProductTask forward;  // x (rows x in) * w^T (in x out)
  ProductTask weights;  // dy^T (out x rows) * x, in float32
  ProductTask data;     // dy * w
};
inline LinearTasks linear_tasks(Type type, Arithmetic arithmetic, std::int64_t rows,
                                std::int64_t in, std::int64_t out, bool float_result) {
  return {.forward = {.type = type,
                      .arithmetic = arithmetic,
                      .rows = rows,
                      .columns = out,
                      .inner = in,
                      .transpose_b = true,
                      .float_result = float_result},
          .weights = {.type = type,
                      .arithmetic = arithmetic,
                      .rows = out,
                      .columns = in,
                      .inner = rows,
                      .transpose_a = true,
                      .float_result = true},
          .data = {.type = type,
                   .arithmetic = arithmetic,
                   .rows = rows,
                   .columns = in,
                   .inner = out,
                   .float_result = type == Type::kFloat}};
}

}  // namespace rackmark::worker::cuda

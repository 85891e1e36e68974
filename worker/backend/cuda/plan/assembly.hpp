// The state that operations share while a plan is made: where values and their gradients lie, and
// when each buffer is needed.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "worker/backend/arena_plan.hpp"
#include "worker/backend/cuda/device/device.hpp"
#include "worker/backend/cuda/plan/parameter_layout.hpp"
#include "worker/net/net.hpp"

namespace rackmark::worker::cuda {

// A matrix inside a buffer of the arena; slot -1: none.
struct Place {
  int slot = -1;
  std::int64_t offset = 0;  // of the first value, in values
  std::int64_t rows = 0;
  int channels = 0;
  std::int64_t stride = 0;
  Type type = Type::kFloat;
  bool exists() const { return slot >= 0; }
  bool is_dense() const { return stride == channels; }
  std::int64_t bytes() const { return rows * stride * width(type); }
};

// Sums over a value's rows, by channel, that the operation which makes the value may have on the
// way.
struct ChannelSums {
  int slot = -1;
  bool made = true;  // false where adding up afterwards is faster; settled with the engines
};

// A batch norm with ReLU whose value a convolution alone reads: what that may do of the batch
// norm's work. There is memory for either way.
struct NormInConvolution {
  bool may_apply = false;  // else only the sums of the way back
  // Settled with the engines.
  bool applies = false;  // it norms what it reads: the value itself is not in memory
  bool sums = false;     // the gradient that it writes is masked by the ReLU and summed up

  Place x;  // the batch norm's input
  int weight = -1, bias = -1;
  int kept_slot = -1;    // mean, inverse deviation
  int narrow_slot = -1;  // scale, shift; stored type
  int sums_slot = -1;    // NormOperands::sums
};

// What a node computes for the whole batch. Pictures have one row a pixel, flat values one row a
// picture of the batch.
struct Value {
  Place place;
  Type type = Type::kFloat;  // of a picture's elements
  float step = 1;            // of integers: what a stored 1 stands for
  Shape shape;               // of the net
  Shape order;               // of a flat value: the picture whose elements it holds, in NHWC order
  bool is_flat = false;
  bool needs_gradient = false;        // some parameter lies before it
  Place gradient;                     // exists once a reader has written its part of it
  int concat = -1;                    // the only reader, a concat, inside whose value this one lies
  int first_channel = 0;              // there
  std::shared_ptr<ChannelSums> sums;  // may be null
  std::shared_ptr<NormInConvolution> norm;  // of which it is the value; may be null
};

// Where an operation writes its part of a value's gradient.
struct GradientTarget {
  Place place;              // none: the gradient is not wanted
  bool accumulate = false;  // there is a part of another reader already
};

struct Assembly {
  Assembly(const Net& the_net, int the_batch, Type the_type, Arithmetic the_arithmetic)
      : net(the_net),
        batch(the_batch),
        type(the_type),
        arithmetic(the_arithmetic),
        values(the_net.nodes().size()),
        layouts(the_net.parameters().size()) {
    for (Value& value : values) value.type = the_type;
  }
  const Net& net;
  int batch;
  Type type;  // of values and their gradients
  Arithmetic arithmetic;
  int event = 0;                         // the time at which the operation being planned runs
  std::vector<Value> values;             // by node id
  std::vector<ParameterLayout> layouts;  // by parameter index
  ArenaPlan arena;
  std::int64_t scratch_bytes = 0;

  const NodeInfo& node(int id) const { return net.nodes()[id]; }
  int parameter(int node, const char* leaf) const;  // index of "<node name>.<leaf>"
  int statistic(int node, const char* leaf) const;  // index of "<node name>.running_<leaf>"
  std::int64_t rows(const Shape& shape) const {
    return std::int64_t{batch} * shape.height * shape.width;
  }

  int add_buffer(std::int64_t bytes) { return arena.add(bytes, event); }
  int add_floats(std::int64_t count) { return add_buffer(count * 4); }
  void need_scratch(std::int64_t bytes);  // for the operation being planned, while it runs
  Place add_place(std::int64_t rows, int channels, Type type);

  // Says that only a concat, of these parts in this order, reads the value: it is made inside the
  // concat's, unless its rows would begin where libraries cannot load; it is copied there then.
  void place_in_concat(int id, int concat, const std::vector<int>& parts);
  // Gives a picture's value its memory: its part of the concat's where it has one, else its own.
  Place define(int id);
  Place define_flat(int id, Type type);  // a row a picture, in the net's order
  void define_as(int id, const Place& place, bool is_flat, const Shape& order);  // others' memory
  Place use(int id);              // the value is read now
  Place use(const Place& place);  // a buffer kept by the operation itself

  // The gradient of `id`, complete: read now. Throws std::invalid_argument when there is none: the
  // node does not reach a loss.
  Place take_gradient(int id);
  GradientTarget gradient_target(int id);
  // Makes `gradient`, which nobody else needs any more, the gradient of `id` if it has none yet and
  // the place fits. False: gradient_target() must be asked and the values copied.
  bool hand_over(const Place& gradient, int id);

 private:
  Place whole_concat(int id);  // memory of a concat's value, made when its first part is defined
};

}  // namespace rackmark::worker::cuda

// Writes the steps of a net for inference: one primitive a unit, layouts as oneDNN chooses them and
// kept from layer to layer, conversions only where two neighbours cannot agree.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "worker/backend/integer_weights.hpp"
#include "worker/backend/onednn/inference/integers.hpp"
#include "worker/backend/onednn/inference/program.hpp"
#include "worker/backend/onednn/picture_loops.hpp"

namespace rackmark::worker::onednn {

struct BuildSettings {
  int batch = 1;
  DataType type = DataType::f32;  // of what is not integer: f32 or bf16
  bool rounds = false;            // f32 only: weights and values are rounded to bf16
  bool merge = true, winograd = true;
  const Peaks* peaks = nullptr;  // int8; null: no integers
  int largest_weight = 127;      // of an integer weight
};

struct BuildReport {
  int integer_layers = 0;                 // convolutions and linear layers
  std::vector<std::string> float_layers;  // those that are not integer, in an int8 program
};

class Builder {
 public:
  // All arguments, and the builder itself, outlive the program's finish(): constants are made then.
  Builder(const Net& net, const TrainedValues& values, const BuildSettings& settings,
          const dnnl::engine& engine, Program& program);
  // Returns where the logits will be: (batch, classes) of float.
  Operand build();
  const BuildReport& report() const { return report_; }

 private:
  struct Value {
    Desc desc;
    Place place;
    float scale = 1;  // of integers: real value of a stored 1
  };

  // builder.cpp: values and what has weights
  void add_unit(const Unit& unit);
  void add_convolution(const Unit& unit);
  void add_linear(const Unit& unit);
  InferenceMade choose(const Unit& unit, InferenceConvolution& c, Value& in);
  std::optional<InferenceMade> choose_padded(const Unit& unit, InferenceConvolution c, Value& in);
  void set_output(const Unit& unit, Desc& dst, Epilogue& epilogue, Value& out);
  void set_weights(const Unit& unit, Desc& weights, Desc& bias, Epilogue& epilogue, float in_scale);
  Step weighted_step(const Unit& unit, InferenceMade made, const Value& in, const Value& out,
                     const Epilogue& epilogue);
  double gflop(const Unit& unit) const;
  void fill_weights(const Unit& unit, const Desc& desc, std::byte* to) const;
  Operand weights(const Unit& unit, const Desc& desc);
  Operand bias(const Unit& unit, const Epilogue& epilogue);

  // builder_own.cpp: convolutions of ours
  struct OwnConvolution;
  bool add_own_convolution(const Unit& unit);
  std::optional<OwnConvolution> own_convolution(const ConvolutionShape& shape) const;
  Place padded_bias(const Unit& unit, std::int64_t floats);

  // builder_shapes.cpp: what has none
  void add_pool(const Unit& unit);
  bool add_own_max_pool(const Unit& unit);
  void add_uneven_pool(const Unit& unit);
  void add_lrn(const Unit& unit);
  void add_flatten(const Unit& unit);
  void add_concat(const Unit& unit);
  bool join_in_place(const Unit& unit);
  void add_elementwise(const Unit& unit);

  // builder_values.cpp: where values are, and conversions
  Value real(int id);  // in the program's float type
  Value blocked(int id);
  Value integers(int id);
  Value as_stored(int id, int like);       // as the value `like` is stored
  Value plain_floats(int id);              // float, (N, C, H, W) in order, in the arena
  Value floats(int id, const Desc& like);  // float, in that layout
  Value converted(int id, const Desc& to, float factor, float scale);
  Value reordered(const std::string& node, const Value& from, const Desc& to, float factor);
  void move(const std::string& node, const Value& from, const Value& to, float factor);
  Place place_for(int id, const Desc& desc);
  void round(const std::string& node, const Value& value);
  void find_parts();
  void finish(const Unit& unit, Step step, const Value& out);

  const NodeInfo& info(int id) const { return net_.nodes()[id]; }
  const Kernels& own_kernels() const;  // for values of settings_.type
  Storage storage() const;
  PictureBatch pictures(int id) const;
  Dims dims(int id) const;                                // with the batch
  Desc picture(int id, DataType type) const;              // blocked by channel
  static double traffic(const Value& a, const Value& b);  // bytes

  const Net& net_;
  const TrainedValues& trained_;
  const BuildSettings settings_;
  const dnnl::engine& engine_;
  Program& program_;
  const std::vector<Unit> units_;
  const IntegerChoice choice_;
  Peaks peaks_;
  std::vector<Value> values_;                                 // by node
  std::map<std::pair<int, std::string>, Value> conversions_;  // by node and layout
  struct Part {  // of a concat whose parts may be made where they belong
    int concat = -1;
    std::int64_t channel = 0;
  };
  std::map<int, Part> parts_;        // by value
  std::map<int, int> concat_slots_;  // by concat
  BuildReport report_;
};

}  // namespace rackmark::worker::onednn

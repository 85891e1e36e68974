#include "worker/backend/onednn/inference/inference_plan.hpp"

#include <algorithm>
#include <stdexcept>

#include "worker/backend/onednn/inference/ranges.hpp"
#include "worker/backend/onednn/threads.hpp"
#include "worker/backend/onednn/winograd.hpp"

namespace rackmark::worker::onednn {
namespace {

// Pairs of unsigned 8 bit x signed 7 bit products fit into 16 bits; 8 bit ones need not.
constexpr int kLargestWeight = 127, kLargestWeightWithoutVnni = 63;

void check_sizes(const std::string& name, std::size_t got, std::int64_t wanted) {
  if (static_cast<std::int64_t>(got) == wanted) return;
  throw std::invalid_argument("onednn: '" + name + "' has " + std::to_string(wanted) +
                              " values, not " + std::to_string(got));
}

std::string joined_names(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

std::vector<std::string> inference_precisions() { return {"fp32", "bf16", "int8"}; }

namespace {

void check_request(const Net& net, const InferOptions& options, const TrainedValues& values) {
  if (options.batch < 1) {
    throw std::invalid_argument("onednn: batch " + std::to_string(options.batch) +
                                " must be at least 1");
  }
  const auto known = inference_precisions();
  if (std::find(known.begin(), known.end(), options.precision) == known.end()) {
    throw std::invalid_argument("onednn: inference in precision '" + options.precision +
                                "' is not known; known: " + joined_names(known));
  }
  if (net.heads().empty()) throw std::invalid_argument("onednn: the net has no loss");
  check_sizes("parameters", values.parameters.size(), std::ssize(net.parameters()));
  check_sizes("running statistics", values.running.size(), std::ssize(net.running_statistics()));
  for (std::size_t i = 0; i < values.parameters.size(); ++i) {
    const Parameter& parameter = net.parameters()[i];
    check_sizes(parameter.name, values.parameters[i].size(), parameter.elements());
  }
  for (std::size_t i = 0; i < values.running.size(); ++i) {
    const RunningStatistic& statistic = net.running_statistics()[i];
    check_sizes(statistic.name, values.running[i].size(), statistic.channels);
  }
}

BuildSettings settings_for(const InferOptions& options, const Fusion& fusion) {
  BuildSettings settings;
  settings.batch = options.batch;
  const bool bf16 = options.precision == "bf16";
  settings.type = bf16 && has_bf16() ? DataType::bf16 : DataType::f32;
  settings.rounds = bf16 && !has_bf16();
  settings.merge = fusion.norm;
  settings.winograd = fusion.winograd;
  settings.largest_weight = has_integer_dot_products() ? kLargestWeight : kLargestWeightWithoutVnni;
  return settings;
}

}  // namespace

std::int64_t InferencePlan::predict_bytes(const Net& net, const InferOptions& options,
                                          const TrainedValues& values) {
  const DescribeOnly unbuilt;
  check_request(net, options, values);
  const ComputeScope scope(options.threads > 0 ? options.threads : omp_get_num_procs());
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  const Peaks peaks(net.nodes().size(), 1.0F);  // sizes do not depend on them
  BuildSettings settings = settings_for(options, parse_fusion(options.fusion));
  if (options.precision == "int8") settings.peaks = &peaks;
  Program program(engine);
  Builder(net, values, settings, engine, program).build();
  return program.place();
}

InferencePlan::InferencePlan(const Net& net, const InferOptions& options,
                             const TrainedValues& values)
    : net_(net),
      options_(options),
      fusion_(parse_fusion(options.fusion)),
      threads_(options.threads > 0 ? options.threads : omp_get_num_procs()) {
  check_request(net_, options_, values);
  const ComputeScope scope(threads_);  // primitives are made for the threads that will run them
  const bool int8 = options_.precision == "int8";
  Peaks peaks;
  if (int8) peaks = calibrate(values);
  options_.calibration.clear();
  program_ = std::make_unique<Program>(engine_);
  BuildSettings build = settings_for(options_, fusion_);
  if (int8) build.peaks = &peaks;
  Builder builder(net_, values, build, engine_, *program_);
  logits_ = builder.build();
  program_->finish();
  if (int8) note_integers(builder.report());
  if (options_.precision == "bf16") notes_["bf16"] = bf16_in_words({});
}

Peaks InferencePlan::calibrate(const TrainedValues& values) {
  if (options_.calibration.empty()) {
    throw std::invalid_argument("onednn: int8 needs calibration pictures");
  }
  for (const auto& batch : options_.calibration) check_images(batch);
  Program exact(engine_);
  Builder builder(net_, values, settings_for(options_, fusion_), engine_, exact);
  builder.build();
  exact.finish();
  return find_peaks(exact, net_.nodes().size(), options_.calibration);
}

void InferencePlan::check_images(std::span<const float> images) const {
  check_sizes("images", images.size(), options_.batch * net_.nodes()[0].shape.elements());
}

void InferencePlan::note_integers(const BuildReport& report) {
  const auto in_float = static_cast<int>(report.float_layers.size());
  notes_["int8 layers"] = std::to_string(report.integer_layers) + " of " +
                          std::to_string(report.integer_layers + in_float) +
                          "; fp32: " + joined_names(report.float_layers);
  notes_["int8 weights"] =
      has_integer_dot_products()
          ? "8 bits a weight, one scale an output channel"
          : "7 bits a weight, one scale an output channel: without VNNI 8 bits could overflow the "
            "16 bit sums of products";
}

PlanFacts InferencePlan::facts() const {
  PlanFacts facts;
  facts.backend = "onednn";
  facts.isa = isa_name();
  Fusion used = fusion_;
  used.winograd = used.winograd && offers_winograd();
  facts.fusion = fusion_text(used);
  facts.libraries["onednn"] = library_version();
  facts.arena_bytes = program_->bytes();
  facts.threads = threads_;
  facts.notes = notes_;
  return facts;
}

void InferencePlan::run(const Batch& batch) {
  check_images(batch.images);
  const ComputeScope scope(threads_);
  program_->run(batch.images.data());
}

std::vector<double> InferencePlan::logits() const {
  const auto* first = reinterpret_cast<const float*>(program_->at(logits_.place));
  const Dims dims = dims_of(logits_.desc);
  return {first, first + dims[0] * dims[1]};
}

std::vector<OpTime> InferencePlan::profile(const Batch& batch) {
  check_images(batch.images);
  const ComputeScope scope(threads_);
  return program_->profile(batch.images.data());
}

}  // namespace rackmark::worker::onednn

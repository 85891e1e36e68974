#include "worker/infer/trained_values.hpp"

#include <algorithm>
#include <cmath>

namespace rackmark::worker {

namespace {

// Two pictures are the least that any batch norm trains with, and a plan for training takes much
// more memory a picture than the one for inference that it comes before.
constexpr int kBatch = 2, kPasses = 8;

PlanOptions settling(int threads) {
  PlanOptions options;
  options.batch = kBatch;
  options.threads = threads;
  options.dropout = false;
  return options;
}

void write(TrainPlan& plan, const TrainedValues& values) {
  for (std::size_t i = 0; i < values.parameters.size(); ++i) {
    plan.write_parameter(static_cast<int>(i), values.parameters[i]);
  }
  for (std::size_t i = 0; i < values.running.size(); ++i) {
    plan.write_running(static_cast<int>(i), values.running[i]);
  }
}

// A running statistic is still (1 - momentum)^passes of its initial value: that part is taken out.
std::vector<float> without_start(const std::vector<double>& running, double start, double left) {
  std::vector<float> settled;
  for (const double value : running) {
    settled.push_back(static_cast<float>((value - start * left) / (1 - left)));
  }
  return settled;
}

}  // namespace

TrainedValues initial_values(const Net& net, std::int64_t seed) {
  TrainedValues values;
  for (const Parameter& p : net.parameters()) values.parameters.push_back(initial_value(p, seed));
  for (const RunningStatistic& s : net.running_statistics()) {
    const bool variance = s.name.ends_with(".running_var");
    values.running.emplace_back(static_cast<std::size_t>(s.channels), variance ? 1.0F : 0.0F);
  }
  return values;
}

std::optional<std::int64_t> settling_bytes(Backend& backend, const Net& net, int threads) {
  if (net.running_statistics().empty()) return 0;
  return backend.predict_bytes(net, settling(threads));
}

void settle_statistics(Backend& backend, const Net& net, int threads, PictureStream& pictures,
                       TrainedValues& values) {
  const auto all = pictures.take_values(std::int64_t{kBatch} * kPasses);
  if (net.running_statistics().empty()) return;
  const auto plan = backend.compile(net, settling(threads));
  write(*plan, values);
  const std::vector<std::int32_t> labels(kBatch, 0);  // the loss is of no interest
  const std::size_t floats = all.size() / kPasses;
  for (int pass = 0; pass < kPasses; ++pass) {
    plan->forward(
        {std::span(all).subspan(static_cast<std::size_t>(pass) * floats, floats), labels});
  }
  for (std::size_t i = 0; i < values.running.size(); ++i) {
    const RunningStatistic& s = net.running_statistics()[i];
    const double left =
        std::pow(1 - std::get<BatchNorm>(net.nodes()[s.node].layer).momentum, kPasses);
    const bool variance = s.name.ends_with(".running_var");
    values.running[i] =
        without_start(plan->read_running(static_cast<int>(i)), variance ? 1 : 0, left);
    if (!variance) continue;
    for (float& value : values.running[i]) value = std::max(value, 0.0F);  // of a constant channel
  }
}

}  // namespace rackmark::worker

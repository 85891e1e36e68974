#include "worker/verify/distance.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "worker/backend/digits.hpp"

namespace rackmark::worker {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kTiny = 1e-30;  // scale of a tensor that is all zero

constexpr double kDoubleTolerance = 1e-8;
constexpr double kFloatFloor = 1e-5;
constexpr double kFloatFactor = 5;
constexpr double kNarrowFactor = 3;

double allowed_for(const std::string& precision, double float32_error) {
  if (precision == "fp64") return kDoubleTolerance;
  if (const int digits = kept_digits(precision)) return std::ldexp(1, 1 - digits);  // two roundings
  return std::max(kFloatFactor * float32_error, kFloatFloor);
}

// NaN is worse than any number.
bool worse(double a, double b) { return std::isnan(a) ? !std::isnan(b) : a > b; }

GroupDistance loss_distance(const Results& got, const Reference& wanted,
                            const std::string& precision) {
  GroupDistance group{"loss", 0, allowed_for(precision, wanted.float32_error.loss[0]), ""};
  double worst_share = -1;
  for (std::size_t step = 0; step < wanted.loss.size(); ++step) {
    const double off = step < got.loss.size() ? std::abs(got.loss[step] - wanted.loss[step]) : kNaN;
    const double distance = off / std::max(std::abs(wanted.loss[step]), kTiny);
    const double allowed = allowed_for(precision, wanted.float32_error.loss[step]);
    if (!worse(distance / allowed, worst_share)) continue;
    worst_share = distance / allowed;
    group = {"loss", distance, allowed, "step " + std::to_string(step)};
  }
  return group;
}

// Parameters that are missing, unknown, or of another shape.
GroupDistance shape_distance(const Results& got, const Reference& wanted) {
  GroupDistance group{"shapes", 0, 0, ""};
  const auto differs = [&](const std::string& name) {
    if (group.worst.empty()) group.worst = name;
    group.distance += 1;
  };
  for (const auto& [name, dims] : wanted.shapes) {
    const auto mine = got.shapes.find(name);
    if (mine == got.shapes.end() || mine->second != dims) differs(name);
  }
  for (const auto& [name, dims] : got.shapes) {
    if (!wanted.shapes.contains(name)) differs(name);
  }
  for (const auto& [name, norm] : got.running) {
    if (!wanted.running.contains(name)) differs(name);
  }
  return group;
}

}  // namespace

double relative_l2(const std::vector<std::vector<double>>& got,
                   const std::vector<std::vector<double>>& wanted) {
  if (got.size() != wanted.size()) return kNaN;
  double off = 0, whole = 0;
  for (std::size_t row = 0; row < wanted.size(); ++row) {
    if (got[row].size() != wanted[row].size()) return kNaN;
    for (std::size_t i = 0; i < wanted[row].size(); ++i) {
      off += (got[row][i] - wanted[row][i]) * (got[row][i] - wanted[row][i]);
      whole += wanted[row][i] * wanted[row][i];
    }
  }
  return std::sqrt(off) / std::max(std::sqrt(whole), kTiny);
}

WorstEntry worst_entry(const Entries& got, const Entries& wanted, const Entries& scale) {
  WorstEntry worst;
  for (const auto& [name, value] : wanted) {
    const auto mine = got.find(name);
    const auto unit = scale.find(name);
    const bool there = mine != got.end() && unit != scale.end();
    const double distance =
        there ? std::abs(mine->second - value) / std::max(std::abs(unit->second), kTiny) : kNaN;
    if (worst.name.empty() || worse(distance, worst.distance)) worst = {distance, name};
  }
  return worst;
}

std::vector<GroupDistance> distances(const Results& got, const Reference& wanted,
                                     const std::string& precision) {
  const Float32Error& error = wanted.float32_error;
  std::vector<GroupDistance> groups;
  groups.push_back(
      {"parameters",
       std::abs(static_cast<double>(got.parameters) - static_cast<double>(wanted.parameters)), 0,
       ""});
  groups.push_back(shape_distance(got, wanted));
  const auto add = [&](const char* group, WorstEntry worst, double float32_error) {
    groups.push_back(
        {group, worst.distance, allowed_for(precision, float32_error), std::move(worst.name)});
  };
  add("logits", {relative_l2(got.logits, wanted.logits), ""}, error.logits);
  groups.push_back(loss_distance(got, wanted, precision));
  add("gradient_l2", worst_entry(got.gradient_l2, wanted.gradient_l2, wanted.gradient_l2),
      error.gradient_l2);
  // A probe may be near zero by chance: it is measured against the norm of its tensor.
  add("gradient_probe", worst_entry(got.gradient_probe, wanted.gradient_probe, wanted.gradient_l2),
      error.gradient_probe);
  add("running", worst_entry(got.running, wanted.running, wanted.running), error.running);
  add("parameter_l2", worst_entry(got.parameter_l2, wanted.parameter_l2, wanted.parameter_l2),
      error.parameter_l2);
  add("parameter_probe",
      worst_entry(got.parameter_probe, wanted.parameter_probe, wanted.parameter_l2),
      error.parameter_probe);
  add("eval_logits", {relative_l2(got.eval_logits, wanted.eval_logits), ""}, error.eval_logits);
  return groups;
}

void widen(std::vector<GroupDistance>& groups, const std::vector<Results>& runs,
           const Reference& wanted, const std::string& precision) {
  const double factor = kept_digits(precision) > 0 ? kNarrowFactor : kFloatFactor;
  for (const Results& run : runs) {
    const auto off = distances(run, wanted, precision);
    for (std::size_t i = 0; i < groups.size(); ++i) {
      if (groups[i].allowed == 0 || std::isnan(off[i].distance)) continue;  // exact, or no measure
      groups[i].allowed = std::max(groups[i].allowed, factor * off[i].distance);
    }
  }
}

}  // namespace rackmark::worker

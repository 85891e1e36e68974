#include "worker/verify/verify.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <stdexcept>

#include "common/json/json.hpp"
#include "worker/backend/backend.hpp"
#include "worker/backend/digits.hpp"
#include "worker/verify/distance.hpp"
#include "worker/verify/training_run.hpp"

namespace rackmark::worker {
namespace {

constexpr double kLossScale = 1024;
constexpr int kPassed = 0, kOutside = 1, kUnusable = 2;

struct Report {
  std::string file;
  Reference reference;
  PlanFacts facts;
  std::vector<GroupDistance> groups;
  std::size_t rounding_runs = 0;  // that widened what is allowed
  double seconds = 0;

  bool passed() const {
    return std::all_of(groups.begin(), groups.end(), [](const auto& g) { return g.passed(); });
  }
};

Faults faults_of(const std::string& inject) {
  constexpr std::string_view kNegate = "negate-gradient=";
  Faults faults;
  if (inject == "negate-residual-gradient") {
    faults.negate_residual_gradient = true;
  } else if (inject.starts_with(kNegate)) {
    faults.negate_gradient = inject.substr(kNegate.size());
  } else if (!inject.empty()) {
    throw std::invalid_argument("--inject is '" + inject +
                                "', allowed: negate-gradient=<parameter>, "
                                "negate-residual-gradient");
  }
  return faults;
}

// A fault that hits nothing would look like a verification that sees nothing.
void check_faults(const Faults& faults, const Net& net) {
  const auto& parameters = net.parameters();
  const bool known = std::any_of(parameters.begin(), parameters.end(),
                                 [&](const auto& p) { return p.name == faults.negate_gradient; });
  if (!faults.negate_gradient.empty() && !known) {
    throw std::invalid_argument("--inject: model '" + net.model() + "' has no parameter '" +
                                faults.negate_gradient + "'");
  }
  const auto nodes = net.nodes();
  const bool adds = std::any_of(nodes.begin(), nodes.end(), [](const auto& node) {
    return std::holds_alternative<Add>(node.layer);
  });
  if (faults.negate_residual_gradient && !adds) {
    throw std::invalid_argument("--inject: model '" + net.model() + "' has no residual branch");
  }
}

void check_precision(const Backend& backend, const std::string& precision) {
  std::string allowed;
  for (const auto& p : backend.precisions()) {
    if (p == precision) return;
    allowed += (allowed.empty() ? "" : ", ") + p;
  }
  throw std::invalid_argument("--precision is '" + precision + "', allowed for backend " +
                              backend.name() + ": " + allowed);
}

std::unique_ptr<Backend> chosen_backend(const VerifyOptions& options) {
  auto backend = options.backend.empty() ? best_backend() : load_backend(options.backend);
  std::string why_not;
  if (!backend->usable(&why_not)) {
    throw std::runtime_error("backend " + backend->name() + " cannot be used here: " + why_not);
  }
  check_precision(*backend, options.precision);
  return backend;
}

// Whether rounding alone could explain what is outside: a wrong gradient is off by its own size,
// far more than this.
constexpr double kMostOfRounding = 0.05;

bool may_be_rounding(const std::vector<GroupDistance>& groups) {
  return std::all_of(groups.begin(), groups.end(), [](const auto& g) {
    return g.passed() || (g.allowed > 0 && g.distance < kMostOfRounding);
  });
}

// The plain backend in the precision that is verified, from weights moved by roundings. In narrow
// precisions one rounding says much, so two runs do.
std::vector<Results> rounding_runs(const Net& net, PlanOptions options,
                                   const Reference& reference) {
  options.fusion.clear();
  options.faults = {};
  const int most = kept_digits(options.precision) > 0 ? 2 : 4;
  std::vector<Results> runs;
  for (int run = 1; run <= most; ++run) {
    const auto plan = load_backend("reference")->compile(net, options);
    runs.push_back(train(*plan, reference, moved_by_rounding(options.precision, run)));
  }
  return runs;
}

Report verify_one(Backend& backend, const VerifyOptions& options, const std::string& file,
                  const Reference& reference) {
  const auto start = std::chrono::steady_clock::now();
  const Net net = net_of(reference);
  PlanOptions plan_options{.batch = static_cast<int>(reference.batch),
                           .threads = options.threads,
                           .precision = options.precision,
                           .fusion = options.fusion == "best" ? "" : options.fusion,
                           .dropout = false,
                           .loss_scale = kLossScale,  // a dynamic one may skip a step
                           .faults = faults_of(options.inject)};
  check_faults(plan_options.faults, net);
  const auto plan = backend.compile(net, plan_options);
  const Results results = train(*plan, reference);
  Report report{file, reference, plan->facts(), distances(results, reference, options.precision)};
  const bool narrow = kept_digits(options.precision) > 0;  // the file has no such runs to go by
  const bool close = options.precision == "fp32" && may_be_rounding(report.groups);
  if (!report.passed() && (narrow || close)) {
    const auto runs = rounding_runs(net, plan_options, reference);
    report.rounding_runs = runs.size();
    widen(report.groups, runs, reference, options.precision);
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  report.seconds = took.count();
  return report;
}

void print_table(const Report& report, const VerifyOptions& options) {
  const Reference& r = report.reference;
  const std::string fusion = options.fusion.empty() ? "" : ", fusion " + options.fusion;
  std::printf("%s\n%s, batch %lld, %lld px, seed %lld, %lld steps; backend %s, %s%s, %d threads\n",
              report.file.c_str(), r.model.c_str(), static_cast<long long>(r.batch),
              static_cast<long long>(r.image_size), static_cast<long long>(r.seed),
              static_cast<long long>(r.steps), report.facts.backend.c_str(),
              options.precision.c_str(), fusion.c_str(), report.facts.threads);
  if (!options.inject.empty()) {
    std::printf("deliberate fault: %s (a self-test: this run must fail)\n", options.inject.c_str());
  }
  std::printf("  %-16s %12s %12s  %-4s  %s\n", "group", "distance", "allowed", "", "worst entry");
  std::string outside;
  for (const auto& g : report.groups) {
    std::printf("  %-16s %12.3g %12.3g  %-4s  %s\n", g.group.c_str(), g.distance, g.allowed,
                g.passed() ? "ok" : "FAIL", g.worst.c_str());
    if (!g.passed()) outside += (outside.empty() ? "" : ", ") + g.group;
  }
  if (report.rounding_runs > 0) {
    const bool narrow = kept_digits(options.precision) > 0;
    const std::string rounded =
        narrow ? " with all values rounded as in " + options.precision + "," : "";
    std::printf(
        "allowed: %d times the worst of %s%zu runs of the plain backend%s from weights moved by "
        "roundings\n",
        narrow ? 3 : 5, narrow ? "" : "the file's float32 runs and of ", report.rounding_runs,
        rounded.c_str());
    const bool mute = std::any_of(report.groups.begin(), report.groups.end(),
                                  [](const auto& g) { return g.allowed >= 1; });
    if (mute)
      std::printf("a group that is allowed 1 or more tells little: rounding alone moves it far\n");
  }
  if (report.passed()) {
    std::printf("passed in %.1f s\n", report.seconds);
  } else {
    std::printf("FAILED in %.1f s: outside tolerance: %s\n", report.seconds, outside.c_str());
  }
  std::fflush(stdout);
}

Json as_json(const Report& report) {
  Json groups = Json::array();
  for (const auto& g : report.groups) {
    groups.push_back({{"group", g.group},
                      {"distance", std::isfinite(g.distance) ? Json(g.distance) : Json(nullptr)},
                      {"allowed", g.allowed},
                      {"passed", g.passed()},
                      {"worst", g.worst}});
  }
  return {{"file", report.file},
          {"model", report.reference.model},
          {"batch", report.reference.batch},
          {"image_size", report.reference.image_size},
          {"steps", report.reference.steps},
          {"backend", report.facts.backend},
          {"isa", report.facts.isa},
          {"fusion", report.facts.fusion},
          {"libraries", report.facts.libraries},
          {"threads", report.facts.threads},
          {"rounding_runs", report.rounding_runs},
          {"seconds", report.seconds},
          {"passed", report.passed()},
          {"groups", groups}};
}

int verify_all(const VerifyOptions& options) {
  if (options.references.empty()) throw std::invalid_argument("--reference is missing");
  static_cast<void>(faults_of(options.inject));
  std::vector<Reference> references;  // all are read before the first is run
  for (const auto& file : options.references) references.push_back(read_reference(file));
  const auto backend = chosen_backend(options);
  bool passed = true;
  Json reports = Json::array();
  for (std::size_t i = 0; i < references.size(); ++i) {
    const Report report = verify_one(*backend, options, options.references[i], references[i]);
    passed = passed && report.passed();
    if (options.json) {
      reports.push_back(as_json(report));
    } else {
      print_table(report, options);
    }
  }
  if (options.json) {
    const Json document{{"passed", passed},
                        {"precision", options.precision},
                        {"fusion", options.fusion.empty() ? "best" : options.fusion},
                        {"injected", options.inject},
                        {"references", reports}};
    std::printf("%s\n", document.dump(1).c_str());
  }
  return passed ? kPassed : kOutside;
}

}  // namespace

int run_verify(const VerifyOptions& options) {
  try {
    return verify_all(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rackmark-worker verify: %s\n", error.what());
  }
  return kUnusable;
}

}  // namespace rackmark::worker

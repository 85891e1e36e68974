#include "worker/backend/cuda/device/convolution_planner.hpp"

#include <algorithm>
#include <functional>
#include <map>

#include "worker/backend/cuda/device/errors.hpp"

namespace rackmark::worker::cuda {
namespace {

constexpr std::int64_t kOffersAsked = 100;      // heuristics know some 40 for a plain convolution
constexpr std::size_t kEnoughOffers = 4;        // of engines that are ready
constexpr std::size_t kChoicesOfOneEngine = 5;  // its knobs differ less than engines do

std::int64_t aligned(std::int64_t bytes) { return (bytes + 255) / 256 * 256; }

// What a form keeps in the workspace beside the engine's own.
std::int64_t form_bytes(const ConvolutionTask& t, ConvolutionForm form) {
  const std::int64_t value = width(t.type);
  switch (form) {
    case ConvolutionForm::kNarrowBias:
      return aligned(t.out * value);
    case ConvolutionForm::kSeparateSum:
      return aligned(std::int64_t{t.images} * t.height * t.width * t.channels * value);
    case ConvolutionForm::kNarrowGradient:
      return aligned(std::int64_t{t.out} * t.channels * t.kernel_h * t.kernel_w * value);
    case ConvolutionForm::kCopiedResult:
      return aligned(std::int64_t{t.images} * t.out_height() * t.out_width() * t.out *
                     width(t.stored_y()));
    default:
      return 0;
  }
}

bool is_full(const ConvolutionTask& task) {
  return task.type == Type::kFloat && task.arithmetic == Arithmetic::kFull;
}
std::int64_t workspace_limit(const ConvolutionTask& task) {
  return workspace_limit(task.type, task.arithmetic);
}

bool is_compiled(const EngineOffer& offer) {
  return offer.has(CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION);
}

// Not every version of cuDNN can say what is merged with a batch norm.
std::optional<Graph> described(const ConvolutionTask& task, ConvolutionForm form,
                               const EngineTarget& target, std::string& refusal) {
  if (!task.is_merged()) return convolution_graph(task, form, target);
  try {
    return convolution_graph(task, form, target);
  } catch (const std::runtime_error& error) {
    refusal = error.what();
    return std::nullopt;
  }
}

// Engines that are offered more than once, by several modes, count once.
std::vector<EngineOffer> offers_for(const Graph& graph, const EngineTarget& target,
                                    const ConvolutionTask& task, std::string& refusal) {
  std::vector<EngineOffer> kept;
  for (const auto mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B, CUDNN_HEUR_MODE_FALLBACK}) {
    for (auto& offer : offered_engines(graph, target, mode, kOffersAsked, refusal)) {
      const bool known = std::any_of(kept.begin(), kept.end(), [&](const EngineOffer& other) {
        return other.choice == offer.choice;
      });
      if (!known && keeps_the_rules(offer, task)) kept.push_back(std::move(offer));
    }
    // The best heuristics' answer is enough, unless rules have struck most of it.
    const auto ready = std::count_if(kept.begin(), kept.end(), std::not_fn(is_compiled));
    if (static_cast<std::size_t>(ready) >= kEnoughOffers) break;
  }
  return kept;
}

std::optional<ConvolutionCandidate> built(const ConvolutionTask& task, ConvolutionForm form,
                                          const Graph& graph, const EngineTarget& target,
                                          const EngineChoice& choice, std::string& refusal) {
  try {
    return ConvolutionCandidate{.form = form,
                                .choice = choice,
                                .plan = std::make_shared<EnginePlan>(graph, target, choice),
                                .extra_bytes = form_bytes(task, form)};
  } catch (const std::runtime_error& error) {  // offered, and yet it cannot: the next one may
    refusal = error.what();
    return std::nullopt;
  }
}

struct Offered {
  ConvolutionForm form;
  Graph graph;
  std::vector<EngineOffer> offers;
};

// Of one form. `frugal`: only those within the workspace limit. Choices of an engine that has had
// its share come last, where there is room for them.
class Candidates {
 public:
  Candidates(const ConvolutionTask& task, const EngineTarget& target, std::string& refusal)
      : task_(task), target_(target), refusal_(refusal) {}

  std::vector<ConvolutionCandidate> of(const Offered& form, bool compiled, bool frugal) const {
    const std::size_t most = compiled ? kCompiledCandidates : kTimedCandidates;
    std::vector<ConvolutionCandidate> found;
    std::vector<const EngineOffer*> left_over;
    std::map<std::int64_t, std::size_t> of_engine;
    for (const auto& offer : form.offers) {
      if (found.size() == most) return found;
      if (is_compiled(offer) != compiled) continue;
      std::size_t& known = of_engine[offer.choice.engine];
      if (known < kChoicesOfOneEngine) {
        known += add(found, form, offer, frugal);
      } else {
        left_over.push_back(&offer);
      }
    }
    for (const auto* offer : left_over) {
      if (found.size() == most) break;
      add(found, form, *offer, frugal);
    }
    return found;
  }

 private:
  bool add(std::vector<ConvolutionCandidate>& found, const Offered& form, const EngineOffer& offer,
           bool frugal) const {
    auto candidate = built(task_, form.form, form.graph, target_, offer.choice, refusal_);
    if (!candidate) return false;
    if (frugal && candidate->workspace_bytes() > workspace_limit(task_)) return false;
    candidate->compiled_at_run_time = is_compiled(offer);
    found.push_back(std::move(*candidate));
    return true;
  }
  const ConvolutionTask& task_;
  const EngineTarget& target_;
  std::string& refusal_;
};

// Nothing where the entry holds no plan, or one that does not load: it is built again then.
std::optional<ConvolutionCandidate> load(const ConvolutionTask& task, ConvolutionForm form,
                                         const PlanEntry& entry, const EngineTarget& target) {
  if (entry.plan.empty()) return std::nullopt;
  try {
    return ConvolutionCandidate{.form = form,
                                .choice = {.engine = entry.engine, .knobs = entry.knobs},
                                .compiled_at_run_time = true,
                                .plan = std::make_shared<EnginePlan>(entry.plan, target),
                                .extra_bytes = form_bytes(task, form),
                                .ms = entry.ms};
  } catch (const std::runtime_error&) {
    return std::nullopt;
  }
}

std::string engine_text(const EngineChoice& choice) { return "cudnn " + choice.text(); }

}  // namespace

std::string ConvolutionCandidate::name() const {
  const std::string text = engine_text(choice);
  return form == ConvolutionForm::kWhole ? text : text + ", " + form_name(form);
}

bool keeps_the_rules(const EngineOffer& offer, const ConvolutionTask& task) {
  if (offer.has(CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC)) return false;
  if (offer.has(CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION)) return false;
  if (!is_full(task)) return true;
  return !offer.has(CUDNN_NUMERICAL_NOTE_TENSOR_CORE) &&
         !offer.has(CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS);
}

std::vector<ConvolutionCandidate> convolution_candidates(const ConvolutionTask& task,
                                                         const EngineTarget& target,
                                                         std::string* refusal) {
  std::string last;
  std::string& said = refusal != nullptr ? *refusal : last;
  const Candidates candidates(task, target, said);
  std::vector<Offered> forms;
  for (const auto form : forms_of(task)) {  // heuristics are asked for no form after the one taken
    auto graph = described(task, form, target, said);
    if (!graph) continue;
    auto offers = offers_for(*graph, target, task, said);
    forms.push_back({form, std::move(*graph), std::move(offers)});
    auto found = candidates.of(forms.back(), false, true);
    if (!found.empty()) return found;
  }
  for (const auto& [compiled, frugal] : {std::pair(true, true), {false, false}, {true, false}}) {
    std::vector<ConvolutionCandidate> of_all_forms;
    for (const auto& offered : forms) {
      auto found = candidates.of(offered, compiled, frugal);
      if (!found.empty() && !task.is_integer()) return found;
      std::move(found.begin(), found.end(), std::back_inserter(of_all_forms));
    }
    if (!of_all_forms.empty()) return of_all_forms;
  }
  return {};
}

ConvolutionPlanner::ConvolutionPlanner(const EngineTarget& target, PlanCache& cache, Clock clock)
    : target_(target), cache_(cache), clock_(std::move(clock)) {}

ConvolutionCandidate ConvolutionPlanner::choose(const ConvolutionTask& task) {
  if (auto known = remembered(task)) return std::move(*known);
  std::string refusal;
  auto candidates = convolution_candidates(task, target_, &refusal);
  if (candidates.empty()) {
    throw NoEngine("cuDNN " + library_version_text(cudnnGetVersion()) + " has no engine for " +
                   task_text(task) + (refusal.empty() ? "" : "; last refusal: " + refusal));
  }
  return clock_ ? fastest(task, std::move(candidates)) : std::move(candidates.front());
}

std::optional<ConvolutionCandidate> ConvolutionPlanner::remembered(const ConvolutionTask& task) {
  const auto entry = cache_.find(task_text(task));
  if (!entry) return std::nullopt;
  for (const auto form : forms_of(task)) {
    if (entry->form != form_name(form)) continue;
    if (auto loaded = load(task, form, *entry, target_)) return loaded;
    const Graph graph = convolution_graph(task, form, target_);
    std::string refusal;  // then it is chosen anew
    auto candidate = built(task, form, graph, target_,
                           {.engine = entry->engine, .knobs = entry->knobs}, refusal);
    if (!candidate) return std::nullopt;
    candidate->ms = entry->ms;
    if (entry->compiled) {  // it did not load: what was built now may
      PlanEntry again = *entry;
      again.plan = candidate->plan->saved();
      cache_.put(task_text(task), again);
    }
    return candidate;
  }
  return std::nullopt;  // of another version of this file
}

ConvolutionCandidate ConvolutionPlanner::fastest(const ConvolutionTask& task,
                                                 std::vector<ConvolutionCandidate> candidates) {
  const TrialTimes times = clock_(task, candidates);
  std::size_t best = 0;  // where none could be tried, what heuristics think
  std::optional<double> best_ms;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (!times[i] || (best_ms && *times[i] >= *best_ms)) continue;
    best = i;
    best_ms = times[i];
  }
  ConvolutionCandidate& winner = candidates[best];
  winner.ms = best_ms;
  if (best_ms) {
    cache_.put(task_text(task), {.form = form_name(winner.form),
                                 .engine = winner.choice.engine,
                                 .knobs = winner.choice.knobs,
                                 .ms = *best_ms,
                                 .compiled = winner.compiled_at_run_time,
                                 .plan = winner.compiled_at_run_time ? winner.plan->saved() : ""});
  }
  return std::move(winner);
}

}  // namespace rackmark::worker::cuda

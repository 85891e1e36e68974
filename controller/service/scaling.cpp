#include "controller/service/scaling.hpp"

#include <algorithm>
#include <cmath>

#include "common/domain/spec.hpp"
#include "common/measure/scaling.hpp"

namespace rackmark::service {

namespace {

using protocol::ResultView;
using protocol::ScalingPoint;
using Results = std::map<std::int64_t, ResultView>;

constexpr std::int64_t kBeyond[] = {2, 4, 8};  // times the most agents asked for

std::string spaced(std::string name) {
  std::replace(name.begin(), name.end(), '_', ' ');
  return name;
}

std::string agents_text(std::int64_t agents) {
  return std::to_string(agents) + (agents == 1 ? " agent" : " agents");
}

// Why a job has no number: "queued", "failed: nan loss, rank 3: loss is NaN".
std::string why_no_number(const store::JobRow& job) {
  if (job.state == JobState::kSucceeded) return "its runs are invalid";
  std::string why = json::enum_name(job.state);
  if (job.outcome && *job.outcome != RunState::kFailed && job.state == JobState::kFailed) {
    why = spaced(json::enum_name(*job.outcome));
  }
  if (!is_terminal(job.state)) return why;
  if (job.reason != Reason::kNone) why += ": " + spaced(json::enum_name(job.reason));
  return job.detail.empty() ? why : why + ", " + job.detail;
}

double mean_of_ranks(const ResultView& result, double protocol::RankTime::*member) {
  double sum = 0;
  for (const protocol::RankTime& rank : result.rank_times) sum += rank.*member;
  return sum / static_cast<double>(std::max<std::size_t>(1, result.rank_times.size()));
}

std::optional<double> gradient_bytes_of(const ResultView& result) {
  const nlohmann::json::json_pointer path("/worker/parameters");
  if (!result.environment.is_object() || !result.environment.contains(path)) return std::nullopt;
  const nlohmann::json& count = result.environment.at(path);
  if (!count.is_number() || count.get<double>() <= 0) return std::nullopt;
  return 4 * count.get<double>();
}

// The group's numbers, point by point.
class Scaling {
 public:
  Scaling(const store::GroupRow& row, const std::vector<store::JobRow>& members,
          const Results& results)
      : request_(stored_request(row)),
        members_(members),
        results_(results),
        asked_(read_spec(request_.spec)) {
    if (asked_) spec_ = *asked_;
    view_.group_id = row.id;
    view_.base_agents = request_.agents.empty() ? 1 : request_.agents.front();
  }

  protocol::ScalingView view() {
    for (const std::int64_t agents : request_.agents) view_.points.push_back(measured(agents));
    find_link();
    find_base();
    for (ScalingPoint& point : view_.points) compare(point);
    if (!request_.agents.empty()) {
      for (const std::int64_t times : kBeyond) view_.points.push_back(beyond(times));
    }
    for (ScalingPoint& point : view_.points) predict(point);
    sum_up_errors();
    return std::move(view_);
  }

 private:
  // What the prediction starts from.
  struct Base {
    double rate = 0, images_per_step = 0, compute_s = 0;
    std::int64_t ranks = 1;
    std::string device_class;
    std::optional<double> gradient_bytes;
  };

  const ResultView* result_of(const store::JobRow* job) const {
    const auto found = job ? results_.find(job->id) : results_.end();
    return found == results_.end() ? nullptr : &found->second;
  }

  ScalingPoint measured(std::int64_t agents) const {
    ScalingPoint point;
    point.agents = agents;
    take_ceiling(point);
    const store::JobRow* job = member_for(members_, request_, agents, ScaleRole::kExchange);
    if (!job) {
      point.why = "there is no such job";
      return point;
    }
    point.job_id = job->id;
    point.state = job->state;
    const ResultView* result = result_of(job);
    if (!job->images_per_second || !result) {
      point.why = why_no_number(*job);
      return point;
    }
    point.images_per_second = job->images_per_second;
    point.spread = job->spread;
    point.spread_kind = job->spread_kind;
    point.runs = job->headline_runs;
    point.ranks = result->ranks;
    point.rank_times = result->rank_times;
    point.step_ms = mean_of_ranks(*result, &protocol::RankTime::step_ms);
    point.exposed_communication_ms =
        mean_of_ranks(*result, &protocol::RankTime::exposed_communication_ms);
    if (*point.step_ms > 0) {
      point.exposed_communication_share = *point.exposed_communication_ms / *point.step_ms;
    }
    compare_ceiling(point, *result);
    return point;
  }

  void take_ceiling(ScalingPoint& point) const {
    const store::JobRow* job = member_for(members_, request_, point.agents, ScaleRole::kCeiling);
    if (!job) {
      point.ceiling_why = "not asked for";
      return;
    }
    point.ceiling_job_id = job->id;
    point.ceiling_images_per_second = job->images_per_second;
    if (!job->images_per_second) point.ceiling_why = why_no_number(*job);
  }

  void compare_ceiling(ScalingPoint& point, const ResultView& result) const {
    if (!point.ceiling_images_per_second) return;
    const ResultView* ceiling = result_of(find(*point.ceiling_job_id));
    const std::string on = ceiling ? ceiling->device_class : "";
    if (on != result.device_class) {
      point.ceiling_why = "not comparable: on device class " + (on.empty() ? "unknown" : on) +
                          ", job " + std::to_string(*point.job_id) + " on " + result.device_class;
      return;
    }
    point.share_of_ceiling = *point.images_per_second / *point.ceiling_images_per_second;
  }

  // Of the fewest agents that timed their network: every other point is then predicted, not fitted.
  void find_link() {
    view_.link_why = "no job over several agents has timed its network yet";
    for (const ScalingPoint& point : view_.points) {
      const ResultView* result = point.job_id ? result_of(find(*point.job_id)) : nullptr;
      if (point.agents < 2 || !result || result->all_reduce_times.empty()) continue;
      fit(point, *result);
      return;
    }
  }
  const store::JobRow* find(std::int64_t job_id) const {
    const auto found = std::find_if(members_.begin(), members_.end(),
                                    [&](const store::JobRow& job) { return job.id == job_id; });
    return found == members_.end() ? nullptr : &*found;
  }
  void fit(const ScalingPoint& point, const ResultView& result) {
    std::vector<measure::AllReducePoint> times;
    for (const protocol::AllReduceTime& t : result.all_reduce_times) {
      times.push_back({t.ranks, static_cast<double>(t.bytes), t.median_s});
    }
    link_ = measure::fit_all_reduces(times, json::enum_name(spec_.all_reduce.algorithm));
    if (!link_) {
      view_.link_why = "the all-reduces that job " + std::to_string(*point.job_id) +
                       " timed do not tell the cost of a message from that of a byte";
      return;
    }
    view_.link_why.clear();
    protocol::ScalingLink& link = view_.link.emplace();
    link.job_id = *point.job_id;
    link.agents = point.agents;
    link.alpha_s = link_->alpha_s;
    if (link_->beta_s_per_byte > 0) link.bytes_per_second = 1 / link_->beta_s_per_byte;
    link.all_reduce_times = result.all_reduce_times;
  }

  void find_base() {
    if (view_.points.empty() || !view_.points.front().images_per_second) return;
    const ScalingPoint& point = view_.points.front();
    const ResultView& result = *result_of(find(*point.job_id));
    if (result.steps < 1) return;
    Base base;
    base.rate = *point.images_per_second;
    base.ranks = result.ranks;
    base.device_class = result.device_class;
    base.images_per_step = static_cast<double>(result.images) / static_cast<double>(result.steps);
    base.compute_s = base.images_per_step / base.rate - *point.exposed_communication_ms * 1e-3;
    base.gradient_bytes = gradient_bytes_of(result);
    base_ = base;
  }

  void compare(ScalingPoint& point) const {
    if (!point.images_per_second) return;
    const std::string base = "the base point of " + agents_text(view_.base_agents);
    if (!base_) {
      point.why = base + " has no number";
      return;
    }
    const std::string& device_class = result_of(find(*point.job_id))->device_class;
    if (device_class != base_->device_class) {
      point.why = "not comparable: on device class " + device_class + ", " + base + " on " +
                  base_->device_class;
      return;
    }
    point.speed_up = measure::speed_up(*point.images_per_second, base_->rate);
    point.efficiency = efficiency(point, *point.images_per_second);
    if (point.share_of_ceiling) {
      point.ceiling_efficiency = efficiency(point, *point.ceiling_images_per_second);
    }
  }

  double efficiency(const ScalingPoint& point, double rate) const {
    return measure::efficiency(rate, point.agents, base_->rate, view_.base_agents);
  }

  ScalingPoint beyond(std::int64_t times) const {
    ScalingPoint point;
    point.agents = request_.agents.back() * times;
    point.why = "more agents than were asked for";
    point.ceiling_why = point.why;
    if (base_) point.ranks = point.agents * base_->ranks / view_.base_agents;
    return point;
  }

  void predict(ScalingPoint& point) const {
    point.prediction_why = why_no_prediction(point);
    if (!point.prediction_why.empty()) return;
    const std::int64_t ranks =
        point.ranks.value_or(point.agents * base_->ranks / view_.base_agents);
    double exposed_s = 0;
    if (spec_.variable_update == VariableUpdate::kAllReduce) {
      measure::GradientExchange exchange;
      exchange.algorithm = json::enum_name(spec_.all_reduce.algorithm);
      exchange.gradient_bytes = *base_->gradient_bytes;
      exchange.bucket_bytes = static_cast<double>(spec_.all_reduce.bucket_bytes);
      exchange.overlap = spec_.all_reduce.overlap;
      exchange.sixteen_bits = spec_.all_reduce.wire != Precision::kFp32;
      const auto seconds = measure::exchange_seconds(exchange, ranks, *link_);
      exposed_s = measure::exposed_seconds(*seconds, exchange.overlap, base_->compute_s);
    }
    const double images =
        base_->images_per_step * static_cast<double>(ranks) / static_cast<double>(base_->ranks);
    point.predicted_exposed_ms = exposed_s * 1e3;
    point.predicted_images_per_second = images / (base_->compute_s + exposed_s);
    point.predicted_efficiency = efficiency(point, *point.predicted_images_per_second);
    if (point.efficiency) {
      point.prediction_error = *point.predicted_images_per_second / *point.images_per_second - 1;
    }
  }

  std::string why_no_prediction(const ScalingPoint& point) const {
    if (point.agents == view_.base_agents) return "the prediction starts here";
    if (!asked_) return "this version does not know its spec: " + asked_.error().message;
    if (spec_.variable_update == VariableUpdate::kParameterServer) {
      return "the model knows all-reduce, not parameter servers";
    }
    if (!base_) return "the base point of " + agents_text(view_.base_agents) + " has no number";
    if (!(base_->compute_s > 0)) return "the base point waited for communication only";
    if (spec_.variable_update == VariableUpdate::kIndependent) return "";
    if (!base_->gradient_bytes) return "the base point does not say how many parameters it has";
    return link_ ? "" : view_.link_why;
  }

  void sum_up_errors() {
    std::vector<double> errors;
    for (const ScalingPoint& point : view_.points) {
      if (point.prediction_error) errors.push_back(std::abs(*point.prediction_error));
    }
    if (errors.empty()) return;
    view_.median_error = measure::median(errors);
    view_.largest_error = *std::max_element(errors.begin(), errors.end());
  }

  const protocol::NewGroup request_;
  const std::vector<store::JobRow>& members_;
  const Results& results_;
  const Result<JobSpec> asked_;
  JobSpec spec_;
  std::optional<measure::LinkModel> link_;
  std::optional<Base> base_;
  protocol::ScalingView view_;
};

}  // namespace

protocol::ScalingView scaling_of(const store::GroupRow& group,
                                 const std::vector<store::JobRow>& members,
                                 const Results& results) {
  return Scaling(group, members, results).view();
}

}  // namespace rackmark::service

// Groups: jobs that belong together. This version makes groups of kind scale: the same job on 1, 2,
// ... N agents, and what that says of the fleet's network and of fleets that nobody has.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/json/described.hpp"
#include "common/json/json.hpp"
#include "common/protocol/endpoint.hpp"
#include "common/protocol/jobs.hpp"

namespace rackmark::protocol {

struct NewGroup {
  std::string kind;                  // scale
  std::string name;                  // may be empty
  std::vector<std::int64_t> agents;  // 2 to 32 different numbers of agents, one job each
  // A job spec in mode training, without resources.agents. Its jobs also time all-reduces
  // (measure_collectives) unless it says otherwise.
  nlohmann::json spec;
  bool ceiling = true;  // the same jobs again with variable_update independent
};
BOOST_DESCRIBE_STRUCT(NewGroup, (), (kind, name, agents, spec, ceiling))

struct GroupView {
  std::int64_t id = 0;
  std::string kind, name, created_at;
  // Of the jobs that count: running as soon as one is and while some are not over, then failed or
  // cancelled if one of them is.
  JobState state = JobState::kQueued;
  std::vector<std::int64_t> agents;  // ascending
  nlohmann::json spec;               // as it was asked for
  std::vector<JobView> members;      // oldest first, reruns included, without runs; empty in lists
};
BOOST_DESCRIBE_STRUCT(GroupView, (), (id, kind, name, created_at, state, agents, spec, members))

struct GroupQuery {
  std::optional<std::string> kind;
  std::optional<std::string> cursor;
  std::int64_t limit = 50;  // 1 to 500
};
BOOST_DESCRIBE_STRUCT(GroupQuery, (), (kind, cursor, limit))
struct GroupPage {
  std::vector<GroupView> items;  // newest first
  std::optional<std::string> next_cursor;
};
BOOST_DESCRIBE_STRUCT(GroupPage, (), (items, next_cursor))

// One number of agents. What is not known is null, and the `why` beside it says why not.
struct ScalingPoint {
  std::int64_t agents = 0;
  std::optional<std::int64_t> job_id;  // null: more agents than were asked for, predicted only
  std::optional<JobState> state;
  std::optional<std::int64_t> ranks;
  std::optional<double> images_per_second, spread;  // headline of the job
  std::string spread_kind;                          // "runs" or "steps", as in Headline
  std::int64_t runs = 0;                            // that the headline is of
  std::string why;
  std::optional<double> speed_up, efficiency;  // against the base point
  // Means over ranks of the job's newest result, per step.
  std::optional<double> step_ms, exposed_communication_ms;
  std::optional<double> exposed_communication_share;  // of the step
  std::vector<RankTime> rank_times;                   // of the same result
  // The same agents without any exchange.
  std::optional<std::int64_t> ceiling_job_id;
  std::optional<double> ceiling_images_per_second, share_of_ceiling;
  std::optional<double> ceiling_efficiency;  // against the base point, which did exchange
  std::string ceiling_why;
  // By the model of common/measure/scaling.
  std::optional<double> predicted_images_per_second, predicted_efficiency, predicted_exposed_ms;
  std::optional<double> prediction_error;  // predicted / measured - 1
  std::string prediction_why;
};
BOOST_DESCRIBE_STRUCT(ScalingPoint, (),
                      (agents, job_id, state, ranks, images_per_second, spread, spread_kind, runs,
                       why, speed_up, efficiency, step_ms, exposed_communication_ms,
                       exposed_communication_share, rank_times, ceiling_job_id,
                       ceiling_images_per_second, share_of_ceiling, ceiling_efficiency, ceiling_why,
                       predicted_images_per_second, predicted_efficiency, predicted_exposed_ms,
                       prediction_error, prediction_why))

struct ScalingLink {  // fitted from the all-reduces that one job timed
  std::int64_t job_id = 0, agents = 0;
  double alpha_s = 0;                           // of a message
  std::optional<double> bytes_per_second;       // 1 / beta; null: no limit was seen
  std::vector<AllReduceTime> all_reduce_times;  // what was fitted
};
BOOST_DESCRIBE_STRUCT(ScalingLink, (),
                      (job_id, agents, alpha_s, bytes_per_second, all_reduce_times))

struct ScalingView {
  std::int64_t group_id = 0;
  std::int64_t base_agents = 1;      // efficiency is against this point: the fewest asked for
  std::vector<ScalingPoint> points;  // by agents; after those asked for 2, 4 and 8 times the most
  std::optional<ScalingLink> link;   // of the fewest agents that timed it
  std::string link_why;
  // Of prediction_error without its sign, over the measured points other than the base.
  std::optional<double> median_error, largest_error;
};
BOOST_DESCRIBE_STRUCT(ScalingView, (),
                      (group_id, base_agents, points, link, link_why, median_error, largest_error))

// All jobs or none are stored. Idempotency-Key as for jobs.
inline constexpr Endpoint<NewGroup, GroupView> kCreateGroup{
    Verb::kPost, "/api/v1/groups", "Submit one job on several numbers of agents", Role::kSubmitter,
    201};
inline constexpr Endpoint<Nothing, GroupPage, GroupQuery> kListGroups{Verb::kGet, "/api/v1/groups",
                                                                      "Groups, newest first"};
inline constexpr Endpoint<Nothing, GroupView> kShowGroup{Verb::kGet, "/api/v1/groups/{id}",
                                                         "One group with its jobs"};
// Every job of the group that is not over, reruns too. 409 when all are.
inline constexpr Endpoint<Nothing, GroupView> kCancelGroup{
    Verb::kPost, "/api/v1/groups/{id}:cancel", "Cancel the jobs of a group that are not over",
    Role::kSubmitter};
inline constexpr Endpoint<Nothing, ScalingView> kScaling{
    Verb::kGet, "/api/v1/groups/{id}/scaling",
    "Efficiency, exposed communication and prediction of a scaling group"};

}  // namespace rackmark::protocol

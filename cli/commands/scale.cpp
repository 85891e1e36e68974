#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>

#include "cli/commands/commands.hpp"
#include "cli/follow.hpp"
#include "cli/format.hpp"
#include "cli/spec_input.hpp"
#include "cli/table.hpp"
#include "common/protocol/groups.hpp"

namespace rackmark::cli {
namespace {

struct ScaleOptions {
  std::vector<std::int64_t> agents;
  std::optional<std::int64_t> show;
  bool watch = false, no_ceiling = false;
  SpecInput spec;
};

// What a cell has room for; the whole sentence stands under the table.
std::string first_words(const std::string& why) { return why.substr(0, why.find_first_of(":,")); }

std::string or_dash(const std::optional<double>& value, std::string (*text)(double)) {
  return value ? text(*value) : "-";
}

std::string measured_text(const protocol::ScalingPoint& point) {
  if (!point.job_id) return "predicted only";
  if (!point.images_per_second) return first_words(point.why);
  const std::string rate = rate_text(*point.images_per_second);
  return point.spread ? rate + " ±" + percent_text(*point.spread) : rate;
}

std::string exposed_text(const protocol::ScalingPoint& point) {
  if (!point.exposed_communication_ms) return "-";
  const std::string ms = milliseconds_text(point.exposed_communication_ms);
  const auto& share = point.exposed_communication_share;
  return share ? ms + " (" + percent_text(*share) + ")" : ms;
}

std::string signed_percent(double fraction) {
  return (fraction < 0 ? "-" : "+") + percent_text(std::abs(fraction));
}

void print_points(std::ostream& out, const protocol::ScalingView& view) {
  Table table({{"agents", true},
               {"ranks", true},
               {"img/s", true},
               {"speed-up", true},
               {"efficiency", true},
               {"exposed communication", true},
               {"of the ceiling", true},
               {"predicted img/s", true},
               {"error", true}});
  for (const auto& p : view.points) {
    const auto times = [](double v) { return fmt::format("{:.2f}x", v); };
    table.add({std::to_string(p.agents), p.ranks ? std::to_string(*p.ranks) : "-",
               printable(measured_text(p)), or_dash(p.speed_up, times),
               or_dash(p.efficiency, percent_text), exposed_text(p),
               or_dash(p.share_of_ceiling, percent_text),
               or_dash(p.predicted_images_per_second, rate_text),
               or_dash(p.prediction_error, signed_percent)});
  }
  table.print(out);
}

// Why what is missing is missing, and where the prediction comes from.
void print_reasons(std::ostream& out, const protocol::ScalingView& view) {
  for (const auto& p : view.points) {
    if (!p.job_id || p.why.empty()) continue;
    out << p.agents << (p.agents == 1 ? " agent" : " agents") << " (job " << *p.job_id
        << "): " << printable(p.why) << '\n';
  }
  if (const auto& link = view.link) {
    out << "network: " << fmt::format("{:.0f}", link->alpha_s * 1e6) << " us a message, "
        << (link->bytes_per_second ? fmt::format("{:.3f} GB/s", *link->bytes_per_second * 1e-9)
                                   : std::string("no limit of bandwidth seen"))
        << "; fitted to " << link->all_reduce_times.size() << " all-reduces that job "
        << link->job_id << " timed on " << link->agents << " agents\n";
  }
  const protocol::ScalingPoint* last = view.points.empty() ? nullptr : &view.points.back();
  if (last && !last->prediction_why.empty()) {
    out << "no prediction: " << printable(last->prediction_why) << '\n';
  }
  if (view.median_error && view.largest_error) {
    out << "prediction error on the measured points: median " << percent_text(*view.median_error)
        << ", largest " << percent_text(*view.largest_error) << '\n';
  }
}

void print_scaling(Context& context, std::int64_t id) {
  const auto view = context.take(context.client().call(protocol::kScaling, id));
  if (!view) return;
  if (context.json) return context.print_json(*view);
  print_points(context.out, *view);
  print_reasons(context.out, *view);
}

// One job after the other; those that run at the same time are over when it is their turn. The
// status is that of the first that did not succeed. False after context.fail().
bool follow_group(Context& context, const protocol::GroupView& group) {
  int status = 0;
  for (const auto& member : group.members) {
    const auto job = follow_job(context, member.id);
    if (!job) return false;
    if (status == 0) status = exit_status(job->state, job->outcome);
  }
  context.status = status;
  return true;
}

void show_group(Context& context, const ScaleOptions& options) {
  if (options.watch) {
    const auto group = context.take(context.client().call(protocol::kShowGroup, *options.show));
    if (!group || !follow_group(context, *group)) return;
  }
  print_scaling(context, *options.show);
}

void create_group(Context& context, const ScaleOptions& options) {
  auto spec = make_spec(context, options.spec);
  if (!spec) return;
  protocol::NewGroup asked;
  asked.kind = "scale";
  if (const auto name = spec->find("name"); name != spec->end() && name->is_string()) {
    asked.name = name->get<std::string>();
  }
  asked.agents = options.agents;
  asked.spec = std::move(*spec);
  asked.ceiling = !options.no_ceiling;
  const auto group = context.take(context.client().call(protocol::kCreateGroup, {}, {}, asked,
                                                        net::kDefaultTimeout,
                                                        {{"Idempotency-Key", random_key()}}));
  if (!group) return;
  if (!options.watch) {
    if (context.json) return context.print_json(*group);
    context.out << "group " << group->id << " of " << group->members.size()
                << " jobs submitted; follow it with: rackmark scale --watch --show " << group->id
                << '\n';
    return;
  }
  context.err << "group " << group->id << " of " << group->members.size()
              << " jobs submitted; Ctrl-C leaves them running" << std::endl;
  if (follow_group(context, *group)) print_scaling(context, group->id);
}

}  // namespace

void add_scale(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand(
      "scale", "Run a job on several numbers of agents; show efficiency and prediction");
  auto options = std::make_shared<ScaleOptions>();
  auto* agents =
      command->add_option("--agents", options->agents, "Numbers of agents, one job each: 1,2,4")
          ->delimiter(',')
          ->type_name("N,N,...");
  auto* show = command->add_option("--show", options->show, "Show the group of this number instead")
                   ->type_name("GROUP")
                   ->excludes(agents);
  command->add_flag("--watch", options->watch,
                    "Wait for the end; the status is that of the first job that did not succeed");
  command
      ->add_flag("--no-ceiling", options->no_ceiling,
                 "Do not run the same jobs without exchange, which are the ceiling")
      ->excludes(show);
  add_spec_input(*command, options->spec);
  command->callback([&context, options] {
    if (options->show) return show_group(context, *options);
    if (options->agents.empty()) throw BadUsage("scale: --agents 1,2,4 or --show GROUP is needed");
    create_group(context, *options);
  });
}

}  // namespace rackmark::cli

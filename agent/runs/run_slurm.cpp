// A run over several agents of one allocation: its ranks are tasks of one step of Slurm. The head
// runs srun; every agent prepares the seats of its own node, and the others watch theirs.
#include <fmt/format.h>

#include <stdexcept>

#include "agent/launch/slurm.hpp"
#include "agent/process/seat.hpp"
#include "agent/runs/host_facts.hpp"
#include "agent/runs/run.hpp"

namespace rackmark::agent {

namespace fs = std::filesystem;

fs::path Run::make_run_scratch() const {
  if (!in_step()) return make_scratch(host_->mark, id(), folder_.path());
  const auto position = static_cast<std::size_t>(wanted_.position);
  const std::string mark = seat_mark(seat_key(wanted_.run_token), wanted_.slurm_nodes.at(position));
  fs::path scratch = make_scratch(mark, id(), folder_.path());
  const fs::path wanted = seat_folder(mark, id());
  if (scratch == wanted) return scratch;
  remove_scratch(scratch);
  throw std::runtime_error(wanted.string() +
                           " cannot be made; the ranks that Slurm starts look for it");
}

void Run::start_in_step(const RankShape& shape, const fs::path& scratch) {
  prepare_place(shape, scratch);
  make_seats(scratch, {{kRankProgram, "run"}, place_}, !head());
  head() ? start_step(shape) : watch_seats(scratch);
}

void Run::start_step(const RankShape& shape) {
  auto launch = plan_slurm_launch({.run_id = id(),
                                   .agent_mark = host_->mark,
                                   .job_id = host_->slurm_job,
                                   .nodes = wanted_.slurm_nodes,
                                   .counts = shape.counts,
                                   .network = wanted_.network,
                                   .rank_ports = host_->rank_ports,
                                   .openmpi_version = host_->openmpi_version,
                                   .agent = host_->self,
                                   .seat_key = seat_key(wanted_.run_token),
                                   .inherited = inherited()});
  if (!launch) return refuse(RunState::kFailed, Reason::kLaunchFailed, launch.error().message);
  say(fmt::format("its ranks are tasks of one step of Slurm's job {} on nodes {}", host_->slurm_job,
                  fmt::join(wanted_.slurm_nodes, ", ")));
  tags_ = launch->tags;
  facts_.program = "srun";
  start_under_guard(std::move(launch->argv), std::move(launch->environment));
}

void Run::watch_seats(const fs::path& scratch) {
  facts_.program = "the watch over this node's ranks";
  start_under_guard({host_->self, kWatchSeats, scratch.string()}, place_);
}

}  // namespace rackmark::agent

#include "worker/train/session.hpp"

#include <cstdio>
#include <cstdlib>

#include "common/domain/ranks.hpp"
#include "common/json/described.hpp"
#include "common/measure/statistics.hpp"
#include "worker/collective/network_probe.hpp"
#include "worker/failure.hpp"
#include "worker/measure/telemetry.hpp"
#include "worker/models/registry.hpp"
#include "worker/train/batch_search.hpp"
#include "worker/train/dump.hpp"
#include "worker/train/profile.hpp"
#include "worker/train/rank_setup.hpp"

namespace rackmark::worker {

Session::Session(SessionOptions options, Events& events, const Clock& clock,
                 const std::atomic<bool>& stop)
    : options_(std::move(options)), events_(events), clock_(clock), stop_(stop) {}

void Session::connect() {
  all_ = find_ranks(options_.spec);
  agree_on_spec(*all_, options_.spec, {{"micro_batches", std::to_string(options_.micro_batches)}});
  ranks_ = all_->first_ranks(worker_count(options_.spec));
}

void Session::set_up() {
  const JobSpec& spec = options_.spec;
  pictures_ = find_pictures(options_.spec);
  require_agreement(*ranks_, input_facts(spec, pictures_));

  const Net net =
      build_model(spec.model, static_cast<int>(spec.image_size), static_cast<int>(spec.classes));
  backend_ = choose_backend(spec, options_.backend);
  plan_options_.threads = static_cast<int>(spec.resources.threads_per_worker.value_or(0));
  plan_options_.precision = json::enum_name(spec.precision);
  plan_options_.masks = {.seed = spec.seed,
                         .first_shard = ranks_->rank() * options_.micro_batches,
                         .shards = options_.micro_batches};
  plan_options_.fusion = fusion_name(spec);
  plan_options_.loss_scale = spec.loss_scale;
  if (backend_->takes_raw_pictures()) {
    plan_options_.raw_side = static_cast<int>(raw_side(spec, pictures_));
  }
  decoder_ = open_decoder(spec, *backend_);
  // While there is room for it: a plan may take all that a device has.
  matrix_peak_gflops_ = measure_matrix_peak(*backend_, *ranks_, spec);
  fit_memory(net);
  plan_ = backend_->compile(net, plan_options_);
  require_agreement(*ranks_, {{"memory layout", plan_->layout_key()}});
  // The same seed gives the same weights on every rank: nothing needs to be sent.
  for (std::size_t p = 0; p < net.parameters().size(); ++p) {
    plan_->write_parameter(static_cast<int>(p), initial_value(net.parameters()[p], spec.seed));
  }
  choose_exchange();  // a server takes the weights as they are now
  send_hello();
  events_.phase("setup");
  open_input();
  if (options_.tf_output && ranks_->rank() == 0) {
    tf_.emplace(stdout, spec, ranks_->size(),
                pictures_ ? static_cast<std::int64_t>(pictures_->pictures.size()) : 0);
    tf_->header();
  }
}

// A batch that does not fit is refused here, by the same numbers whether it was asked for or found.
void Session::fit_memory(const Net& net) {
  JobSpec& spec = options_.spec;
  BatchMemory memory;
  memory.plan = [&](std::int64_t batch) {
    plan_options_.batch = static_cast<int>(batch);
    const auto bytes = backend_->predict_bytes(net, plan_options_);
    if (!bytes && spec.batch_max) throw no_prediction(backend_->name());
    return bytes.value_or(0);
  };
  memory.beside = memory_beside_plan(spec, net, options_.memory, plan_options_.raw_side);
  memory.beside.fixed_bytes += cache_bytes(spec, pictures_, options_.memory);
  memory.process = options_.memory;
  memory.device = backend_->device_memory();
  if (spec.batch_max) {
    search_batch(memory);
  } else {
    require_room(memory, spec.batch_size);
  }
  plan_options_.batch = static_cast<int>(spec.batch_size);
}

void Session::search_batch(const BatchMemory& memory) {
  std::int64_t least = 1;
  try {
    memory.plan(least);
  } catch (const std::invalid_argument&) {  // a batch norm of one value a channel
    least = 2;
  }
  options_.spec.batch_size = least;  // which is what is named if not even that fits
  batch_search_ = agree_on_largest_batch(memory, least, *ranks_);
  options_.spec.batch_size = batch_search_->batch_size;
}

void Session::open_input() {
  const JobSpec& spec = options_.spec;
  SourceOptions source;
  source.shards = ranks_->size() * options_.micro_batches;
  source.raw = plan_options_.raw_side > 0;
  source.cache_bytes = cache_bytes(spec, pictures_, options_.memory) / options_.micro_batches;
  source.decoder = decoder_;
  for (std::int64_t m = 0; m < options_.micro_batches; ++m) {
    source.shard = ranks_->rank() * options_.micro_batches + m;
    inputs_.push_back(open_source(spec, pictures_, source));
  }
}

void Session::choose_exchange() {
  const JobSpec& spec = options_.spec;
  switch (spec.variable_update.value_or(VariableUpdate::kAllReduce)) {
    case VariableUpdate::kAllReduce:
      exchange_ = make_all_reduce(*plan_, *ranks_,
                                  {.bucket_bytes = spec.all_reduce.bucket_bytes,
                                   .overlap = spec.all_reduce.overlap,
                                   .wire = spec.all_reduce.wire});
      return;
    case VariableUpdate::kIndependent:
      exchange_ = make_independent(*plan_, "independent");
      return;
    case VariableUpdate::kParameterServer:
      exchange_ = make_parameter_server(*plan_, *all_, server_setup(spec));
      return;
  }
}

void Session::send_hello() {
  const JobSpec& spec = options_.spec;
  protocol::HelloEvent hello =
      hello_of(spec, plan_->facts(), plan_->net(), *ranks_, pictures_.has_value());
  hello.notes.merge(input_facts(spec, pictures_));
  note_decoder(decoder_.get(), hello);
  hello.variable_update = exchange_->label();
  if (const std::string way = exchange_->way();
      spec.resources.device == Device::kGpu && !way.empty()) {
    hello.notes["gradients travel by"] = way;
  }
  hello.training_gflop_per_image = plan_->net().training_flop_per_image() * 1e-9;
  hello.batch_size = spec.batch_size;
  hello.batch_search = batch_search_;
  events_.hello(hello);
}

void Session::check() const {
  if (stop_) throw Terminated();
  if (const std::string why = events_.lost(); !why.empty()) throw EventsLost(why);
}

void Session::run() {
  const JobSpec& spec = options_.spec;
  std::vector<BatchSource*> inputs;
  for (const auto& input : inputs_) inputs.push_back(input.get());
  const TrainingStep step =
      inputs.size() == 1
          ? make_step(*plan_, *inputs[0], *exchange_, schedule_of(spec), clock_)
          : make_micro_batch_step(*plan_, inputs, *exchange_, schedule_of(spec), clock_);
  LoopOptions loop = loop_of(spec);
  loop.end_together = exchanges_in_step(spec);

  LoopHooks hooks;
  hooks.phase = [this](const std::string& name, std::optional<std::int64_t> planned) {
    if (name == "warmup") {
      setup_s_ = process_age_s();
      forget_peak_rss();
    }
    if (name == "measuring") skipped_before_ = plan_->skipped_steps().value_or(0);
    events_.phase(name, planned);
    if (tf_) name == "warmup" ? tf_->warming_up() : tf_->done_warm_up();
  };
  hooks.step = [this](const StepRecord& record, bool measured) {
    events_.step(record);
    if (measured && options_.spec.profile) {
      compute_ms_.push_back(record.ms - record.input_wait_ms - record.exposed_communication_ms -
                            record.server_wait_ms);
    }
    if (tf_ && measured) tf_->step(record.ms * 1e-3, record.loss);
  };
  hooks.check = [this] { check(); };
  hooks.settle = [this] { return exchange_->settle(); };
  if (spec.measure_collectives) all_reduce_times_ = time_all_reduces(*ranks_);
  finish(run_loop(loop, step, *ranks_, clock_, hooks));
}

// All ranks make the passes, as they share caches and memory; the first one's are kept.
void Session::profile() {
  std::unique_ptr<BoundMeter> bound;
  try {
    bound = backend_->convolution_bound(plan_->net(), plan_options_, true);
  } catch (const OutOfMemory&) {
    // A batch that fills the memory leaves none for a second set of pictures: no share.
  }
  ranks_->barrier();
  const Batch batch = batch_of(inputs_.front()->next());
  plan_->finish();  // of the measured steps
  protocol::ProfileEvent event = profile_steps(training_work(*plan_, batch), bound.get());
  event.window_step_ms = measure::median(compute_ms_);
  if (ranks_->rank() != 0) return;
  events_.profile(event);
  if (options_.show_profile) std::fputs(profile_text(event).c_str(), stderr);
}

void Session::finish(const Window& window) {
  exchange_->leave();
  events_.phase("collecting");
  protocol::SummaryEvent summary;
  summary.staleness = exchange_->staleness();
  summary.images = window.steps * images_per_step();
  summary.steps = window.steps;
  summary.start_ns = window.start_ns;
  summary.end_ns = window.end_ns;
  summary.first_loss = window.first_loss;
  summary.final_loss = window.final_loss;
  if (const auto skipped = plan_->skipped_steps()) {
    summary.skipped_steps = *skipped - skipped_before_;
  }
  summary.peak_rss_bytes = peak_rss_bytes();
  summary.setup_s = setup_s_;
  summary.matrix_peak_gflops = matrix_peak_gflops_;
  if (ranks_->rank() == 0) summary.all_reduce_times = all_reduce_times_;
  for (const auto& input : inputs_) add_report(summary, input->report());
  if (options_.tf_output) {
    // Independent ranks may have made different numbers of steps.
    std::int64_t images = 0;
    for (const std::string& text : ranks_->all_gather(std::to_string(summary.images))) {
      images += std::atoll(text.c_str());
    }
    const double window_s =
        ranks_->all_reduce_max(static_cast<double>(window.end_ns - window.start_ns) * 1e-9);
    if (tf_) tf_->total(static_cast<double>(images) / window_s);
  }
  if (!options_.dump_path.empty() && ranks_->rank() == 0) {
    dump_parameters(*plan_, options_.dump_path);
  }
  if (options_.spec.profile) profile();
  ranks_->barrier();
  events_.summary(summary);
  exchange_.reset();  // its thread talks to the other ranks
  all_->finish();
}

}  // namespace rackmark::worker

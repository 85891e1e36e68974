#include "worker/infer/session.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <utility>

#include "common/json/described.hpp"
#include "common/measure/statistics.hpp"
#include "worker/failure.hpp"
#include "worker/infer/agreement.hpp"
#include "worker/infer/trained_values.hpp"
#include "worker/measure/telemetry.hpp"
#include "worker/models/registry.hpp"
#include "worker/train/batch_search.hpp"
#include "worker/train/profile.hpp"
#include "worker/train/rank_setup.hpp"

namespace rackmark::worker {

namespace {

constexpr std::int64_t kCalibrationPictures = 16, kComparedPictures = 32;

std::int64_t batches_for(std::int64_t pictures, std::int64_t batch) {
  return (pictures + batch - 1) / batch;
}

// Of the measured plan and the one that it is compared with; nothing where the backend cannot say.
std::optional<std::int64_t> plan_bytes(Backend& backend, const Net& net, InferOptions options,
                                       const TrainedValues& values, std::int64_t batch) {
  options.batch = static_cast<int>(batch);
  auto bytes = backend.predict_inference_bytes(net, options, values);
  if (bytes && options.precision != "fp32") {
    options.precision = "fp32";
    *bytes += backend.predict_inference_bytes(net, options, values).value_or(0);
  }
  return bytes;
}

// Vector kernels of ReLU make 0 of NaN: what is broken would look well from the first layer on.
void require_finite(const Net& net, const TrainedValues& values) {
  for (std::size_t i = 0; i < values.running.size(); ++i) {
    const auto& running = values.running[i];
    if (std::all_of(running.begin(), running.end(), [](float x) { return std::isfinite(x); })) {
      continue;
    }
    throw Failure(Reason::kVerifyFailed,
                  "'" + net.running_statistics()[i].name + "' has values that are not finite");
  }
}

std::string text(const protocol::Agreement& a) {
  char line[160];
  std::snprintf(line, sizeof line,
                "cosine %.4f, at least %.2f is wanted; top-1 agreement %.3f, over %lld pictures",
                a.cosine, a.cosine_floor, a.top1, static_cast<long long>(a.pictures));
  return line;
}

}  // namespace

InferenceSession::InferenceSession(SessionOptions options, Events& events, const Clock& clock,
                                   const std::atomic<bool>& stop)
    : options_(std::move(options)), events_(events), clock_(clock), stop_(stop) {}

void InferenceSession::connect() { ranks_ = find_ranks(options_.spec); }

void InferenceSession::set_up() {
  JobSpec& spec = options_.spec;
  agree_on_spec(*ranks_, spec);
  pictures_ = find_pictures(spec);
  require_agreement(*ranks_, input_facts(spec, pictures_));
  const Net net =
      build_model(spec.model, static_cast<int>(spec.image_size), static_cast<int>(spec.classes));
  backend_ = choose_backend(spec, options_.backend);
  if (backend_->takes_raw_pictures()) raw_side_ = static_cast<int>(raw_side(spec, pictures_));
  const auto decoder = open_decoder(spec, *backend_);
  // While there is room for it: a plan may take all that a device has.
  matrix_peak_gflops_ = measure_matrix_peak(*backend_, *ranks_, spec);
  compile(net);
  protocol::HelloEvent hello = hello_of(spec, plan_->facts(), net, *ranks_, pictures_.has_value());
  hello.notes.merge(input_facts(spec, pictures_));
  note_decoder(decoder.get(), hello);
  hello.batch_size = options_.spec.batch_size;
  hello.batch_search = batch_search_;
  events_.hello(hello);
  events_.phase("setup");
  input_ = open_source(spec, pictures_,
                       {.shard = ranks_->rank(),
                        .shards = ranks_->size(),
                        .raw = raw_side_ > 0,
                        .cache_bytes = cache_bytes(spec, pictures_, options_.memory),
                        .decoder = decoder});
  ranks_->barrier();  // not after warm-up: a rank that waits for the comparison would look stalled
}

// Throws OutOfMemory before anything large is taken: for narrow numbers the plan that settles
// statistics, which is gone when the others come, then the plan, the fp32 one that it is compared
// with, and pictures. Where the spec asks for the largest batch, it is known afterwards.
void InferenceSession::fit_memory(const Net& net, const InferOptions& options,
                                  const TrainedValues& values) {
  JobSpec& spec = options_.spec;
  const bool narrow = spec.precision != Precision::kFp32;
  const std::int64_t settling =
      narrow ? settling_bytes(*backend_, net, options.threads).value_or(0) : 0;
  BatchMemory memory;
  memory.plan = [&](std::int64_t batch) {
    const auto bytes = plan_bytes(*backend_, net, options, values, batch);
    if (!bytes && spec.batch_max) throw no_prediction(backend_->name());
    return std::max(settling, bytes.value_or(0));
  };
  memory.beside = memory_beside_plan(spec, net, options_.memory, raw_side_);
  memory.beside.fixed_bytes += cache_bytes(spec, pictures_, options_.memory);
  for (const auto& parameter : values.parameters) {
    memory.beside.fixed_bytes += static_cast<std::int64_t>(parameter.size() * sizeof(float));
  }
  // Narrow numbers hold the batch that calibrates and the one that is compared as well.
  if (narrow) memory.beside.bytes_per_image *= 3;
  memory.process = options_.memory;
  memory.device = backend_->device_memory();
  if (spec.batch_max) {
    spec.batch_size = 1;  // which is what is named if not even that fits
    batch_search_ = agree_on_largest_batch(memory, 1, *ranks_);
    spec.batch_size = batch_search_->batch_size;
  } else {
    require_room(memory, spec.batch_size);
  }
}

// Narrow numbers are compared with fp32 ones. Every rank calibrates alike from the same pictures;
// one of them compares.
void InferenceSession::compile(const Net& net) {
  const JobSpec& spec = options_.spec;
  TrainedValues values = initial_values(net, spec.seed);
  InferOptions options = exact_options();
  options.precision = json::enum_name(spec.precision);
  options.fusion = fusion_name(spec);
  fit_memory(net, options, values);
  options.batch = static_cast<int>(spec.batch_size);
  if (spec.precision == Precision::kFp32) {
    plan_ = backend_->compile_inference(net, options, values);
    return;
  }
  PictureStream pictures(spec, pictures_, raw_side_ > 0);
  settle_statistics(*backend_, net, options.threads, pictures, values);
  require_finite(net, values);
  check();
  const bool integers = spec.precision == Precision::kInt8;
  for (auto i = integers ? batches_for(kCalibrationPictures, spec.batch_size) : 0; i > 0; --i) {
    options.calibration.push_back(pictures.take_values(spec.batch_size));
  }
  plan_ = backend_->compile_inference(net, options, values);
  check();
  if (ranks_->rank() == 0) compare(net, pictures, values);
}

InferOptions InferenceSession::exact_options() const {
  InferOptions options;
  options.batch = static_cast<int>(options_.spec.batch_size);
  options.threads = static_cast<int>(options_.spec.resources.threads_per_worker.value_or(0));
  options.raw_side = raw_side_;
  return options;
}

void InferenceSession::compare(const Net& net, PictureStream& pictures,
                               const TrainedValues& values) {
  const JobSpec& spec = options_.spec;
  const auto exact = backend_->compile_inference(net, exact_options(), values);
  std::vector<double> wanted, got;
  for (auto i = batches_for(kComparedPictures, spec.batch_size); i > 0; --i) {
    const InputBatch taken = pictures.take(spec.batch_size);
    const Batch batch = batch_of(taken);
    exact->run(batch);
    plan_->run(batch);
    const auto a = exact->logits(), b = plan_->logits();
    wanted.insert(wanted.end(), a.begin(), a.end());
    got.insert(got.end(), b.begin(), b.end());
    check();
  }
  const auto classes = static_cast<std::size_t>(net.nodes()[net.heads()[0].node].shape.channels);
  agreement_ = compare_logits(wanted, got, classes);
  if (is_enough(*agreement_)) return;
  throw Failure(Reason::kVerifyFailed,
                json::enum_name(spec.precision) +
                    " answers differ too much from fp32 ones: " + text(*agreement_));
}

StepRecord InferenceSession::step() {
  StepRecord record;
  record.loss = std::numeric_limits<double>::quiet_NaN();
  if (overlaps_input(options_.spec)) {
    record.input_wait_ms = plan_->run_and_bring([this] { return batch_of(input_->next()); });
    return record;
  }
  const std::int64_t start_ns = clock_.monotonic_ns();
  const Batch batch = batch_of(input_->next());
  record.input_wait_ms = static_cast<double>(clock_.monotonic_ns() - start_ns) * 1e-6;
  plan_->run(batch);
  return record;
}

void InferenceSession::check() const {
  if (stop_) throw Terminated();
  if (const std::string why = events_.lost(); !why.empty()) throw EventsLost(why);
}

void InferenceSession::run() {
  LoopOptions loop = loop_of(options_.spec);
  loop.end_together = false;
  loop.has_loss = false;
  LoopHooks hooks;
  hooks.phase = [this](const std::string& name, std::optional<std::int64_t> planned) {
    if (name == "warmup") {
      setup_s_ = process_age_s();
      forget_peak_rss();
    }
    events_.phase(name, planned);
  };
  hooks.step = [this](const StepRecord& record, bool measured) {
    events_.step(record);
    if (measured && options_.spec.profile) compute_ms_.push_back(record.ms - record.input_wait_ms);
  };
  hooks.check = [this] { check(); };
  finish(run_loop(
      loop, [this] { return step(); }, *ranks_, clock_, hooks));
}

// All instances make the passes, as they share caches and memory; the first one's are kept.
void InferenceSession::profile() {
  const JobSpec& spec = options_.spec;
  std::unique_ptr<BoundMeter> bound;
  try {
    PlanOptions shape;
    shape.batch = static_cast<int>(spec.batch_size);
    shape.threads = static_cast<int>(spec.resources.threads_per_worker.value_or(0));
    shape.precision = json::enum_name(spec.precision);
    bound = backend_->convolution_bound(plan_->net(), shape, false);
  } catch (const OutOfMemory&) {
    // A batch that fills the memory leaves none for a second set of pictures: no share.
  }
  ranks_->barrier();
  const Batch batch = batch_of(input_->next());
  protocol::ProfileEvent event = profile_steps(
      {.step = [&] { plan_->run(batch); }, .timed_pass = [&] { return plan_->profile(batch); }},
      bound.get());
  event.window_step_ms = measure::median(compute_ms_);
  if (ranks_->rank() != 0) return;
  events_.profile(event);
  if (options_.show_profile) std::fputs(profile_text(event).c_str(), stderr);
}

void InferenceSession::finish(const Window& window) {
  events_.phase("collecting");
  for (const double logit : plan_->logits()) {
    if (std::isfinite(logit)) continue;
    throw Failure(Reason::kVerifyFailed, "the last batch's logits are not finite");
  }
  protocol::SummaryEvent summary;
  summary.images = window.steps * options_.spec.batch_size;
  summary.steps = window.steps;
  summary.start_ns = window.start_ns;
  summary.end_ns = window.end_ns;
  summary.peak_rss_bytes = peak_rss_bytes();
  summary.setup_s = setup_s_;
  summary.matrix_peak_gflops = matrix_peak_gflops_;
  summary.agreement = agreement_;
  add_report(summary, input_->report());
  if (options_.spec.profile) profile();
  ranks_->barrier();
  events_.summary(summary);
  ranks_->finish();
}

}  // namespace rackmark::worker

#include "worker/train/rank_setup.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "common/domain/ranks.hpp"
#include "common/json/described.hpp"
#include "worker/failure.hpp"
#include "worker/input/jpeg.hpp"
#include "worker/input/packed_shards.hpp"
#include "worker/input/pictures.hpp"
#include "worker/input/synthetic.hpp"
#include "worker/train/engine_revision.hpp"
#include "worker/train/learning_rate.hpp"

namespace rackmark::worker {

namespace {

constexpr std::size_t kBrokenPicturesNamed = 20;

// An evaluation sees every picture as it is.
Augment augment_of(const JobSpec& spec) {
  const auto on = [&](const char* name) {
    const auto found = spec.input.augment.find(name);
    return spec.mode != Mode::kInference && found != spec.input.augment.end() && found->second;
  };
  return {.crop = on("crop"), .flip = on("flip")};
}

// Each host has its data set in its own place.
nlohmann::json common_part(const JobSpec& spec) {
  nlohmann::json common = to_json(spec);
  if (const auto input = common.find("input"); input != common.end()) input->erase("path");
  return common;
}

// Of a run over several hosts: where PMIx is on this one; mpirun handed out where it is on its own.
void use_local_pmix() {
  const char* local = std::getenv("RACKMARK_PMIX_INSTALL_PREFIX");
  if (local == nullptr) return;
  if (*local == '\0') {
    ::unsetenv("PMIX_INSTALL_PREFIX");
  } else {
    ::setenv("PMIX_INSTALL_PREFIX", local, 1);
  }
}

}  // namespace

std::unique_ptr<Communicator> find_ranks(const JobSpec& spec) try {
  use_local_pmix();
  CommunicatorOptions options;
  options.all_reduce_algorithm = json::enum_name(spec.all_reduce.algorithm);
  options.rank = rank_of_launched(rank_counts(spec), launched_ranks().rank);
  return connect_ranks(options);
} catch (const std::exception& error) {
  throw Failure(Reason::kLaunchFailed, error.what());
}

void agree_on_spec(Communicator& ranks, const JobSpec& spec,
                   std::map<std::string, std::string> more) {
  const std::int64_t wanted = rank_count(spec), servers = dedicated_server_count(spec);
  if (wanted != ranks.size()) {
    const std::string beside =
        servers > 0 ? " and " + std::to_string(servers) + " dedicated servers" : "";
    throw Failure(Reason::kLaunchFailed,
                  "the spec wants " + std::to_string(wanted - servers) + " workers" + beside +
                      ", " + std::to_string(ranks.size()) + " were started (mpirun -n " +
                      std::to_string(wanted) + ")");
  }
  // Names are checked before anything costly, the layout when it is known.
  more["engine revision"] = engine_revision();
  more["spec"] = common_part(spec).dump();
  require_agreement(ranks, more);
}

std::optional<PictureList> find_pictures(JobSpec& spec) {
  if (spec.input.kind == InputKind::kSynthetic) return std::nullopt;
  PictureList pictures = spec.input.kind == InputKind::kPacked ? list_packed(*spec.input.path)
                                                               : list_pictures(*spec.input.path);
  const auto classes = static_cast<std::int64_t>(pictures.classes.size());
  const auto unfit = [&](const std::string& why) {
    throw Failure(Reason::kInputUnavailable, "input.path '" + *spec.input.path + "' " + why);
  };
  const std::string has = "has " + std::to_string(classes) + " classes";
  if (spec.classes == 0) spec.classes = classes;
  if (spec.classes < 2) unfit(has + "; a classifier needs at least 2");
  if (classes > spec.classes) unfit(has + ", more than classes = " + std::to_string(spec.classes));
  const ModelFacts* model = find_model_facts(spec.model);
  if (model != nullptr && model->two_classes_only && spec.classes != 2) {
    unfit(has + "; " + spec.model + " has one output, for exactly 2");
  }
  const std::int64_t side = picture_side(pictures, spec.image_size, false);
  if (side < spec.image_size) {
    unfit("holds pictures of " + std::to_string(side) + " x " + std::to_string(side) +
          " pixels, smaller than image_size = " + std::to_string(spec.image_size));
  }
  return pictures;
}

std::int64_t raw_side(const JobSpec& spec, const std::optional<PictureList>& pictures) {
  if (!pictures) return 0;
  return picture_side(*pictures, spec.image_size, augment_of(spec).crop);
}

std::map<std::string, std::string> input_facts(const JobSpec& spec,
                                               const std::optional<PictureList>& pictures) {
  if (!pictures) return {};
  return {{"pictures", std::to_string(pictures->pictures.size())},
          {"classes", std::to_string(spec.classes)},
          {"side of pictures", std::to_string(raw_side(spec, pictures))}};
}

std::int64_t cache_bytes(const JobSpec& spec, const std::optional<PictureList>& pictures,
                         const MemoryLimit& memory) {
  if (!pictures || !spec.input.cache) return 0;
  const std::int64_t side = raw_side(spec, pictures);
  const auto count = static_cast<std::int64_t>(pictures->pictures.size());
  return std::min(count * 3 * side * side, memory.free_bytes / 4);
}

std::unique_ptr<BatchSource> open_source(const JobSpec& spec,
                                         const std::optional<PictureList>& pictures,
                                         const SourceOptions& of_rank) {
  if (!pictures) {
    return std::make_unique<SyntheticSource>(spec.seed, of_rank.shard, spec.batch_size,
                                             spec.image_size, spec.classes);
  }
  PicturesOptions options;
  options.batch = spec.batch_size;
  options.size = spec.image_size;
  options.rank = of_rank.shard;
  options.ranks = of_rank.shards;
  options.seed = spec.seed;
  options.decode_threads = spec.input.decode_threads.value_or(1);
  options.queue_depth = spec.input.queue_depth.value_or(3);
  options.cache = spec.input.cache;
  options.cache_bytes = of_rank.cache_bytes;
  options.augment = augment_of(spec);
  options.raw = of_rank.raw;
  options.decoder = of_rank.decoder;
  return std::make_unique<PicturesSource>(*pictures, options);
}

std::shared_ptr<FileDecoder> open_decoder(const JobSpec& spec, Backend& backend) {
  if (spec.input.kind != InputKind::kImages || spec.input.decode_device != Device::kGpu) {
    return nullptr;
  }
  try {
    return backend.open_file_decoder();
  } catch (const std::runtime_error& error) {
    throw Failure(Reason::kSpecUnsupported,
                  std::string("input.decode_device is gpu: ") + error.what());
  }
}

void note_decoder(const FileDecoder* decoder, protocol::HelloEvent& hello) {
  if (decoder == nullptr) return;
  hello.libraries[decoder->library()] = decoder->version();
  hello.notes["pictures decoded by"] = decoder->library() + " " + decoder->version();
}

Batch batch_of(const InputBatch& input) {
  return {.images = input.images,
          .labels = input.labels,
          .identity = input.identity,
          .raw = input.raw()};
}

protocol::HelloEvent hello_of(const JobSpec& spec, const PlanFacts& facts, const Net& net,
                              const Communicator& ranks, bool reads_pictures) {
  protocol::HelloEvent hello;
  hello.ranks = ranks.size();
  hello.host = host_name();
  hello.pid = ::getpid();
  hello.model = spec.model;
  hello.backend = facts.backend;
  hello.precision = json::enum_name(spec.precision);
  hello.isa = facts.isa;
  hello.engine_revision = engine_revision();
  hello.libraries = facts.libraries;
  for (const auto& [name, version] : ranks.libraries()) hello.libraries[name] = version;
  if (reads_pictures && spec.input.kind == InputKind::kImages) {
    hello.libraries["libjpeg_turbo"] = libjpeg_version();
  }
  hello.notes = facts.notes;
  hello.notes["fusion"] = facts.fusion;
  hello.threads = facts.threads;
  hello.parameters = net.parameter_count();
  hello.arena_bytes = facts.arena_bytes;
  const bool infers = spec.mode == Mode::kInference;
  hello.forward_gflop_per_image =
      (infers ? net.inference_flop_per_image() : net.forward_flop_per_image()) * 1e-9;
  return hello;
}

std::unique_ptr<Backend> choose_backend(const JobSpec& spec, const std::string& by_name) try {
  if (by_name.empty()) return backend_for(json::enum_name(spec.resources.device));
  auto backend = load_backend(by_name);
  std::string why_not;
  if (backend->usable(&why_not)) return backend;
  throw std::runtime_error("backend '" + by_name + "' cannot be used here: " + why_not);
} catch (const std::runtime_error& error) {
  std::string why = error.what();
  const char* gpus = std::getenv("CUDA_VISIBLE_DEVICES");
  if (spec.resources.device == Device::kGpu && gpus != nullptr) {
    why += " (CUDA_VISIBLE_DEVICES=" + std::string(gpus) + ")";
  }
  throw Failure(Reason::kSpecUnsupported, why);
}

std::optional<double> measure_matrix_peak(Backend& backend, Communicator& ranks,
                                          const JobSpec& spec) {
  constexpr double kPeakSeconds = 0.25;
  ranks.barrier();
  return backend.matrix_peak(json::enum_name(spec.precision),
                             static_cast<int>(spec.resources.threads_per_worker.value_or(0)),
                             kPeakSeconds);
}

std::string fusion_name(const JobSpec& spec) { return spec.fusion == "best" ? "" : spec.fusion; }

SgdSchedule schedule_of(const JobSpec& spec) {
  // A schedule needs a number of steps (common/domain refuses it without); constant does not.
  const std::int64_t planned = spec.steps.warmup + spec.steps.measured.value_or(0);
  return [optimizer = spec.optimizer, planned](std::int64_t step) {
    return SgdStep{.learning_rate = learning_rate(optimizer, step, planned),
                   .momentum = optimizer.momentum,
                   .weight_decay = optimizer.weight_decay};
  };
}

ServerSetup server_setup(const JobSpec& spec) {
  return {
      .workers = worker_count(spec), .spec = spec.parameter_server, .schedule = schedule_of(spec)};
}

bool exchanges_in_step(const JobSpec& spec) {
  if (spec.variable_update == VariableUpdate::kIndependent) return false;
  return spec.variable_update != VariableUpdate::kParameterServer ||
         spec.parameter_server.consistency == Consistency::kSync;
}

LoopOptions loop_of(const JobSpec& spec) {
  LoopOptions loop;
  loop.warmup = spec.steps.warmup;
  loop.measured = spec.steps.measured;
  loop.measured_seconds = spec.steps.measured_seconds;
  return loop;
}

void add_report(protocol::SummaryEvent& summary, const InputReport& report) {
  summary.pictures_read += report.pictures_read;
  summary.pictures_broken += report.pictures_broken;
  summary.pictures_left_to_cpu += report.left_to_cpu;
  for (const std::string& path : report.broken_pictures) {
    if (summary.broken_pictures.size() < kBrokenPicturesNamed) {
      summary.broken_pictures.push_back(path);
    }
  }
}

}  // namespace rackmark::worker

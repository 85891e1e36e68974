// What a rank does before its first step, whether it trains or infers.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "common/domain/spec.hpp"
#include "common/protocol/worker_event.hpp"
#include "worker/backend/backend.hpp"
#include "worker/collective/communicator.hpp"
#include "worker/collective/parameter_server.hpp"
#include "worker/input/batch_source.hpp"
#include "worker/input/picture_list.hpp"
#include "worker/train/loop.hpp"

namespace rackmark::worker {

// The other ranks; Failure(launch_failed) when they cannot be reached.
std::unique_ptr<Communicator> find_ranks(const JobSpec& spec);

// Failure(launch_failed) when not as many ranks were started as the spec wants (dedicated servers
// included), or when another one runs another spec or another engine. `more` is part of what must
// be equal.
void agree_on_spec(Communicator& ranks, const JobSpec& spec,
                   std::map<std::string, std::string> more = {});

// The spec's data set, nothing for synthetic pictures. Sets spec.classes where the data set decides
// it. Failure(input_unavailable) when its classes or the size of its pictures do not fit.
std::optional<PictureList> find_pictures(JobSpec& spec);

// Side of the pictures in the data set's raw batches (InputBatch::side); 0 without a data set.
std::int64_t raw_side(const JobSpec& spec, const std::optional<PictureList>& pictures);

// What ranks must know alike of the data set (require_agreement); as notes of a hello they say what
// was read. Empty for synthetic pictures.
std::map<std::string, std::string> input_facts(const JobSpec& spec,
                                               const std::optional<PictureList>& pictures);

// What input.cache may take in a worker: all decoded pictures, but no more than a quarter of what
// was free when it started. 0 without a cache.
std::int64_t cache_bytes(const JobSpec& spec, const std::optional<PictureList>& pictures,
                         const MemoryLimit& memory);

struct SourceOptions {
  std::int64_t shard = 0, shards = 1;  // of the data set
  bool raw = false;  // bytes and windows instead of normalised values; synthetic are always values
  std::int64_t cache_bytes = 0;
  std::shared_ptr<FileDecoder> decoder;  // null: the CPU
};
// Batches of the spec's size, augmented as the spec says, which only training can.
std::unique_ptr<BatchSource> open_source(const JobSpec& spec,
                                         const std::optional<PictureList>& pictures,
                                         const SourceOptions& of_rank);

// What decodes the spec's pictures instead of the CPU; null: nothing does.
// Failure(spec_unsupported) saying what is missing.
std::shared_ptr<FileDecoder> open_decoder(const JobSpec& spec, Backend& backend);
// What decides pictures is among the libraries of a run. `decoder` may be null.
void note_decoder(const FileDecoder* decoder, protocol::HelloEvent& hello);

// What a plan reads of it, while it is kept.
Batch batch_of(const InputBatch& input);

// The backend of that name, else the one of the spec's device; Failure(spec_unsupported) saying
// what is missing.
std::unique_ptr<Backend> choose_backend(const JobSpec& spec, const std::string& by_name);

// All members that do not depend on the mode.
protocol::HelloEvent hello_of(const JobSpec& spec, const PlanFacts& facts, const Net& net,
                              const Communicator& ranks, bool reads_pictures);

// GFLOP/s of the fastest matrix product in the spec's precision, in a quarter of a second. All
// ranks at the same time, so that what they reach together is the peak of their host. Null:
// emulated.
std::optional<double> measure_matrix_peak(Backend& backend, Communicator& ranks,
                                          const JobSpec& spec);

// What PlanOptions and InferOptions call it: "" is the backend's best.
std::string fusion_name(const JobSpec& spec);
// The learning rate and the rest of the optimizer for each step.
SgdSchedule schedule_of(const JobSpec& spec);

// What workers and servers of variable_update parameter_server must know alike.
ServerSetup server_setup(const JobSpec& spec);

// Whether a rank's step needs something of every other rank's step, so that all must make equally
// many: false for independent ranks, and for servers that answer each worker by itself.
bool exchanges_in_step(const JobSpec& spec);

LoopOptions loop_of(const JobSpec& spec);  // how long to warm up and to measure

void add_report(protocol::SummaryEvent& summary, const InputReport& report);

}  // namespace rackmark::worker

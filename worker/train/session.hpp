// What a rank does with a spec, and how it trains one: ranks, plan, input, exchange. Built once,
// run once.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/domain/spec.hpp"
#include "worker/backend/backend.hpp"
#include "worker/backend/memory_limit.hpp"
#include "worker/collective/communicator.hpp"
#include "worker/collective/gradient_exchange.hpp"
#include "worker/input/batch_source.hpp"
#include "worker/input/picture_list.hpp"
#include "worker/measure/events.hpp"
#include "worker/train/batch_search.hpp"
#include "worker/train/loop.hpp"
#include "worker/train/tf_output.hpp"

namespace rackmark::worker {

struct SessionOptions {
  JobSpec spec;                    // resolved for this host
  std::string backend;             // "": the best one of this host
  std::int64_t micro_batches = 1;  // test option; more only with a single rank
  std::string dump_path;           // "": none; written by rank 0
  bool tf_output = false;
  bool show_profile = false;  // the table of a profile on standard error
  MemoryLimit memory;         // of this process when it started: equal starts, equal batches
};

// One rank's work, whatever the mode. Failures are exceptions: Failure, OutOfMemory, Terminated,
// EventsLost, or std::exception for a broken world. After one the object must not be destroyed
// while peers may be stuck in an exchange with it: report, abort the communicator, end the process
// (run.cpp).
class RankSession {
 public:
  virtual ~RankSession() = default;
  virtual void connect() = 0;               // finds the other ranks
  virtual void set_up() = 0;                // net, plan, input; sends hello
  virtual void run() = 0;                   // warm-up, window, summary
  virtual Communicator* ranks() = 0;        // null before connect()
  virtual const JobSpec& spec() const = 0;  // with "max" its batch, once it is known
};

class Session final : public RankSession {  // trains
 public:
  // `stop` turns true when the process has been asked to end.
  Session(SessionOptions options, Events& events, const Clock& clock,
          const std::atomic<bool>& stop);
  void connect() override;
  void set_up() override;
  void run() override;
  Communicator* ranks() override { return all_.get(); }
  const JobSpec& spec() const override { return options_.spec; }

 private:
  void fit_memory(const Net& net);
  void search_batch(const BatchMemory& memory);
  void open_input();
  void choose_exchange();
  void send_hello();
  void check() const;
  void profile();
  void finish(const Window& window);
  std::int64_t images_per_step() const { return options_.spec.batch_size * options_.micro_batches; }

  SessionOptions options_;
  Events& events_;
  const Clock& clock_;
  const std::atomic<bool>& stop_;
  std::unique_ptr<Communicator> all_;    // dedicated servers included
  std::unique_ptr<Communicator> ranks_;  // the workers
  std::optional<PictureList> pictures_;
  std::unique_ptr<Backend> backend_;
  PlanOptions plan_options_;
  std::unique_ptr<TrainPlan> plan_;
  std::shared_ptr<FileDecoder> decoder_;              // of pictures; null: the CPU
  std::vector<std::unique_ptr<BatchSource>> inputs_;  // one a micro-batch
  std::unique_ptr<GradientExchange> exchange_;
  std::optional<TfOutput> tf_;
  std::optional<double> setup_s_, matrix_peak_gflops_;
  std::int64_t skipped_before_ = 0;  // the measured window
  std::vector<protocol::AllReduceTime> all_reduce_times_;
  std::optional<protocol::BatchSearch> batch_search_;
  std::vector<double> compute_ms_;  // measured steps without their waits; only for a profile
};

}  // namespace rackmark::worker

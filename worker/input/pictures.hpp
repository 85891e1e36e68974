// Last stage: batches of real pictures, prepared ahead by threads.
//
//   list -> order (shard, shuffle) -> [read -> decode -> cache] x decode_threads -> batch -> queue
//
// Batches come in the order of PictureOrder whatever thread is faster: two runs see the same
// pictures. A broken picture is named once on standard error (the first 20 of them), counted, and
// the next one of the order takes its place.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "worker/input/batch_source.hpp"
#include "worker/input/picture_list.hpp"
#include "worker/input/picture_loader.hpp"
#include "worker/input/picture_order.hpp"

namespace rackmark::worker {

struct PicturesOptions {
  std::int64_t batch = 1, size = 224;
  std::int64_t rank = 0, ranks = 1, seed = 1;
  std::int64_t decode_threads = 1, queue_depth = 2;  // queue: batches prepared ahead
  bool cache = false, shuffle = true;
  std::int64_t cache_bytes = std::int64_t{1} << 60;
};

class PicturesSource : public BatchSource {
 public:
  PicturesSource(PictureList list, const PicturesOptions& options);
  PicturesSource(const PicturesSource&) = delete;
  PicturesSource& operator=(const PicturesSource&) = delete;
  ~PicturesSource() override;

  const InputBatch& next() override;
  InputReport report() const override;

 private:
  struct Loaded {
    std::shared_ptr<const Pixels> pixels;  // null: broken
    std::int32_t label = 0;
  };

  void decode_loop();
  void batch_loop();
  Loaded load(std::int64_t index);
  void note_broken(std::int64_t index, const std::string& why);
  void write_picture(const Loaded& picture, std::size_t place, InputBatch& batch) const;
  void stop_with(std::exception_ptr error);

  const PictureList list_;
  const PicturesOptions options_;
  std::unique_ptr<PictureLoader> loader_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  PictureOrder order_;
  std::int64_t next_ticket_ = 0, consumed_ = 0;  // tickets handed to decoders, taken by the batcher
  std::map<std::int64_t, Loaded> loaded_;        // by ticket
  std::deque<InputBatch> ready_, spare_;
  InputBatch current_;
  InputReport report_;
  std::set<std::int64_t> broken_;  // indices met so far
  std::exception_ptr error_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace rackmark::worker

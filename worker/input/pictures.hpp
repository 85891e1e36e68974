// Last stage: batches of real pictures, prepared ahead by threads.
//
//   list -> order (shard, shuffle) -> [read -> decode -> cache -> window] x decode_threads -> queue
//
// Threads write straight into the picture's place of a batch, as bytes or normalised. Batches come
// in the order of PictureOrder whatever thread is faster: two runs see the same pictures. A broken
// picture is named once on standard error (the first 20 of them), counted, and the next one of the
// order takes its place; from then on one thread moves pictures up, which costs a copy.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "worker/input/augment.hpp"
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
  Augment augment;
  bool raw = false;  // batches of bytes and windows instead of normalised values
  std::shared_ptr<FileDecoder> decoder;  // of files; null: the CPU
};

// Batches that a source holds at most: prepared ahead, being made, in use, and with files, which
// may be broken, one in which pictures move up.
constexpr std::int64_t batches_held(std::int64_t queue_depth, bool of_files) {
  return queue_depth + 2 + (of_files ? 1 : 0);
}

// Side of the pictures that windows of size x size are cut from: that of packed ones; of files the
// size itself or, where the window is random, what resizing makes of the shortest side.
std::int64_t picture_side(const PictureList& list, std::int64_t size, bool crop);

class PicturesSource : public BatchSource {
 public:
  // Throws std::invalid_argument when the list's pictures are smaller than options.size.
  PicturesSource(PictureList list, const PicturesOptions& options);
  PicturesSource(const PicturesSource&) = delete;
  PicturesSource& operator=(const PicturesSource&) = delete;
  ~PicturesSource() override;

  const InputBatch& next() override;
  InputReport report() const override;

 private:
  struct Making {  // a batch that threads are writing
    InputBatch batch;
    std::vector<std::uint8_t> whole;  // by place: 0 while it is awaited, and where it is broken
    std::size_t awaited = 0;          // places that nobody has finished yet
  };

  void decode_loop();
  bool may_draw() const;
  Making& drawn_from();
  bool load(std::int64_t index, std::int64_t epoch, std::size_t place, InputBatch& batch,
            Pixels& scratch);
  void note_broken(std::int64_t index, const std::string& why);

  void queue_loop();
  void count_broken(const Making& made);
  void hand_over(Making& made);
  InputBatch blank();
  void stop_with(std::exception_ptr error);

  const PictureList list_;
  const PicturesOptions options_;
  const std::int64_t side_;
  const std::size_t depth_;
  std::unique_ptr<PictureLoader> loader_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  PictureOrder order_;
  std::deque<Making> making_;   // oldest first; places are handed out of the last one
  std::size_t next_place_ = 0;  // of the last one
  std::deque<InputBatch> ready_, spare_;
  InputBatch current_;
  InputReport report_;
  std::set<std::int64_t> broken_;  // indices met so far
  std::exception_ptr error_;
  bool stopping_ = false;

  // Of the queue's thread alone.
  InputBatch rest_;  // begins with the pictures that are left of batches with broken ones
  std::size_t rest_count_ = 0;
  std::int64_t broken_in_a_row_ = 0;

  std::vector<std::thread> threads_;
};

}  // namespace rackmark::worker

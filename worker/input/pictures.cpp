#include "worker/input/pictures.hpp"

#include <algorithm>
#include <cstdio>
#include <stdexcept>
#include <utility>

#include "worker/failure.hpp"
#include "worker/input/crop_resampler.hpp"
#include "worker/input/jpeg.hpp"
#include "worker/input/packed_shards.hpp"

namespace rackmark::worker {

namespace {

constexpr std::size_t kMaxNamed = 20;

std::unique_ptr<PictureLoader> loader_of(const PictureList& list, const PicturesOptions& options,
                                         std::int64_t side) {
  std::unique_ptr<PictureLoader> loader;
  if (list.shards) {
    loader = std::make_unique<PackedLoader>(list.shards);
  } else {
    loader = std::make_unique<FileLoader>(list, resized_side(options.size), side, options.decoder);
  }
  if (!options.cache) return loader;
  return std::make_unique<CachedLoader>(
      std::move(loader), static_cast<std::int64_t>(list.pictures.size()), options.cache_bytes);
}

// Values of one picture, wherever a batch keeps them.
template <class Values>
auto part(Values& values, std::size_t place, std::size_t places) {
  const std::size_t each = values.size() / places;
  return std::span(values).subspan(place * each, each);
}

template <class Values>
void copy_part(Values& from, std::size_t at, Values& to, std::size_t place, std::size_t places) {
  const auto values = part(from, at, places);
  std::copy(values.begin(), values.end(), part(to, place, places).begin());
}

void copy_picture(InputBatch& from, std::size_t at, InputBatch& to, std::size_t place,
                  std::size_t places) {
  copy_part(from.labels, at, to.labels, place, places);
  copy_part(from.images, at, to.images, place, places);
  copy_part(from.pixels, at, to.pixels, place, places);
  copy_part(from.windows, at, to.windows, place, places);
}

}  // namespace

std::int64_t picture_side(const PictureList& list, std::int64_t size, bool crop) {
  if (list.shards) return list.shards->index().side;
  return crop ? resized_side(size) : size;
}

PicturesSource::PicturesSource(PictureList list, const PicturesOptions& options)
    : list_(std::move(list)),
      options_(options),
      side_(picture_side(list_, options.size, options.augment.crop)),
      depth_(static_cast<std::size_t>(std::max<std::int64_t>(1, options.queue_depth))),
      loader_(loader_of(list_, options, side_)),
      order_(static_cast<std::int64_t>(list_.pictures.size()), options.rank, options.ranks,
             options.seed, options.shuffle) {
  if (side_ < options_.size) {
    throw std::invalid_argument("pictures of " + std::to_string(side_) +
                                " pixels hold no window of " + std::to_string(options_.size));
  }
  for (std::int64_t i = 0; i < std::max<std::int64_t>(1, options_.decode_threads); ++i) {
    threads_.emplace_back([this] { decode_loop(); });
  }
  threads_.emplace_back([this] { queue_loop(); });
}

PicturesSource::~PicturesSource() {
  stop_with(nullptr);
  for (std::thread& thread : threads_) thread.join();
}

const InputBatch& PicturesSource::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !ready_.empty() || error_; });
  if (ready_.empty()) std::rethrow_exception(error_);
  if (!current_.labels.empty()) spare_.push_back(std::move(current_));
  current_ = std::move(ready_.front());
  ready_.pop_front();
  lock.unlock();
  changed_.notify_all();
  return current_;
}

InputReport PicturesSource::report() const {
  const std::lock_guard lock(mutex_);
  InputReport report = report_;
  report.left_to_cpu = loader_->left_to_cpu();
  return report;
}

void PicturesSource::stop_with(std::exception_ptr error) {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    if (!error_) error_ = std::move(error);
  }
  changed_.notify_all();
}

// --- threads that read and decode

void PicturesSource::decode_loop() try {
  Pixels scratch;
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || may_draw(); });
    if (stopping_) return;
    Making& making = drawn_from();
    const std::size_t place = next_place_++;
    const std::int64_t index = order_.next(), epoch = order_.epoch();
    lock.unlock();
    const bool whole = load(index, epoch, place, making.batch, scratch);
    lock.lock();
    if (whole) ++report_.pictures_read;
    making.whole[place] = whole ? 1 : 0;
    if (--making.awaited == 0) changed_.notify_all();
  }
} catch (...) {  // out of memory while decoding: the training thread must hear of it
  stop_with(std::current_exception());
}

// Batches are bounded: those that are ready and those that are being made together.
bool PicturesSource::may_draw() const {
  const bool places_left = !making_.empty() && next_place_ < making_.back().whole.size();
  return places_left || making_.size() + ready_.size() <= depth_;
}

// The batch that the next place is handed out of.
PicturesSource::Making& PicturesSource::drawn_from() {
  if (making_.empty() || next_place_ == making_.back().whole.size()) {
    const auto batch = static_cast<std::size_t>(options_.batch);
    making_.push_back(
        {.batch = blank(), .whole = std::vector<std::uint8_t>(batch), .awaited = batch});
    next_place_ = 0;
  }
  return making_.back();
}

// A batch to write to, under the lock; its memory is one that has been used, where there is one.
InputBatch PicturesSource::blank() {
  InputBatch batch;
  if (!spare_.empty()) {
    batch = std::move(spare_.front());
    spare_.pop_front();
  }
  const auto count = static_cast<std::size_t>(options_.batch);
  batch.labels.resize(count);
  if (options_.raw) {
    batch.pixels.resize(count * static_cast<std::size_t>(side_ * side_ * 3));
    batch.windows.resize(count);
    batch.side = static_cast<int>(side_);
  } else {
    batch.images.resize(count * static_cast<std::size_t>(options_.size * options_.size * 3));
  }
  return batch;
}

// Fills one place; false when the picture is broken.
bool PicturesSource::load(std::int64_t index, std::int64_t epoch, std::size_t place,
                          InputBatch& batch, Pixels& scratch) try {
  const auto places = static_cast<std::size_t>(options_.batch);
  const PictureWindow window =
      choose_window(options_.augment, side_, options_.size, options_.seed, epoch, index);
  batch.labels[place] = list_.pictures[static_cast<std::size_t>(index)].label;
  if (options_.raw) {
    batch.windows[place] = window;
    loader_->load(index, part(batch.pixels, place, places));
    return true;
  }
  scratch.resize(static_cast<std::size_t>(side_ * side_ * 3));
  loader_->load(index, scratch);
  normalise({scratch, {&window, 1}, static_cast<int>(side_)}, static_cast<int>(options_.size),
            part(batch.images, place, places));
  return true;
} catch (const BrokenPicture& broken) {
  note_broken(index, broken.what());
  return false;
}

void PicturesSource::note_broken(std::int64_t index, const std::string& why) {
  const std::lock_guard lock(mutex_);
  if (!broken_.insert(index).second) return;  // counted and named once, however often it comes up
  ++report_.pictures_broken;
  if (broken_.size() > kMaxNamed) {
    if (broken_.size() == kMaxNamed + 1) {
      std::fprintf(stderr, "input: more than %zu broken pictures; no more of them are named\n",
                   kMaxNamed);
    }
    return;
  }
  const std::string& path = list_.pictures[static_cast<std::size_t>(index)].path;
  report_.broken_pictures.push_back(path);
  std::fprintf(stderr, "input: broken picture %s: %s\n", path.c_str(), why.c_str());
}

// --- the thread that hands over

void PicturesSource::queue_loop() try {
  for (;;) {
    std::unique_lock lock(mutex_);
    changed_.wait(
        lock, [this] { return stopping_ || (!making_.empty() && making_.front().awaited == 0); });
    if (stopping_) return;
    Making& made = making_.front();  // stays where it is while others are added behind it
    lock.unlock();
    count_broken(made);
    hand_over(made);
    changed_.notify_all();
  }
} catch (...) {
  stop_with(std::current_exception());
}

void PicturesSource::count_broken(const Making& made) {
  for (const std::uint8_t whole : made.whole) {
    broken_in_a_row_ = whole != 0 ? 0 : broken_in_a_row_ + 1;
    if (broken_in_a_row_ < order_.epoch_length()) continue;
    throw Failure(Reason::kInputBroken, "input.path '" + list_.root + "': none of the " +
                                            std::to_string(order_.epoch_length()) +
                                            " pictures of this rank can be decoded");
  }
}

// Whole pictures complete what is left of earlier batches; those after them close up, and are the
// next batch if none is missing, else what is left.
void PicturesSource::hand_over(Making& made) {
  const std::size_t places = made.whole.size();
  std::size_t stay = 0;
  for (std::size_t at = 0; at < places; ++at) {
    if (made.whole[at] == 0) continue;
    if (rest_count_ > 0 && rest_count_ < places) {
      copy_picture(made.batch, at, rest_, rest_count_++, places);
    } else {
      if (stay != at) copy_picture(made.batch, at, made.batch, stay, places);
      ++stay;
    }
  }
  const std::lock_guard lock(mutex_);
  if (rest_count_ == places) {
    ready_.push_back(std::move(rest_));
    rest_count_ = 0;
  }
  if (stay == places) {
    ready_.push_back(std::move(made.batch));
  } else if (stay > 0) {
    rest_ = std::move(made.batch);
    rest_count_ = stay;
  } else {
    spare_.push_back(std::move(made.batch));
  }
  making_.pop_front();
}

}  // namespace rackmark::worker

#include "worker/input/pictures.hpp"

#include <array>
#include <cstdio>
#include <utility>

#include "worker/failure.hpp"
#include "worker/input/jpeg.hpp"

namespace rackmark::worker {

namespace {

constexpr std::size_t kMaxNamed = 20;
constexpr std::array<float, 3> kMean = {0.485F, 0.456F, 0.406F};  // of ImageNet, as everybody's
constexpr std::array<float, 3> kDeviation = {0.229F, 0.224F, 0.225F};

}  // namespace

PicturesSource::PicturesSource(PictureList list, const PicturesOptions& options)
    : list_(std::move(list)),
      options_(options),
      loader_(std::make_unique<FileLoader>(list_, options.size)),
      order_(static_cast<std::int64_t>(list_.pictures.size()), options.rank, options.ranks,
             options.seed, options.shuffle) {
  if (options_.cache) {
    loader_ = std::make_unique<CachedLoader>(
        std::move(loader_), static_cast<std::int64_t>(list_.pictures.size()), options_.cache_bytes);
  }
  for (std::int64_t i = 0; i < std::max<std::int64_t>(1, options_.decode_threads); ++i) {
    threads_.emplace_back([this] { decode_loop(); });
  }
  threads_.emplace_back([this] { batch_loop(); });
}

PicturesSource::~PicturesSource() {
  stop_with(nullptr);
  for (std::thread& thread : threads_) thread.join();
}

const InputBatch& PicturesSource::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !ready_.empty() || error_; });
  if (ready_.empty()) std::rethrow_exception(error_);
  if (!current_.images.empty()) spare_.push_back(std::move(current_));
  current_ = std::move(ready_.front());
  ready_.pop_front();
  lock.unlock();
  changed_.notify_all();
  return current_;
}

InputReport PicturesSource::report() const {
  const std::lock_guard lock(mutex_);
  return report_;
}

void PicturesSource::stop_with(std::exception_ptr error) {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    if (!error_) error_ = std::move(error);
  }
  changed_.notify_all();
}

void PicturesSource::decode_loop() try {
  // Decoded pictures that wait for the batcher are bounded, too.
  const std::int64_t window =
      options_.batch + 2 * std::max<std::int64_t>(1, options_.decode_threads);
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stopping_ || next_ticket_ < consumed_ + window; });
    if (stopping_) return;
    const std::int64_t ticket = next_ticket_++;
    const std::int64_t index = order_.next();
    lock.unlock();
    Loaded picture = load(index);
    lock.lock();
    if (picture.pixels) ++report_.pictures_read;
    loaded_.emplace(ticket, std::move(picture));
    changed_.notify_all();
  }
} catch (...) {  // out of memory while decoding: the training thread must hear of it
  stop_with(std::current_exception());
}

PicturesSource::Loaded PicturesSource::load(std::int64_t index) {
  Loaded picture;
  picture.label = list_.pictures[static_cast<std::size_t>(index)].label;
  try {
    picture.pixels = loader_->load(index);
  } catch (const BrokenPicture& broken) {
    note_broken(index, broken.what());
  }
  return picture;
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

void PicturesSource::batch_loop() try {
  const auto batch = static_cast<std::size_t>(options_.batch);
  std::int64_t broken_in_a_row = 0;
  for (;;) {
    InputBatch making;
    {
      const std::lock_guard lock(mutex_);
      if (!spare_.empty()) {
        making = std::move(spare_.front());
        spare_.pop_front();
      }
    }
    making.images.resize(batch * 3 * static_cast<std::size_t>(options_.size * options_.size));
    making.labels.resize(batch);
    for (std::size_t place = 0; place < batch;) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || loaded_.contains(consumed_); });
      if (stopping_) return;
      const Loaded picture = std::move(loaded_.extract(consumed_++).mapped());
      lock.unlock();
      changed_.notify_all();
      if (picture.pixels) {
        write_picture(picture, place++, making);
        broken_in_a_row = 0;
      } else if (++broken_in_a_row >= order_.epoch_length()) {
        throw Failure(Reason::kInputBroken, "input.path '" + list_.root + "': none of the " +
                                                std::to_string(order_.epoch_length()) +
                                                " pictures of this rank can be decoded");
      }
    }
    std::unique_lock lock(mutex_);
    const auto depth = static_cast<std::size_t>(std::max<std::int64_t>(1, options_.queue_depth));
    changed_.wait(lock, [&] { return stopping_ || ready_.size() < depth; });
    if (stopping_) return;
    ready_.push_back(std::move(making));
    lock.unlock();
    changed_.notify_all();
  }
} catch (...) {
  stop_with(std::current_exception());
}

void PicturesSource::write_picture(const Loaded& picture, std::size_t place,
                                   InputBatch& batch) const {
  const auto area = static_cast<std::size_t>(options_.size * options_.size);
  batch.labels[place] = picture.label;
  for (std::size_t c = 0; c < 3; ++c) {
    const float scale = 1.0F / (255.0F * kDeviation[c]);
    const float shift = -kMean[c] / kDeviation[c];
    const std::uint8_t* from = picture.pixels->data() + c;
    float* to = batch.images.data() + (place * 3 + c) * area;
    for (std::size_t i = 0; i < area; ++i) to[i] = static_cast<float>(from[i * 3]) * scale + shift;
  }
}

}  // namespace rackmark::worker

#include "worker/input/pack.hpp"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <future>
#include <optional>
#include <system_error>
#include <thread>

#include "worker/failure.hpp"
#include "worker/input/jpeg.hpp"
#include "worker/input/packed_shards.hpp"
#include "worker/input/shard_writer.hpp"

namespace rackmark::worker {

namespace {

namespace fs = std::filesystem;

// Pictures that are decoded before they are written: so many, in memory that does not grow with
// side or threads.
constexpr std::int64_t kRoundPerThread = 32, kRoundBytes = std::int64_t{512} << 20;

std::int64_t pictures_of_round(std::int64_t threads, std::int64_t side) {
  return std::clamp<std::int64_t>(kRoundBytes / packed_picture_bytes(side), 1,
                                  threads * kRoundPerThread);
}

// The folder that is written; without what was written unless that is kept.
class OutFolder {
 public:
  explicit OutFolder(const std::string& path) : path_(path) {
    std::error_code error;
    made_ = fs::create_directory(path_, error);
    if (error) throw OutRefused("--out '" + path + "' cannot be made: " + error.message());
    const bool empty = fs::is_directory(path_, error) && fs::is_empty(path_, error);
    if (!empty || error) {
      throw OutRefused("--out '" + path + "' is no empty folder; nothing is overwritten");
    }
  }
  OutFolder(const OutFolder&) = delete;
  OutFolder& operator=(const OutFolder&) = delete;
  ~OutFolder() {
    if (kept_) return;
    std::error_code ignored;
    for (const fs::path& file : files_) fs::remove(file, ignored);
    if (made_) fs::remove(path_, ignored);
  }
  const fs::path& path() const { return path_; }
  void add(const std::string& name) { files_.push_back(path_ / name); }
  void keep() { kept_ = true; }

 private:
  const fs::path path_;
  std::vector<fs::path> files_;
  bool made_ = false, kept_ = false;
};

struct DecodedPicture {
  Pixels pixels;
  std::string why_broken;
};

// Pictures from `first` on, by so many threads.
std::vector<DecodedPicture> decode_pictures(PictureLoader& loader, std::int64_t first,
                                            std::size_t count, std::int64_t side,
                                            std::int64_t threads) {
  std::vector<DecodedPicture> decoded(count);
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    for (std::size_t i = next++; i < count; i = next++) {
      decoded[i].pixels.resize(static_cast<std::size_t>(packed_picture_bytes(side)));
      try {
        loader.load(first + static_cast<std::int64_t>(i), decoded[i].pixels);
      } catch (const BrokenPicture& broken) {
        decoded[i].why_broken = broken.what();
      }
    }
  };
  std::vector<std::future<void>> workers;
  const std::int64_t useful = std::min(threads, static_cast<std::int64_t>(count));
  for (std::int64_t t = 0; t < useful; ++t) {
    workers.push_back(std::async(std::launch::async, work));
  }
  for (auto& worker : workers) worker.get();
  return decoded;
}

class Packer {
 public:
  Packer(const PackOptions& options, PictureList list)
      : options_(options),
        threads_(options.threads > 0
                     ? options.threads
                     : std::max<std::int64_t>(1, std::thread::hardware_concurrency())),
        list_(std::move(list)),
        folder_(options.out) {
    index_.side = options.side;
    index_.classes = list_.classes;
  }

  PackReport run() {
    FileLoader loader(list_, options_.side, options_.side);
    const auto all = static_cast<std::int64_t>(list_.pictures.size());
    const std::int64_t round = pictures_of_round(threads_, options_.side);
    for (std::int64_t first = 0; first < all; first += round) {
      const auto count = static_cast<std::size_t>(std::min(round, all - first));
      add(first, decode_pictures(loader, first, count, options_.side, threads_));
    }
    if (writer_) close_shard();
    if (index_.pictures == 0) {
      throw Failure(Reason::kInputBroken, "--pictures '" + list_.root + "': none of the " +
                                              std::to_string(all) + " pictures can be decoded");
    }
    write_index();
    folder_.keep();
    report_.pictures = index_.pictures;
    report_.classes = static_cast<std::int64_t>(index_.classes.size());
    report_.shards = static_cast<std::int64_t>(index_.shards.size());
    return report_;
  }

 private:
  void add(std::int64_t first, const std::vector<DecodedPicture>& decoded) {
    for (std::size_t i = 0; i < decoded.size(); ++i) {
      const ListedPicture& picture = list_.pictures[static_cast<std::size_t>(first) + i];
      if (!decoded[i].why_broken.empty()) {
        report_.broken.push_back(picture.path + ": " + decoded[i].why_broken);
        std::fprintf(stderr, "pack: broken picture %s\n", report_.broken.back().c_str());
        continue;
      }
      if (!writer_) open_shard();
      writer_->append(decoded[i].pixels, picture.label);
      if (writer_->pictures() == options_.shard_pictures) close_shard();
    }
  }

  void open_shard() {
    const auto number = static_cast<std::uint32_t>(index_.shards.size());
    folder_.add(shard_name(number));
    writer_.emplace(folder_.path(),
                    ShardHeader{.number = number,
                                .side = static_cast<std::uint32_t>(options_.side),
                                .classes = static_cast<std::uint32_t>(list_.classes.size())});
  }

  // Checksums are taken while later pictures are decoded.
  void close_shard() {
    index_.shards.push_back(writer_->finish());
    writer_.reset();
    const PackedShard& shard = index_.shards.back();
    index_.pictures += shard.pictures;
    report_.bytes += shard.bytes;
    std::fprintf(stderr, "pack: %s, %lld pictures of at most %zu\n", shard.file.c_str(),
                 static_cast<long long>(index_.pictures), list_.pictures.size());
    const auto threads = static_cast<std::size_t>(threads_);
    if (digests_.size() >= threads) digests_[digests_.size() - threads].wait();
    digests_.push_back(std::async(std::launch::async, sha256_of_file, folder_.path() / shard.file));
  }

  void write_index() {
    for (std::size_t i = 0; i < digests_.size(); ++i) index_.shards[i].sha256 = digests_[i].get();
    const std::string text = encode_index(index_);
    folder_.add(kPackedIndexName);
    FreshFile file(folder_.path() / kPackedIndexName);
    file.write({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
    file.commit();
  }

  const PackOptions& options_;
  const std::int64_t threads_;
  const PictureList list_;
  OutFolder folder_;
  PackedIndex index_;
  PackReport report_;
  std::optional<ShardWriter> writer_;
  std::vector<std::future<std::string>> digests_;
};

int check_packed(const std::string& root) {
  const PackedShards shards(root, "--check");
  int wrong = 0;
  for (const PackedShard& shard : shards.index().shards) {
    if (sha256_of_file(fs::path(root) / shard.file) == shard.sha256) continue;
    std::fprintf(stderr, "pack: %s/%s is not what was packed: its checksum differs\n", root.c_str(),
                 shard.file.c_str());
    ++wrong;
  }
  if (wrong > 0) return kExitFailure;
  std::printf("%lld pictures in %zu shards are what was packed\n",
              static_cast<long long>(shards.index().pictures), shards.index().shards.size());
  return kExitOk;
}

}  // namespace

PackReport pack_pictures(const PackOptions& options) {
  PictureList list = list_pictures(options.pictures, "--pictures");
  const auto pictures = static_cast<std::int64_t>(list.pictures.size());
  if ((pictures - 1) / options.shard_pictures >= kMaxShards) {
    throw OutRefused("--shard-pictures " + std::to_string(options.shard_pictures) +
                     " would make more than " + std::to_string(kMaxShards) + " shards of " +
                     std::to_string(pictures) + " pictures; allowed: at least " +
                     std::to_string((pictures - 1) / kMaxShards + 1));
  }
  if (static_cast<std::int64_t>(list.classes.size()) > kMaxPackedClasses) {
    throw Failure(Reason::kInputUnavailable,
                  "--pictures '" + list.root + "' has " + std::to_string(list.classes.size()) +
                      " classes, allowed: at most " + std::to_string(kMaxPackedClasses));
  }
  return Packer(options, std::move(list)).run();
}

int run_pack(const PackOptions& options) try {
  if (!options.check.empty()) return check_packed(options.check);
  const PackReport report = pack_pictures(options);
  std::printf(
      "packed %lld pictures of %lld classes, %lld x %lld, %lld shards, %lld bytes; "
      "%zu broken ones left out\n",
      static_cast<long long>(report.pictures), static_cast<long long>(report.classes),
      static_cast<long long>(options.side), static_cast<long long>(options.side),
      static_cast<long long>(report.shards), static_cast<long long>(report.bytes),
      report.broken.size());
  return kExitOk;
} catch (const OutRefused& refused) {
  std::fprintf(stderr, "rackmark-worker: %s\n", refused.what());
  return kExitBadSpec;
}

}  // namespace rackmark::worker

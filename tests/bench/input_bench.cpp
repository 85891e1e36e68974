// How many pictures a second an input source prepares when nothing else does anything, beside what
// the memory allows: each picture is one copy of its bytes at least.
//
//   rackmark-bench-input --packed DIR | --pictures DIR [--size 224] [--batch 256] [--threads 1]
//                        [--queue 3] [--crop] [--flip] [--values] [--seconds 5]
//   rackmark-bench-input --make DIR [--count 8192] [--side 256]     # packed noise
//
// --values: normalised on the host, as for a CPU; else bytes, as for a GPU.
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "worker/input/packed_shards.hpp"
#include "worker/input/pictures.hpp"
#include "worker/input/shard_writer.hpp"
#include "worker/net/net.hpp"

namespace {

using namespace rackmark::worker;

double cpu_s() {
  timespec now{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}
double wall_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Packed noise, where no pictures are at hand: reading does not care.
void make(const std::string& folder, std::int64_t pictures, std::int64_t side) {
  constexpr std::int64_t kClasses = 1000, kPerShard = 8192;
  PackedIndex index;
  index.side = side;
  index.pictures = pictures;
  for (std::int64_t c = 0; c < kClasses; ++c) index.classes.push_back("c" + std::to_string(c));
  Pixels pixels(static_cast<std::size_t>(packed_picture_bytes(side)));
  std::filesystem::create_directories(folder);
  for (std::int64_t first = 0; first < pictures; first += kPerShard) {
    ShardWriter writer(folder, {.number = static_cast<std::uint32_t>(index.shards.size()),
                                .side = static_cast<std::uint32_t>(side),
                                .classes = kClasses});
    for (std::int64_t i = first; i < std::min(pictures, first + kPerShard); ++i) {
      for (std::size_t at = 0; at + 8 <= pixels.size(); at += 8) {
        const std::uint64_t word = splitmix64(static_cast<std::uint64_t>(i) << 32 | at);
        std::memcpy(&pixels[at], &word, sizeof word);
      }
      writer.append(pixels, static_cast<std::int32_t>(i % kClasses));
    }
    index.shards.push_back(writer.finish());
    index.shards.back().sha256 =
        sha256_of_file(std::filesystem::path(folder) / index.shards.back().file);
  }
  const std::string text = encode_index(index);
  FreshFile file(std::filesystem::path(folder) / kPackedIndexName);
  file.write({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  file.commit();
}

// GB/s that one thread copies (bytes counted once) between places of 256 MiB, a picture at a time.
double copy_gb_per_s(std::size_t picture) {
  Pixels from(256 << 20, 1), to(256 << 20, 2);
  const std::size_t places = from.size() / picture;
  double best = 0;
  for (int round = 0; round < 5; ++round) {
    const double start = wall_s();
    for (std::size_t i = 0; i < places; ++i) {
      const std::size_t at = splitmix64(i) % places;
      std::memcpy(&to[i * picture], &from[at * picture], picture);
    }
    best = std::max(best, static_cast<double>(places * picture) / (wall_s() - start) * 1e-9);
  }
  return best;
}

int measure(const PictureList& list, const PicturesOptions& options, double seconds) {
  PicturesSource source(list, options);
  const std::int64_t warm = options.queue_depth + 2;
  for (std::int64_t i = 0; i < warm; ++i) source.next();
  const double start = wall_s(), cpu = cpu_s();
  std::int64_t batches = 0;
  for (; wall_s() < start + seconds; ++batches) source.next();
  const double wall = wall_s() - start, used = cpu_s() - cpu;
  const auto pictures = static_cast<double>(batches * options.batch);
  const std::int64_t side = picture_side(list, options.size, options.augment.crop);
  const auto bytes = static_cast<std::size_t>(packed_picture_bytes(side));
  std::printf(
      "%.0f pictures/s, %.2f GB/s of %lld x %lld, %.1f us of CPU a picture, %.2f CPUs busy\n",
      pictures / wall, pictures * static_cast<double>(bytes) / wall * 1e-9,
      static_cast<long long>(side), static_cast<long long>(side), used / pictures * 1e6,
      used / wall);
  const double copy = copy_gb_per_s(bytes);
  std::printf("memcpy of such pictures by one thread: %.2f GB/s, %.0f pictures/s\n", copy,
              copy * 1e9 / static_cast<double>(bytes));
  return 0;
}

}  // namespace

int main(int argc, char** argv) try {
  std::map<std::string, std::string> texts{{"--packed", ""}, {"--pictures", ""}, {"--make", ""}};
  std::map<std::string, std::int64_t> numbers{{"--count", 8192}, {"--side", 256},  {"--batch", 256},
                                              {"--size", 224},   {"--threads", 1}, {"--queue", 3},
                                              {"--seconds", 5}};
  std::map<std::string, bool> flags{{"--values", false}, {"--crop", false}, {"--flip", false}};
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (flags.contains(name)) {
      flags[name] = true;
    } else if (i + 1 < argc && texts.contains(name)) {
      texts[name] = argv[++i];
    } else if (i + 1 < argc && numbers.contains(name)) {
      numbers[name] = std::stoll(argv[++i]);
    } else {
      throw std::invalid_argument("unknown option, or no value after it: '" + name + "'");
    }
  }
  if (!texts["--make"].empty()) {
    make(texts["--make"], numbers["--count"], numbers["--side"]);
    return 0;
  }
  PicturesOptions options;
  options.batch = numbers["--batch"];
  options.size = numbers["--size"];
  options.decode_threads = numbers["--threads"];
  options.queue_depth = numbers["--queue"];
  options.augment = {.crop = flags["--crop"], .flip = flags["--flip"]};
  options.raw = !flags["--values"];
  return measure(texts["--packed"].empty() ? list_pictures(texts["--pictures"], "--pictures")
                                           : list_packed(texts["--packed"], "--packed"),
                 options, static_cast<double>(numbers["--seconds"]));
} catch (const std::exception& error) {
  std::fprintf(stderr, "rackmark-bench-input: %s\n", error.what());
  return 1;
}

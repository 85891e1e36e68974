#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>

#include "tests/worker/input/picture_tree.hpp"
#include "worker/failure.hpp"
#include "worker/input/jpeg.hpp"
#include "worker/input/pack.hpp"
#include "worker/input/packed_shards.hpp"

namespace rackmark::worker {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::int64_t kSide = 32, kSize = 28;  // 32 is what 28 resizes to

std::string text_of(const fs::path& file) {
  std::ostringstream text;
  text << std::ifstream(file, std::ios::binary).rdbuf();
  return text.str();
}

class PackedTree : public testing::PictureTree {
 protected:
  PackedTree() {
    tree_ = root_ + "/tree";
    packed_ = root_ + "/packed";
    for (int i = 0; i < 11; ++i) {
      add_pattern("tree/c" + std::to_string(i % 3) + "/" + std::to_string(i) + ".jpg", i,
                  40 + 3 * i, 60 - i);
    }
  }

  PackReport pack(const std::string& out, std::int64_t shard_pictures = 4) {
    ::testing::internal::CaptureStderr();
    const auto said = [] { return ::testing::internal::GetCapturedStderr(); };
    try {
      PackReport report = pack_pictures({.pictures = tree_,
                                         .out = out,
                                         .side = kSide,
                                         .shard_pictures = shard_pictures,
                                         .threads = 3,
                                         .check = ""});
      said_ = said();
      return report;
    } catch (...) {
      said_ = said();
      throw;
    }
  }
  int check() {
    PackOptions options;
    options.check = packed_;
    return run_pack(options);
  }
  static PicturesOptions small(bool raw = false) {
    PicturesOptions o = options(4);
    o.size = kSize;
    o.raw = raw;
    return o;
  }

  std::string tree_, packed_, said_;
};

Pixels pixels_of(PictureLoader& loader, std::int64_t index) {
  Pixels pixels(kSide * kSide * 3);
  loader.load(index, pixels);
  return pixels;
}

TEST_F(PackedTree, HoldsWhatDecodingGives) {
  add_text("tree/c1/0broken.jpg", "text");
  fs::create_directories(tree_ + "/c3");  // a class without pictures is one nevertheless
  const PackReport report = pack(packed_);
  EXPECT_EQ(report.pictures, 11);
  EXPECT_EQ(report.shards, 3);
  ASSERT_EQ(report.broken.size(), 1U);
  EXPECT_THAT(report.broken[0], HasSubstr("c1/0broken.jpg: Not a JPEG file"));
  EXPECT_THAT(said_, HasSubstr("broken picture c1/0broken.jpg"));

  fs::remove(tree_ + "/c1/0broken.jpg");
  const PictureList files = list_pictures(tree_), packed = list_packed(packed_);
  EXPECT_THAT(packed.classes, ElementsAre("c0", "c1", "c2", "c3"));
  ASSERT_EQ(packed.pictures.size(), 11U);
  EXPECT_EQ(packed.pictures[9].path, "00002.shard:1");
  FileLoader decoder(files, kSide, kSide);
  PackedLoader reader(packed.shards);
  for (std::int64_t i = 0; i < 11; ++i) {
    EXPECT_EQ(packed.pictures[static_cast<std::size_t>(i)].label,
              files.pictures[static_cast<std::size_t>(i)].label);
    ASSERT_EQ(pixels_of(reader, i), pixels_of(decoder, i)) << "picture " << i;
  }

  // The same batches as without packing: the centre of the centre is the centre.
  PicturesSource a(files, small()), b(packed, small());
  PicturesOptions by_bytes = small(true);
  by_bytes.decode_threads = 3;
  PicturesSource c(packed, by_bytes);
  for (int step = 0; step < 9; ++step) {
    const InputBatch &x = a.next(), &y = b.next(), &z = c.next();
    ASSERT_EQ(x.labels, y.labels);
    ASSERT_EQ(x.images, y.images);
    std::vector<float> values(x.images.size());
    normalise(z.raw(), kSize, values);
    ASSERT_EQ(x.images, values);
  }
  EXPECT_EQ(b.report().pictures_broken, 0);
  PicturesOptions large = small();
  large.size = kSide + 1;
  EXPECT_THROW(PicturesSource(packed, large), std::invalid_argument);
}

TEST_F(PackedTree, IsWrittenWholeOrNotAtAll) {
  EXPECT_THROW(pack(tree_), OutRefused) << "a folder that is not empty";
  EXPECT_THROW(pack(root_ + "/no/such"), OutRefused);
  EXPECT_EQ(list_pictures(tree_).pictures.size(), 11U);
  for (int i = 0; i < 600; ++i) add_text("tree/c0/x" + std::to_string(i) + ".jpg", "");
  try {
    pack(packed_, 1);
    FAIL() << "611 open files";
  } catch (const OutRefused& refused) {
    EXPECT_THAT(refused.what(), HasSubstr("allowed: at least 2"));
  }
  for (int i = 0; i < 11; ++i)
    fs::remove(tree_ + "/c" + std::to_string(i % 3) + "/" + std::to_string(i) + ".jpg");
  try {
    pack(packed_);
    FAIL() << "nothing was packed";
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.reason, Reason::kInputBroken);
    EXPECT_THAT(failure.what(), HasSubstr("none of the 600 pictures"));
  }
  EXPECT_FALSE(fs::exists(packed_));
}

TEST_F(PackedTree, ChecksumsFindWhatSizesDoNot) {
  pack(packed_);
  EXPECT_EQ(check(), kExitOk);
  std::fstream(packed_ + "/00001.shard", std::ios::in | std::ios::out | std::ios::binary)
      .seekp(5000)
      .put('\x5a')
      .put('\xa5');
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(check(), kExitFailure);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("00001.shard is not what was packed"));
}

TEST_F(PackedTree, AShardThatIsCutWhileItIsReadIsBrokenPictures) {
  pack(packed_, 20);
  PicturesSource source(list_packed(packed_), small());
  source.next();
  ::testing::internal::CaptureStderr();
  fs::resize_file(packed_ + "/00000.shard", kShardHeaderBytes + 100);
  try {
    for (int step = 0; step < 100; ++step) source.next();
    FAIL() << "batches come out of nothing";
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.reason, Reason::kInputBroken);
  }
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("00000.shard:3: the shard has become shorter"));
}

TEST_F(PackedTree, WhatIsCutOrForeignIsRefusedByName) {
  pack(packed_);
  const std::string first = packed_ + "/00000.shard", index = packed_ + "/index.json";
  const std::string shard = text_of(first), text = text_of(index);
  const auto patch = [&](std::size_t at, std::string bytes) {
    return [=] {
      std::string patched = shard;
      patched.replace(at < shard.size() ? at : shard.size() - bytes.size(), bytes.size(), bytes);
      std::ofstream(first, std::ios::binary) << patched;
    };
  };
  const auto edit = [&](std::string from, std::string to) {
    return [=] {
      ASSERT_NE(text.find(from), text.npos) << from;
      std::ofstream(index) << std::string(text).replace(text.find(from), from.size(), to);
    };
  };
  const auto end = shard.size();
  struct Case {
    std::function<void()> spoil;
    Reason reason;
    std::string said;
  };
  const Reason broken = Reason::kInputBroken, unavailable = Reason::kInputUnavailable;
  const std::vector<Case> cases = {
      {[&] { fs::resize_file(first, end - 1); }, broken,
       "00000.shard has 16399 bytes, the index says 16400"},
      {patch(0, "X"), broken, "00000.shard is no shard of packed pictures"},
      {patch(8, "\x02"), broken, "00000.shard has version 2, this program reads 1"},
      {patch(16, "\x40"), broken, "00000.shard is not the shard that the index names"},
      {patch(12, "\x01"), broken, "number 1, side 32"},
      {patch(31, "\x7f"), broken, "00000.shard is not the shard that the index names"},
      {patch(end, std::string("\x03\0\0\0", 4)), broken,
       "00000.shard has label 3 at picture 3, allowed: 0 to 2"},
      {patch(end, std::string("\xff\xff\xff\xff", 4)), broken,
       "00000.shard has label -1 at picture 3"},
      {[&] { fs::remove(first); }, unavailable, "00000.shard cannot be opened"},
      {[&] {
         fs::remove(first);
         ASSERT_EQ(::mkfifo(first.c_str(), 0600), 0);
       },
       unavailable, "00000.shard is not a regular file"},
      {[&] { fs::remove(index); }, unavailable,
       "index.json cannot be opened: No such file or directory; a folder that rackmark-worker pack "
       "made"},
      {[&] { fs::resize_file(index, 100); }, broken, "index.json "},
      {[&] { std::ofstream(index) << "[3]"; }, broken, "index.json is no index of packed pictures"},
      {edit("\"version\": 1", "\"version\": 2"), broken,
       "index.json has version 2, this program reads 1"},
      {edit("\"side\": 32", "\"side\": 4611686018427387904"), broken,
       "side is 4611686018427387904, allowed: 8 to 2048"},
      {edit("\"pictures\": 11", "\"pictures\": 12"), broken, "pictures is 12, allowed: 11 to 11"},
      {edit("\"pictures\": 4", "\"pictures\": 4000000000000"), broken,
       "shards[0].pictures is 4000000000000"},
      {edit("00000.shard", "../../x"), broken, "shards[0].file is '../../x', allowed: 00000.shard"},
      {edit("\"bytes\": 16400", "\"bytes\": 16401"), broken, "shards[0].bytes is 16401"},
      {edit("\"sha256\"", "\"crc\""), broken, "shards[0].crc"},
  };
  for (const Case& one : cases) {
    one.spoil();
    try {
      list_packed(packed_);
      ADD_FAILURE() << "not refused: " << one.said;
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.reason, one.reason) << one.said;
      EXPECT_THAT(failure.what(), HasSubstr("input.path '" + packed_ + "': "));
      EXPECT_THAT(failure.what(), HasSubstr(one.said));
    }
    fs::remove(first);
    std::ofstream(first, std::ios::binary) << shard;
    std::ofstream(index) << text;
  }
  EXPECT_EQ(list_packed(packed_).pictures.size(), 11U);
  EXPECT_THROW(list_packed(tree_), Failure);
}

}  // namespace
}  // namespace rackmark::worker

#include "worker/input/pictures.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include "tests/worker/input/picture_tree.hpp"
#include "tests/worker/input/whole_decoder.hpp"
#include "worker/failure.hpp"
#include "worker/input/augment.hpp"
#include "worker/input/picture_order.hpp"
#include "worker/input/synthetic.hpp"

namespace rackmark::worker {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

class PictureTree : public testing::PictureTree {
 protected:
  std::string why_unavailable() {
    try {
      list_pictures(root_);
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.reason, Reason::kInputUnavailable);
      return failure.what();
    }
    return "available";
  }
};

float first_pixel(const InputBatch& batch, std::size_t picture) {
  return batch.images[picture * 3 * 32 * 32];
}
float normalised_red(int level) { return (static_cast<float>(level) / 255.0F - 0.485F) / 0.229F; }

TEST_F(PictureTree, LabelsFollowFolderNames) {
  add_picture("zebra/b.JPEG", 1);
  add_picture("zebra/a.jpg", 2);
  add_picture("ant/x.Jpg", 3);
  add_text("ant/notes.txt", "no picture");
  add_text("ant/.hidden.jpg", "hidden");
  fs::create_directories(root_ + "/empty");
  add_text("stray.jpg", "not in a folder");
  const PictureList list = list_pictures(root_);
  EXPECT_THAT(list.classes, ElementsAre("ant", "empty", "zebra"));
  ASSERT_EQ(list.pictures.size(), 3U);
  EXPECT_EQ(list.pictures[0].path, "ant/x.Jpg");
  EXPECT_EQ(list.pictures[0].label, 0);
  EXPECT_EQ(list.pictures[1].path, "zebra/a.jpg");
  EXPECT_EQ(list.pictures[2].label, 2);
}

TEST_F(PictureTree, SaysWhyThereIsNoInput) {
  EXPECT_THAT(why_unavailable(), HasSubstr("one folder a class"));
  fs::create_directories(root_ + "/cats");
  add_text("cats/readme.txt", "nothing here");
  EXPECT_THAT(why_unavailable(), HasSubstr("none of its 1 folders"));
  fs::remove_all(root_);
  EXPECT_THAT(why_unavailable(), HasSubstr("there is no such folder"));
  std::ofstream(root_) << "a file";
  EXPECT_THAT(why_unavailable(), HasSubstr("is not a folder"));
}

TEST_F(PictureTree, PixelsAreNormalisedPerChannel) {
  add_picture("a/white.jpg", 255);
  PicturesSource source(list_pictures(root_), options(1));
  const InputBatch& batch = source.next();
  ASSERT_EQ(batch.images.size(), 3U * 32 * 32);
  EXPECT_NEAR(batch.images[0], (1 - 0.485) / 0.229, 0.02);
  EXPECT_NEAR(batch.images[32 * 32], (1 - 0.456) / 0.224, 0.02);
  EXPECT_NEAR(batch.images[2 * 32 * 32], (1 - 0.406) / 0.225, 0.02);
}

TEST_F(PictureTree, ABrokenPictureIsNamedAndItsPlaceTaken) {
  add_picture("a/1.jpg", 50);
  add_text("a/2.jpg", "text");
  add_text("a/3.jpg", "");
  ASSERT_EQ(::mkfifo((root_ + "/b.fifo").c_str(), 0600), 0);
  add_picture("b/4.jpg", 150);
  fs::rename(root_ + "/b.fifo", root_ + "/b/5.jpg");  // must not hold up a thread for ever
  fs::create_symlink("/nowhere/at/all.jpg", root_ + "/b/6.jpg");
  PicturesOptions o = options(2);
  o.shuffle = false;
  ::testing::internal::CaptureStderr();
  PicturesSource source(list_pictures(root_), o);
  for (int step = 0; step < 4; ++step) {
    const InputBatch& batch = source.next();
    EXPECT_THAT(batch.labels, ElementsAre(0, 1));
    EXPECT_NEAR(first_pixel(batch, 0), normalised_red(50), 0.05);
    EXPECT_NEAR(first_pixel(batch, 1), normalised_red(150), 0.05);
  }
  const InputReport report = source.report();
  const std::string said = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(report.broken_pictures,
              UnorderedElementsAre("a/2.jpg", "a/3.jpg", "b/5.jpg", "b/6.jpg"));
  EXPECT_EQ(report.pictures_broken, 4) << "each file once, though every epoch meets it";
  EXPECT_GE(report.pictures_read, 8);
  EXPECT_THAT(said, HasSubstr("broken picture a/2.jpg: Not a JPEG file"));
  EXPECT_EQ(said.find("a/3.jpg"), said.rfind("a/3.jpg")) << "named more than once";
}

TEST_F(PictureTree, AllBrokenIsAFailure) {
  add_text("a/1.jpg", "text");
  add_text("b/2.jpg", "text");
  ::testing::internal::CaptureStderr();
  PicturesSource source(list_pictures(root_), options(2));
  try {
    source.next();
    FAIL() << "a batch came out of broken pictures";
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.reason, Reason::kInputBroken);
    EXPECT_THAT(failure.what(), HasSubstr("none of the 2 pictures"));
  }
  ::testing::internal::GetCapturedStderr();
}

TEST_F(PictureTree, ManyThreadsGiveTheSameBatchesAsOne) {
  for (int i = 0; i < 23; ++i) {
    add_picture("c" + std::to_string(i % 5) + "/" + std::to_string(i) + ".jpg",
                static_cast<std::uint8_t>(i * 11));
  }
  add_text("c0/broken.jpg", "text");
  PicturesOptions one = options(4), many = options(4);
  many.decode_threads = 7;
  many.queue_depth = 5;
  many.cache = true;
  ::testing::internal::CaptureStderr();
  PicturesSource a(list_pictures(root_), one), b(list_pictures(root_), many);
  for (int step = 0; step < 30; ++step) {
    const InputBatch &x = a.next(), &y = b.next();
    ASSERT_EQ(x.labels, y.labels) << "step " << step;
    ASSERT_EQ(x.images, y.images) << "step " << step;
  }
  ::testing::internal::GetCapturedStderr();
}

// The same pictures come out: a whole one is resized as one that the CPU decodes.
TEST_F(PictureTree, WhatADecoderBesideTheCpuLeavesIsDecodedByTheCpu) {
  for (int i = 0; i < 5; ++i) {
    add_pattern("a/" + std::to_string(i) + ".jpg", i, 40 + 7 * i, 61 - 4 * i);
  }
  const auto paint = [](int x, int y, int c) { return static_cast<std::uint8_t>(x + y + 9 * c); };
  testing::write_bytes(root_ + "/b/cmyk.jpg", testing::encode_jpeg(40, 44, 4, paint));
  testing::write_bytes(root_ + "/b/grey.jpg", testing::encode_jpeg(40, 44, 1, paint));
  auto cut = testing::encode_jpeg(200, 200, 3, paint);
  cut.resize(cut.size() * 2 / 3);
  testing::write_bytes(root_ + "/b/cut.jpg", cut);
  auto trailed = testing::encode_jpeg(40, 41, 3, paint);
  trailed.insert(trailed.end(), 20, 0);  // as some cameras write them
  testing::write_bytes(root_ + "/b/trailed.jpg", trailed);

  PicturesOptions of_cpu = options(8);
  of_cpu.shuffle = false;
  of_cpu.raw = true;
  PicturesOptions beside = of_cpu;
  const auto decoder = std::make_shared<testing::WholeDecoder>();
  beside.decoder = decoder;
  PicturesSource one(list_pictures(root_), of_cpu), other(list_pictures(root_), beside);
  for (int batch = 0; batch < 2; ++batch) EXPECT_EQ(one.next().pixels, other.next().pixels);
  EXPECT_EQ(one.report().left_to_cpu, 0);
  EXPECT_EQ(other.report().left_to_cpu, 1);  // the CMYK one, though every epoch meets it
  EXPECT_GE(decoder->decoded(), 7 * 2);
  EXPECT_EQ(other.report().broken_pictures, std::vector<std::string>{"b/cut.jpg"});
}

TEST_F(PictureTree, ABatchOfAllPicturesHoldsTheSameOnesEveryStep) {
  for (int i = 0; i < 4; ++i) {
    add_picture("c" + std::to_string(i) + "/p.jpg", static_cast<std::uint8_t>(i * 60));
  }
  PicturesSource source(list_pictures(root_), options(4));
  for (int step = 0; step < 6; ++step) {
    EXPECT_THAT(source.next().labels, UnorderedElementsAre(0, 1, 2, 3));
  }
}

TEST_F(PictureTree, TheCacheOutlivesTheFiles) {
  add_picture("a/1.jpg", 90);
  PicturesOptions o = options(1);
  o.cache = true;
  o.queue_depth = 1;
  PicturesSource source(list_pictures(root_), o);
  source.next();
  fs::remove(root_ + "/a/1.jpg");
  for (int step = 0; step < 20; ++step) {
    ASSERT_NEAR(first_pixel(source.next(), 0), normalised_red(90), 0.05);
  }
  EXPECT_EQ(source.report().pictures_broken, 0);
}

TEST_F(PictureTree, AFullCacheReadsOn) {
  add_picture("a/1.jpg", 90);
  add_picture("a/2.jpg", 180);
  PicturesOptions o = options(2);
  o.cache = true;
  o.cache_bytes = 32 * 32 * 3;  // one picture
  o.shuffle = false;
  PicturesSource source(list_pictures(root_), o);
  for (int step = 0; step < 5; ++step) {
    const InputBatch& batch = source.next();
    ASSERT_NEAR(first_pixel(batch, 0), normalised_red(90), 0.05);
    ASSERT_NEAR(first_pixel(batch, 1), normalised_red(180), 0.05);
  }
}

std::vector<float> normalised(const InputBatch& batch, int size) {
  std::vector<float> images(batch.windows.size() * 3 * static_cast<std::size_t>(size * size));
  normalise(batch.raw(), size, images);
  return images;
}

TEST_F(PictureTree, RawBatchesAreTheSamePicturesInTheSameWindows) {
  for (int i = 0; i < 7; ++i)
    add_pattern("c" + std::to_string(i % 3) + "/" + std::to_string(i) + ".jpg", i, 50 + i, 44);
  add_text("c1/broken.jpg", "text");
  PicturesOptions values = options(3), bytes = options(3), plain = options(3);
  values.augment = bytes.augment = {.crop = true, .flip = true};
  bytes.raw = true;
  bytes.decode_threads = 5;
  bytes.queue_depth = 4;
  ::testing::internal::CaptureStderr();
  PicturesSource a(list_pictures(root_), values), b(list_pictures(root_), bytes),
      centre(list_pictures(root_), plain);
  int unlike_centre = 0, mirrored = 0;
  std::set<std::pair<int, int>> places;
  for (int step = 0; step < 12; ++step) {  // more than four epochs
    const InputBatch &x = a.next(), &y = b.next();
    ASSERT_TRUE(y.images.empty() && x.pixels.empty());
    ASSERT_EQ(y.side, 37) << "32 x 256 / 224";
    ASSERT_EQ(x.labels, y.labels) << "step " << step;
    ASSERT_EQ(x.images, normalised(y, 32)) << "step " << step;
    unlike_centre += x.images != centre.next().images ? 1 : 0;
    for (const PictureWindow& window : y.windows) {
      mirrored += window.mirrored;
      places.insert({window.top, window.left});
    }
  }
  ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(unlike_centre, 12);
  EXPECT_TRUE(mirrored > 3 && mirrored < 33) << mirrored << " of 36";
  EXPECT_GT(places.size(), 10U) << "windows of an epoch are those of another";
}

TEST(ChooseWindow, IsInsideFairAndOfItsEpoch) {
  constexpr int kPictures = 4000, kSide = 12, kSize = 8;
  const Augment both{.crop = true, .flip = true};
  std::map<int, int> tops, lefts;
  int mirrored = 0, again = 0;
  for (int i = 0; i < kPictures; ++i) {
    const PictureWindow w = choose_window(both, kSide, kSize, 3, 0, i);
    ASSERT_TRUE(w.top >= 0 && w.top <= 4 && w.left >= 0 && w.left <= 4);
    ++tops[w.top];
    ++lefts[w.left];
    mirrored += w.mirrored;
    const PictureWindow next = choose_window(both, kSide, kSize, 3, 1, i);
    again += next.top == w.top && next.left == w.left && next.mirrored == w.mirrored ? 1 : 0;
    const PictureWindow centre = choose_window({}, kSide, kSize, 3, 0, i);
    ASSERT_TRUE(centre.top == 2 && centre.left == 2 && centre.mirrored == 0);
  }
  for (int place = 0; place < 5; ++place) {
    EXPECT_NEAR(tops[place], kPictures / 5, 120) << "more than four deviations";
    EXPECT_NEAR(lefts[place], kPictures / 5, 120);
  }
  EXPECT_NEAR(mirrored, kPictures / 2, 140);
  EXPECT_NEAR(again, kPictures / 50, 45) << "one in 5 x 5 x 2 by chance";
}

std::vector<std::int64_t> one_epoch(PictureOrder& order) {
  std::vector<std::int64_t> indices;
  for (std::int64_t i = 0; i < order.epoch_length(); ++i) indices.push_back(order.next());
  return indices;
}

TEST(PictureOrder, ShardsCoverEveryPictureAndAreEquallyLong) {
  std::multiset<std::int64_t> seen;
  for (std::int64_t rank = 0; rank < 3; ++rank) {
    PictureOrder order(10, rank, 3, 7, true);
    const auto indices = one_epoch(order);
    EXPECT_EQ(indices.size(), 4U);
    seen.insert(indices.begin(), indices.end());
  }
  for (std::int64_t picture = 0; picture < 10; ++picture) EXPECT_GE(seen.count(picture), 1U);
  EXPECT_EQ(seen.size(), 12U);  // two of them fill up
}

TEST(PictureOrder, EpochsDifferAndSeedsRepeat) {
  PictureOrder order(100, 0, 1, 7, true), same(100, 0, 1, 7, true), other(100, 0, 1, 8, true);
  const auto first = one_epoch(order), second = one_epoch(order);
  EXPECT_NE(first, second);
  EXPECT_EQ(first, one_epoch(same));
  EXPECT_NE(first, one_epoch(other));
  PictureOrder plain(5, 0, 1, 7, false);
  EXPECT_THAT(one_epoch(plain), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(one_epoch(plain), ElementsAre(0, 1, 2, 3, 4));
}

TEST(PictureOrder, MoreRanksThanPicturesStillTrain) {
  PictureOrder order(2, 4, 5, 1, false);
  EXPECT_EQ(order.epoch_length(), 1);
  EXPECT_EQ(order.next(), 0);
}

TEST(SyntheticSource, IsFixedSeededAndWithoutZeros) {
  SyntheticSource source(3, 0, 4, 32, 10), again(3, 0, 4, 32, 10), other_rank(3, 1, 4, 32, 10);
  const InputBatch& batch = source.next();
  EXPECT_EQ(batch.images, source.next().images);
  EXPECT_EQ(batch.images, again.next().images);
  EXPECT_NE(batch.images, other_rank.next().images);
  EXPECT_THAT(batch.labels, ElementsAre(1, 8, 5, 2));              // (37 n + 11) mod 10
  EXPECT_THAT(other_rank.next().labels, ElementsAre(9, 6, 3, 0));  // n goes on from 4
  for (const float value : batch.images) {
    ASSERT_GE(std::abs(value), 0x1p-23F);
    ASSERT_LE(std::abs(value), 1.0F);
  }
}

}  // namespace
}  // namespace rackmark::worker

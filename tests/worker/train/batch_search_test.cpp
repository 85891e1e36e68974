#include "worker/train/batch_search.hpp"

#include <gtest/gtest.h>

#include "worker/backend/backend.hpp"
#include "worker/train/rank_setup.hpp"

namespace rackmark::worker {
namespace {

constexpr std::int64_t kMiB = 1 << 20;

protocol::BatchSearch search(const BytesWanted& bytes, std::int64_t free_bytes,
                             std::int64_t least = 1) {
  return find_largest_batch({bytes, {}, {free_bytes, "cgroup v1"}, {}}, least, kLargestBatch);
}

TEST(BatchSearch, FindsTheLastBatchThatFitsOfEveryLine) {
  for (const std::int64_t fixed : {std::int64_t{0}, 100 * kMiB, 900 * kMiB}) {
    for (const std::int64_t each : {kMiB / 3, 60 * kMiB, 99 * kMiB}) {
      for (const std::int64_t free : {1000 * kMiB, 1001 * kMiB, 64'000 * kMiB}) {
        const auto bytes = [&](std::int64_t batch) { return fixed + each * batch; };
        const auto found = search(bytes, free);
        const std::int64_t right = std::min(kLargestBatch, (free - fixed) / each);
        EXPECT_EQ(found.batch_size, right) << fixed << ' ' << each << ' ' << free;
        EXPECT_EQ(found.bytes_wanted, bytes(right));
        EXPECT_EQ(found.bytes_free, free);
        EXPECT_EQ(found.limited_by, "cgroup v1");
        EXPECT_LE(found.probes, 8 + 12) << fixed << ' ' << each << ' ' << free;
      }
    }
  }
}

TEST(BatchSearch, StepsAndBendsAreNoTrap) {
  const auto steps = [](std::int64_t batch) { return (batch + 63) / 64 * 64 * kMiB; };
  EXPECT_EQ(search(steps, 1000 * kMiB).batch_size, 960);
  const auto bend = [](std::int64_t batch) { return batch * batch * 1000; };
  EXPECT_EQ(search(bend, 1'000'000'000).batch_size, 1000);
  const auto cliff = [](std::int64_t batch) { return batch < 777 ? batch : 1000 * kMiB; };
  const auto found = search(cliff, 100 * kMiB);
  EXPECT_EQ(found.batch_size, 776);
  EXPECT_LE(found.probes, 40);
}

// As plans for training do that begin to make values again: of every limit the largest batch.
TEST(BatchSearch, LooksBeyondABatchAtWhichMemoryFalls) {
  const auto saves = [](std::int64_t batch) {  // resnet50 at 64 pixels, in kB
    return 823'000 + 6'200 * batch - (batch >= 64 ? 29'300 : 0) - (batch >= 128 ? 25'000 : 0);
  };
  for (std::int64_t free = 1'150'000; free < 1'800'000; free += 1'000) {
    std::int64_t right = 1;
    for (std::int64_t batch = 1; batch < 200; ++batch) {
      if (saves(batch) <= free) right = batch;
    }
    const auto found = search(saves, free);
    EXPECT_EQ(found.batch_size, right) << free;
    EXPECT_EQ(found.bytes_wanted, saves(found.batch_size));
    EXPECT_LE(found.probes, 40);
  }
}

TEST(BatchSearch, OfADevicesAndTheHostsMemoryTheSmallerDecidesAndIsNamed) {
  const auto plan = [](std::int64_t batch) { return 100 * batch; };
  const auto found = [&](std::int64_t host_bytes, std::int64_t least = 1) {
    const WorkerMemory beside{.fixed_bytes = 50, .bytes_per_image = 10};
    return find_largest_batch(
        {plan, beside, {host_bytes, "MemAvailable"}, MemoryLimit{1999, "GPU memory"}}, least,
        kLargestBatch);
  };
  const auto by_device = found(260);
  EXPECT_EQ(by_device.batch_size, 19);
  EXPECT_EQ(by_device.limited_by, "GPU memory");
  EXPECT_EQ(by_device.bytes_wanted, 1900);
  const auto by_host = found(239);
  EXPECT_EQ(by_host.batch_size, 18);
  EXPECT_EQ(by_host.limited_by, "MemAvailable");
  EXPECT_EQ(by_host.bytes_wanted, 230);
  EXPECT_EQ(by_host.bytes_free, 239);
  EXPECT_THROW(found(69, 2), OutOfMemory) << "70 bytes beside the plan";
}

TEST(BatchSearch, EndsAtTheSpecsBound) {
  const auto nothing = [](std::int64_t) { return std::int64_t{1}; };
  const auto found = search(nothing, 2);
  EXPECT_EQ(found.batch_size, kLargestBatch);
  EXPECT_LE(found.probes, 4);
}

TEST(BatchSearch, WhatDoesNotFitAtAllIsOutOfMemoryWithTheLeastBatchsNumbers) {
  const auto bytes = [](std::int64_t batch) { return 100 + 10 * batch; };
  try {
    search(bytes, 119, 2);
    FAIL() << "120 bytes do not fit into 119";
  } catch (const OutOfMemory& error) {
    EXPECT_EQ(error.bytes_wanted, 120);
    EXPECT_EQ(error.bytes_free, 119);
  }
  EXPECT_EQ(search(bytes, 120, 2).batch_size, 2);
}

TEST(MemoryBesidePlan, CountsPicturesAndAddresses) {
  JobSpec spec;
  spec.image_size = 100;
  spec.resources.threads_per_worker = 2;
  Net net("test", 8, 3);
  net.loss(net.linear(net.flatten(net.input()), "fc", {3}));
  const MemoryLimit machine{1, "MemAvailable"}, addresses{1, "RLIMIT_AS"};
  const WorkerMemory plain = memory_beside_plan(spec, net, machine);
  EXPECT_EQ(plain.bytes_per_image, 3 * 4 * 100 * 100 + 4);
  EXPECT_GT(memory_beside_plan(spec, net, addresses).fixed_bytes, plain.fixed_bytes);
  spec.input.kind = InputKind::kImages;
  spec.input.queue_depth = 3;
  EXPECT_EQ(memory_beside_plan(spec, net, machine).bytes_per_image, 6 * plain.bytes_per_image);
  spec.input.kind = InputKind::kPacked;
  EXPECT_EQ(memory_beside_plan(spec, net, machine).bytes_per_image, 5 * plain.bytes_per_image);
  EXPECT_EQ(memory_beside_plan(spec, net, machine, 128).bytes_per_image,
            6 * (3 * 128 * 128 + 12 + 4))
      << "bytes, window, label; one more on its way to the device";
}

TEST(MemoryBesidePlan, CountsWhatTheExchangeHolds) {
  constexpr int kOut = 1000;
  Net net("test", 32, kOut);
  net.loss(net.linear(net.flatten(net.input()), "fc", {kOut}));
  const std::int64_t weights = 4 * net.parameter_count(), matrix = 4 * 3 * 32 * 32 * kOut;
  JobSpec spec;
  const MemoryLimit machine{1, "MemAvailable"};
  const std::int64_t alone = memory_beside_plan(spec, net, machine).fixed_bytes;
  const auto more = [&](VariableUpdate update, std::int64_t workers) {
    spec.variable_update = update;
    spec.resources.workers_per_agent = workers;
    return memory_beside_plan(spec, net, machine).fixed_bytes - alone;
  };
  EXPECT_EQ(more(VariableUpdate::kIndependent, 4), 0);
  EXPECT_EQ(more(VariableUpdate::kAllReduce, 1), 0) << "nothing is exchanged";
  spec.all_reduce.bucket_bytes = 1000;
  EXPECT_EQ(more(VariableUpdate::kAllReduce, 4), 2 * matrix) << "a bucket holds it whole";
  spec.all_reduce.bucket_bytes = kMiB * kMiB;
  EXPECT_EQ(more(VariableUpdate::kAllReduce, 4), 2 * weights) << "there is no more";
  EXPECT_EQ(more(VariableUpdate::kParameterServer, 4), weights + (3 + 2 * 4) * weights);
  spec.parameter_server.servers = 2;
  EXPECT_EQ(more(VariableUpdate::kParameterServer, 4), weights + (3 + 2 * 4) * weights / 2);
  spec.parameter_server.placement = ServerPlacement::kDedicated;
  EXPECT_EQ(more(VariableUpdate::kParameterServer, 4), weights);

  const auto server_takes = [&](std::int64_t bytes) {
    try {
      require_server_room(spec, net, {bytes, "cgroup v2"});
    } catch (const OutOfMemory&) {
      return false;
    }
    return true;
  };
  const std::int64_t libraries = (96 + 16) * kMiB;
  EXPECT_TRUE(server_takes(libraries + (3 + 2 * 4) * weights / 2));
  EXPECT_FALSE(server_takes(libraries + (3 + 2 * 4) * weights / 2 - 1));
  spec.parameter_server.wire = Precision::kBf16;
  EXPECT_TRUE(server_takes(libraries + (3 + 4) * weights / 2)) << "half the bytes on their way";
}

TEST(RankSetup, ACacheHoldsAllPicturesOrAQuarterOfWhatIsFree) {
  JobSpec spec;
  spec.image_size = 100;
  spec.input.kind = InputKind::kImages;
  PictureList list;
  list.pictures.resize(10);
  const MemoryLimit plenty{kMiB * kMiB, "cgroup v2"};
  EXPECT_EQ(cache_bytes(spec, list, plenty), 0) << "nobody asked for it";
  spec.input.cache = true;
  EXPECT_EQ(cache_bytes(spec, list, plenty), 10 * 3 * 100 * 100);
  spec.input.augment["crop"] = true;
  EXPECT_EQ(cache_bytes(spec, list, plenty), 10 * 3 * 114 * 114) << "windows are cut from more";
  EXPECT_EQ(cache_bytes(spec, list, {4000, "cgroup v2"}), 1000);
  EXPECT_EQ(cache_bytes(spec, std::nullopt, plenty), 0);
  spec.classes = 4;
  const std::map<std::string, std::string> facts = {
      {"pictures", "10"}, {"classes", "4"}, {"side of pictures", "114"}};
  EXPECT_EQ(input_facts(spec, list), facts) << "what ranks compare";
}

}  // namespace
}  // namespace rackmark::worker

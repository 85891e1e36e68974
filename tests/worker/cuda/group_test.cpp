// Ranks whose devices exchange gradients among themselves, against ranks that exchange them on the
// host: threads of one process, each with a host device.
#include <gmock/gmock.h>

#include <thread>

#include "plans.hpp"
#include "tests/worker/train/thread_ranks.hpp"
#include "worker/train/step.hpp"

namespace rackmark::worker::test {
namespace {

class FixedInput final : public BatchSource {
 public:
  FixedInput(const Net& net, int rank) {
    const Data data = make_data(net, kBatch, rank);
    batch_.images = data.images;
    batch_.labels = data.labels;
  }
  const InputBatch& next() override { return batch_; }

 private:
  InputBatch batch_;
};

struct Trained {
  std::string label, way;
  std::vector<std::vector<double>> parameters;
  std::vector<double> losses;
};

std::vector<Trained> train_on_ranks(bool has_groups, const AllReduceOptions& options,
                                    const std::string& precision) {
  constexpr int kRanks = 3, kSteps = 3;
  ThreadRanks all(kRanks);
  std::vector<Trained> results(kRanks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kRanks; ++rank) {
    threads.emplace_back([&, rank] {
      const auto ranks = all.rank(static_cast<std::size_t>(rank));
      const Net net = worker::small_net();
      const auto backend = host_cuda_backend({.has_groups = has_groups});
      const auto plan = backend->compile(net, {.batch = kBatch, .precision = precision});
      fill(*plan);
      FixedInput input(net, rank);
      const auto exchange = make_all_reduce(*plan, *ranks, options);
      const SystemClock clock;
      const TrainingStep step = make_step(*plan, input, *exchange, always(kSgd), clock);
      Trained& result = results[rank];
      for (int i = 0; i < kSteps; ++i) result.losses.push_back(step().loss);
      exchange->settle();
      result.label = exchange->label();
      result.way = exchange->way();
      result.parameters = parameters(*plan);
    });
  }
  for (auto& thread : threads) thread.join();
  return results;
}

TEST(CudaGroup, DevicesGiveWhatTheHostGives) {
  for (const std::string precision : {"fp32", "fp16"}) {
    for (const bool overlap : {true, false}) {
      SCOPED_TRACE(precision + (overlap ? " overlapping" : ""));
      const AllReduceOptions options{.bucket_bytes = 2048, .overlap = overlap};
      const auto devices = train_on_ranks(true, options, precision);
      const auto host = train_on_ranks(false, options, precision);
      EXPECT_EQ(devices[0].label, "all_reduce (host threads)");
      EXPECT_EQ(host[0].label, "all_reduce");
      EXPECT_EQ(devices[0].way, "host threads, by the devices themselves");
      EXPECT_EQ(host[0].way,
                "MPI, through the host: rank 0 found no library for groups of devices");
      for (std::size_t rank = 0; rank < devices.size(); ++rank) {
        EXPECT_EQ(devices[rank].parameters, devices[0].parameters) << "rank " << rank;
        for (std::size_t p = 0; p < host[0].parameters.size(); ++p) {
          EXPECT_LT(relative_distance(devices[rank].parameters[p], host[rank].parameters[p]), 2e-5);
        }
        for (std::size_t i = 0; i < host[rank].losses.size(); ++i)
          EXPECT_NEAR(devices[rank].losses[i], host[rank].losses[i], 1e-4);
      }
      EXPECT_NE(devices[0].losses, devices[1].losses);  // each has pictures of its own
    }
  }
}

}  // namespace
}  // namespace rackmark::worker::test

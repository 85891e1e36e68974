#include <gtest/gtest.h>

#include "common/domain/spec.hpp"

namespace rackmark {
namespace {

JobSpec spec(const std::string& members = "\"mode\": \"training\"") {
  std::string text = "{\"model\": \"resnet50\", ";
  text += members;
  text += '}';
  const auto parsed = parse_spec(nlohmann::json::parse(text));
  EXPECT_TRUE(parsed) << parsed.error().message;
  return *parsed;
}

TEST(SpecResolve, OneWorkerPerNumaDomainWithItsShareOfTheCores) {
  const auto s = resolve_for_host(spec(), {.numa_domains = 2, .physical_cores = 32});
  ASSERT_TRUE(s);
  EXPECT_EQ(s->resources.workers_per_agent, 2);
  EXPECT_EQ(s->resources.threads_per_worker, 16);
  EXPECT_FALSE(s->input.decode_threads);  // synthetic input decodes nothing
  EXPECT_FALSE(s->input.queue_depth);
}

TEST(SpecResolve, ADedicatedServerGetsACoreWhereThereIsOne) {
  const HostShape host{.numa_domains = 2, .physical_cores = 32};
  const auto beside = resolve_for_host(spec(R"("variable_update": "parameter_server")"), host);
  ASSERT_TRUE(beside);
  EXPECT_EQ(beside->resources.workers_per_agent, 2);
  EXPECT_EQ(beside->resources.threads_per_worker, 16);
  const auto dedicated = resolve_for_host(spec(R"("variable_update": "parameter_server",
              "parameter_server": {"servers": 2, "placement": "dedicated"})"),
                                          host);
  ASSERT_TRUE(dedicated);
  EXPECT_EQ(dedicated->resources.threads_per_worker, 15);
  const auto small = resolve_for_host(
      spec(R"("variable_update": "parameter_server", "resources": {"workers_per_agent": 2},
              "parameter_server": {"servers": 2, "placement": "dedicated"})"),
      {.numa_domains = 1, .physical_cores = 2});
  ASSERT_TRUE(small);
  EXPECT_EQ(small->resources.threads_per_worker, 1);
}

TEST(SpecResolve, WorkersOfAllAgentsTogether) {
  const HostShape host{.numa_domains = 2, .physical_cores = 8};
  const auto even = spec(R"("resources": {"agents": 3, "workers": 6})");
  EXPECT_EQ(even.resources.workers_per_agent, 2);
  EXPECT_FALSE(even.resources.workers) << "one run, one spec";
  const auto uneven = spec(R"("resources": {"agents": 3, "workers": 5})");
  EXPECT_EQ(uneven.resources.workers, 5);
  const auto resolved = resolve_for_host(uneven, host);
  ASSERT_TRUE(resolved);
  EXPECT_EQ(resolved->resources.threads_per_worker, 4) << "all as on the fullest host";
  EXPECT_FALSE(resolved->resources.workers_per_agent);
  // 3 + 2 workers on two hosts; the server goes to the second.
  const auto served = resolve_for_host(
      spec(R"("resources": {"agents": 2, "workers": 5}, "variable_update": "parameter_server",
              "parameter_server": {"placement": "dedicated"})"),
      host);
  EXPECT_EQ(served->resources.threads_per_worker, 2);
  const auto refused = resolve_for_host(uneven, {.numa_domains = 1, .physical_cores = 1});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().fields.at(0).field, "resources.workers");
  EXPECT_EQ(refused.error().fields.at(0).allowed, "1 to 3");
}

TEST(SpecResolve, AnInstanceIsAWorker) {
  const HostShape host{.numa_domains = 2, .physical_cores = 32};
  const auto asked = resolve_for_host(
      spec(R"("mode": "inference", "precision": "int8", "inference": {"instances": 8})"), host);
  ASSERT_TRUE(asked);
  EXPECT_EQ(asked->resources.workers_per_agent, 8);
  EXPECT_EQ(asked->resources.threads_per_worker, 4);
  EXPECT_EQ(resolve_for_host(spec(R"("mode": "inference")"), host)->inference_instances, 2);
  EXPECT_FALSE(resolve_for_host(spec(), host)->inference_instances);
  const auto workers =
      resolve_for_host(spec(R"("mode": "inference", "resources": {"workers_per_agent": 4})"), host);
  EXPECT_EQ(workers->inference_instances, 4);
  const auto many =
      resolve_for_host(spec(R"("mode": "inference", "inference": {"instances": 33})"), host);
  ASSERT_FALSE(many);
  EXPECT_EQ(many.error().fields.at(0).field, "inference.instances");
  const auto again = parse_spec(to_json(*asked));
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->inference_instances, 8);
}

TEST(SpecResolve, NeverMoreWorkersThanCores) {
  const auto s = resolve_for_host(spec(), {.numa_domains = 4, .physical_cores = 2});
  ASSERT_TRUE(s);
  EXPECT_EQ(s->resources.workers_per_agent, 2);
  EXPECT_EQ(s->resources.threads_per_worker, 1);
}

TEST(SpecResolve, WhatWasWrittenStays) {
  const auto s =
      resolve_for_host(spec(R"("resources": {"workers_per_agent": 3, "threads_per_worker": 2})"),
                       {.numa_domains = 1, .physical_cores = 8});
  ASSERT_TRUE(s);
  EXPECT_EQ(s->resources.workers_per_agent, 3);
  EXPECT_EQ(s->resources.threads_per_worker, 2);
}

TEST(SpecResolve, PicturesGetDecodeThreadsAndAQueue) {
  const auto s = resolve_for_host(spec(R"("input": {"kind": "images", "path": "/d"})"),
                                  {.numa_domains = 1, .physical_cores = 2});
  ASSERT_TRUE(s);
  EXPECT_EQ(s->input.decode_threads, 1);
  EXPECT_EQ(s->input.queue_depth, 3);
  const auto big = resolve_for_host(spec(R"("input": {"kind": "images", "path": "/d"})"),
                                    {.numa_domains = 1, .physical_cores = 64});
  EXPECT_EQ(big->input.decode_threads, 8);
  const char* gpu = R"("input": {"kind": "images", "path": "/d"}, "resources": {"device": "gpu"})";
  const auto decoders = [&](std::int64_t cores, std::int64_t gpus) {
    return resolve_for_host(spec(gpu), {.physical_cores = cores, .gpus = gpus})
        ->input.decode_threads;
  };
  EXPECT_EQ(decoders(16, 1), 15);
  EXPECT_EQ(decoders(64, 8), 7);
  EXPECT_EQ(decoders(2, 2), 1);
}

TEST(SpecResolve, WhatDoesNotFitIsRefusedByField) {
  const HostShape host{.numa_domains = 1, .physical_cores = 4};
  const auto workers = resolve_for_host(spec(R"("resources": {"workers_per_agent": 5})"), host);
  ASSERT_FALSE(workers);
  EXPECT_EQ(workers.error().fields[0].field, "resources.workers_per_agent");
  EXPECT_EQ(workers.error().fields[0].allowed, "1 to 4");
  const auto threads = resolve_for_host(
      spec(R"("resources": {"workers_per_agent": 2, "threads_per_worker": 3})"), host);
  ASSERT_FALSE(threads);
  EXPECT_EQ(threads.error().fields[0].field, "resources.threads_per_worker");
  EXPECT_EQ(threads.error().fields[0].allowed, "1 to 2");
  JobSpec gpu = spec();
  gpu.resources.device = Device::kGpu;
  const auto none = resolve_for_host(gpu, host);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().fields[0].field, "resources.device");
}

TEST(SpecResolve, AGpuHostGetsAWorkerPerGpu) {
  JobSpec gpu = spec();
  gpu.resources.device = Device::kGpu;
  const HostShape host{.numa_domains = 2, .physical_cores = 64, .gpus = 8};
  const auto s = resolve_for_host(gpu, host);
  ASSERT_TRUE(s);
  EXPECT_EQ(s->resources.workers_per_agent, 8);
  EXPECT_EQ(s->resources.threads_per_worker, 8);
  EXPECT_EQ(s->resources.gpus_per_worker, 1);
  gpu.resources.workers_per_agent = 8;
  gpu.resources.gpus_per_worker = 2;
  const auto refused = resolve_for_host(gpu, host);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().fields[0].field, "resources.workers_per_agent");
  EXPECT_EQ(refused.error().fields[0].allowed, "1 to 4");
}

TEST(SpecResolve, TheTimeOutIsGenerousAndBounded) {
  EXPECT_EQ(derived_timeout_s(spec(R"("timeout_s": 77)")), 77);
  // 900 s + 110 steps x 32 pictures x 24.299 GFLOP / 2 GFLOP/s
  EXPECT_NEAR(derived_timeout_s(spec()), 900 + 110 * 32 * 24.299 / 2, 1e-6);
  EXPECT_LT(derived_timeout_s(spec(R"("image_size": 112)")), derived_timeout_s(spec()));
  EXPECT_GT(derived_timeout_s(spec(R"("steps": {"warmup": 0, "measured_seconds": 100})")), 1000);
  EXPECT_EQ(derived_timeout_s(spec(R"("batch_size": 65536, "steps": {"measured": 1000000})")),
            2592000);
}

}  // namespace
}  // namespace rackmark

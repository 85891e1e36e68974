#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/domain/spec.hpp"
#include "common/json/described.hpp"

namespace rackmark {
namespace {

// --- refused: the field that must be named, and a piece of what must be offered instead

struct Bad {
  const char* spec;  // members beside "model": "resnet50", unless it begins with {
  const char* field;
  const char* allowed;
};

const Bad kBad[] = {
    // shape and names
    {"{}", "model", "resnet50"},
    {R"({"model": null})", "model", "resnet50"},
    {R"({"model": 50})", "model", "resnet50"},
    {R"({"model": "resnet-50"})", "model", "resnet50"},
    // what one model asks
    {R"({"model": "inception_v3", "batch_size": 1})", "batch_size", "2 to 65536 images"},
    {R"({"model": "inception_v3", "image_size": 224})", "image_size", "299 to 1024 pixels"},
    {R"({"model": "cifar10", "image_size": 32})", "image_size", "24 pixels"},
    {R"({"model": "catsdogs_deep", "classes": 3})", "classes", "2"},
    {R"("bogus": 1)", "bogus", "batch_size"},
    {R"("Mode": "training")", "Mode", "mode"},
    {R"("optimizer": {"lr": 0.1})", "optimizer.lr", "learning_rate"},
    {R"("optimizer": 3)", "optimizer", "learning_rate"},
    {R"("optimizer": [])", "optimizer", "learning_rate"},
    {R"("optimizer.learning_rate": 0.1)", "optimizer.learning_rate", "optimizer"},
    {R"("input": {"augment": true})", "input.augment", "flip"},
    {R"("input": {"augment": {"blur": true}})", "input.augment.blur", "flip"},
    {R"("": 1)", "", "model"},
    // wrong types
    {R"("mode": 1)", "mode", "training"},
    {R"("mode": "Training")", "mode", "one of training, inference, accuracy"},
    {R"("batch_size": "16")", "batch_size", "1 to 65536 images"},
    {R"("batch_size": 16.5)", "batch_size", "whole number"},
    {R"("batch_size": null)", "batch_size", "whole number"},
    {R"("batch_size": true)", "batch_size", "whole number"},
    {R"("batch_size": [16])", "batch_size", "whole number"},
    {R"("optimizer": {"learning_rate": "0.1"})", "optimizer.learning_rate", "a number"},
    {R"("all_reduce": {"overlap": 1})", "all_reduce.overlap", "true or false"},
    {R"("labels": [])", "labels", "an object"},
    {R"("labels": {"a": 1})", "labels.a", "a string"},
    {R"("name": 7)", "name", "a string"},
    {R"("repetitions": "3")", "repetitions", "whole number"},
    // out of range
    {R"("batch_size": 0)", "batch_size", "1 to 65536"},
    {R"("batch_size": -1)", "batch_size", "1 to 65536"},
    {R"("batch_size": 65537)", "batch_size", "1 to 65536"},
    {R"("batch_size": 18446744073709551615)", "batch_size", "1 to 65536"},
    {R"("batch_size": 1e300)", "batch_size", "1 to 65536"},
    {R"("image_size": 31)", "image_size", "32 to 1024"},
    {R"("image_size": 1025)", "image_size", "1024"},
    {R"("classes": 1)", "classes", "2 to 100000"},
    {R"("classes": 100001)", "classes", "2 to 100000"},
    {R"("seed": -1)", "seed", "0 to"},
    {R"("seed": 9007199254740992)", "seed", "9007199254740991"},
    {R"("optimizer": {"learning_rate": -0.1})", "optimizer.learning_rate", "0 to 1000"},
    {R"("optimizer": {"momentum": 1.1})", "optimizer.momentum", "0 to 1"},
    {R"("optimizer": {"weight_decay": 2})", "optimizer.weight_decay", "0 to 1"},
    {R"("all_reduce": {"bucket_bytes": 1})", "all_reduce.bucket_bytes", "4096"},
    {R"("resources": {"agents": 0})", "resources.agents", "1 to"},
    {R"("resources": {"workers_per_agent": 0})", "resources.workers_per_agent", "1 to"},
    {R"("resources": {"agents": 3, "workers": 2})", "resources.workers", "3 or more"},
    {R"("resources": {"agents": 3, "workers": 5, "workers_per_agent": 2})", "resources.workers",
     "6, or leave resources.workers_per_agent out"},
    {R"("resources": {"agents": 2, "workers": 9000})", "resources.workers", "at most 8192"},
    {R"("mode": "inference", "resources": {"workers": 2})", "resources.workers", "training"},
    {R"("resources": {"threads_per_worker": 5000})", "resources.threads_per_worker", "4096"},
    {R"("steps": {"warmup": -1})", "steps.warmup", "0 to 1000000"},
    {R"("steps": {"measured": 0})", "steps.measured", "1 to 1000000"},
    {R"("steps": {"measured_seconds": 0})", "steps.measured_seconds", "0.1 to"},
    {R"("repetitions": 0)", "repetitions", "1 to 1000"},
    {R"("repetitions": 1001)", "repetitions", "1 to 1000"},
    {R"("retries": 11)", "retries", "0 to 10"},
    {R"("timeout_s": 0)", "timeout_s", "1 to"},
    {R"("stall_s": 0.5)", "stall_s", "1 to"},
    {R"("labels": {"a b": "x"})", "labels", "letters"},
    {R"("labels": {"": "x"})", "labels", "letters"},
    {R"("labels": {"-a": "x"})", "labels", "letters"},
    {R"("labels": {"a": "line\nbreak"})", "labels.a", "control"},
    {R"("name": "tab\there")", "name", "control"},
    // fields that do not apply, and contradictions
    {R"("steps": {"measured": 5, "measured_seconds": 5})", "steps.measured_seconds", "not both"},
    {R"("steps": {"epochs": 1})", "steps.epochs", "mode is accuracy"},
    {R"("steps": {"target_accuracy": 0.5})", "steps.target_accuracy", "mode is accuracy"},
    {R"("inference": {"instances": 2})", "inference.instances", "mode is inference"},
    {R"("inference": {"request_rate": 2})", "inference.request_rate", "mode is inference"},
    {R"("mode": "inference", "optimizer": {"learning_rate": 0.1})", "optimizer.learning_rate",
     "mode is training"},
    {R"("mode": "inference", "variable_update": "all_reduce")", "variable_update", "training"},
    {R"("variable_update": "parameter_server", "all_reduce": {"overlap": true})",
     "all_reduce.overlap", "variable_update is all_reduce"},
    {R"("variable_update": "independent", "all_reduce": {"wire": "fp32"})", "all_reduce.wire",
     "variable_update is all_reduce"},
    {R"("parameter_server": {"servers": 1})", "parameter_server.servers",
     "variable_update is parameter_server"},
    {R"("variable_update": "parameter_server", "parameter_server": {"staleness": 3})",
     "parameter_server.staleness", "bounded"},
    {R"("variable_update": "parameter_server", "parameter_server": {"consistency": "bounded"})",
     "parameter_server.staleness", "1 to 1000"},
    {R"("all_reduce": {"wire": "bf16", "algorithm": "ring"})", "all_reduce.algorithm", "auto"},
    {R"("all_reduce": {"algorithm": "ring"}, "resources": {"device": "gpu"})",
     "all_reduce.algorithm", "auto on gpu"},
    {R"("all_reduce": {"wire": "int8"})", "all_reduce.wire", "fp32, fp16, bf16"},
    {R"("resources": {"gpus_per_worker": 1})", "resources.gpus_per_worker", "device is gpu"},
    {R"("input": {"path": "/data"})", "input.path", "input.kind is not synthetic"},
    {R"("input": {"cache": true})", "input.cache", "input.kind is not synthetic"},
    {R"("input": {"kind": "packed", "path": "/d", "cache": true})", "input.cache",
     "false with input.kind packed"},
    {R"("input": {"decode_threads": 2})", "input.decode_threads", "input.kind is not synthetic"},
    {R"("input": {"kind": "images", "path": "/d", "decode_device": "gpu"})", "input.decode_device",
     "input.kind is images and resources.device is gpu"},
    {R"("input": {"kind": "packed", "path": "/d", "decode_device": "gpu"},
         "resources": {"device": "gpu"})",
     "input.decode_device", "input.kind is images and resources.device is gpu"},
    {R"("mode": "inference", "input": {"kind": "packed", "path": "/d", "overlap": true})",
     "input.overlap", "input.kind is not synthetic and resources.device is gpu"},
    {R"("input": {"kind": "images"})", "input.path", "absolute"},
    {R"("input": {"kind": "images", "path": "data"})", "input.path", "absolute"},
    {R"("input": {"kind": "images", "path": ""})", "input.path", "absolute"},
    {R"("input": {"kind": "images", "path": "/data/../etc"})", "input.path", "without .."},
    {R"("input": {"kind": "images", "path": "/data/.."})", "input.path", "without .."},
    {R"("precision": "tf32")", "precision", "fp32, bf16 on cpu"},
    {R"("precision": "tf32", "mode": "inference")", "precision", "fp32, bf16, int8 on cpu"},
    {R"("precision": "int8")", "precision", "fp32"},
    {R"("loss_scale": 128)", "loss_scale", "precision is fp16"},
    {R"("precision": "fp16", "resources": {"device": "gpu"}, "loss_scale": 0.5)", "loss_scale",
     "1 to 16777216, or \"dynamic\""},
    {R"("mode": "inference", "precision": "fp16", "resources": {"device": "gpu"}, "loss_scale": 8)",
     "loss_scale", "mode is training"},
    {R"("precision": "int8", "resources": {"device": "gpu"})", "precision",
     "fp32, tf32, bf16, fp16 in training"},
    {R"("resources": {"device": "gpu", "gpus_per_worker": 2})", "resources.gpus_per_worker", "1"},
    {R"("fusion": "bn-relu-add+conv-statistics")", "fusion", "best, none, bn-relu-add"},
    {R"("fusion": "bn-relu-add+pool+conv-statistics+bn-in-conv", "precision": "bf16",
         "resources": {"device": "gpu"})",
     "fusion", "best, none, bn-relu-add"},
    {R"("fusion": "bn-relu-add+pool")", "fusion", "best, none, bn-relu-add on cpu"},
    {R"("mode": "inference", "fusion": "bn-relu-add")", "fusion", "best, none in inference"},
    // well-formed, but not in this version
    {R"("mode": "inference", "inference": {"request_rate": 2})", "inference.request_rate", ""},
    {R"("mode": "inference", "inference": {"instances": 2}, "resources": {"workers_per_agent": 3})",
     "inference.instances", "3, or leave resources.workers_per_agent out"},
    {R"("mode": "accuracy", "precision": "int8")", "precision", "fp32"},
    {R"("mode": "accuracy")", "mode", "training"},
    {R"("batch_size": "most")", "batch_size", "or \"max\""},
    {R"("batch_size": 65537)", "batch_size", "1 to 65536 images"},
    {R"("optimizer": {"schedule": "linear"})", "optimizer.schedule", "constant, step, cosine"},
    {R"("optimizer": {"schedule": "cosine"}, "steps": {"measured_seconds": 5})",
     "optimizer.schedule", "steps.measured instead"},
    {R"("optimizer": {"warmup_steps": 5}, "steps": {"warmup": 1, "measured": 3})",
     "optimizer.warmup_steps", "0 to 4"},
    {R"("all_reduce": {"algorithm": "tree"})", "all_reduce.algorithm",
     "auto, ring, recursive_doubling, rabenseifner"},
    {R"("variable_update": "parameter_server", "parameter_server": {"servers": 0})",
     "parameter_server.servers", "1 to 1024"},
    {R"("variable_update": "parameter_server", "parameter_server": {"placement": "remote"})",
     "parameter_server.placement", "colocated, dedicated"},
    {R"("variable_update": "parameter_server", "parameter_server": {"consistency": "eventual"})",
     "parameter_server.consistency", "sync, async, bounded"},
    {R"("variable_update": "parameter_server", "parameter_server": {"device": "gpu"})",
     "parameter_server.device", "cpu"},
    {R"("variable_update": "parameter_server", "parameter_server": {"wire": "tf32"})",
     "parameter_server.wire", "fp32, fp16, bf16"},
    {R"("mode": "inference", "resources": {"agents": 2})", "resources.agents", "1 in inference"},
    {R"("batch_size": "max", "resources": {"agents": 2})", "batch_size", "a number"},
    {R"("resources": {"exclusive": false})", "resources.exclusive", "true"},
    {R"("input": {"kind": "cifar10", "path": "/data/cifar"})", "input.kind",
     "synthetic, images, packed"},
    {R"("input": {"kind": "images", "path": "/d", "augment": {"shift": true}})",
     "input.augment.shift", "false"},
    {R"("input": {"kind": "packed", "path": "/d", "augment": {"crop": 8}})", "input.augment.crop",
     "true or false"},
    {R"("input": {"augment": {"flip": true}})", "input.augment.flip", "not synthetic"},
    {R"("mode": "inference", "input": {"kind": "packed", "path": "/d", "augment": {"crop": true}})",
     "input.augment.crop", "mode is training"},
    {R"("input": {"kind": "packed"})", "input.path", "absolute"},
    {R"("input": {"kind": "images", "path": "/d", "compare_synthetic": true})",
     "input.compare_synthetic", "false"},
    {R"("repetitions": {"max": 5})", "repetitions", "a number"},
    {R"("repetitions": {"min": 2})", "repetitions.max", "1 to 1000"},
    {R"("repetitions": {"min": 5, "max": 2})", "repetitions", "min <= max"},
    {R"("repetitions": {"max": 5, "often": true})", "repetitions.often", "target_rse"},
    {R"("profile": 1)", "profile", "true or false"},
    {R"("mode": "inference", "measure_collectives": true)", "measure_collectives", "training"},
    {R"("fusion": "winograd")", "fusion", "best, none, bn-relu-add"},
    {R"("priority": 5)", "priority", "0"},
};

Json spec_of(const std::string& text) {
  if (text[0] == '{') return Json::parse(text);
  std::string whole = R"({"model": "resnet50", )";
  whole += text;
  whole += '}';
  return Json::parse(whole);
}

TEST(SpecParse, BadSpecsNameFieldValueAndWhatIsAllowed) {
  static_assert(std::size(kBad) >= 60);
  for (const Bad& bad : kBad) {
    SCOPED_TRACE(bad.spec);
    const auto parsed = parse_spec(spec_of(bad.spec));
    if (parsed) {
      ADD_FAILURE() << "accepted";
      continue;
    }
    const Error& error = parsed.error();
    EXPECT_EQ(error.code, ErrorCode::kInvalid);
    EXPECT_FALSE(error.message.empty());
    std::vector<std::string> named;
    bool offered = false;
    for (const auto& problem : error.fields) {
      named.push_back(problem.field);
      EXPECT_FALSE(problem.allowed.empty());
      EXPECT_THAT(problem.detail, testing::HasSubstr("'" + problem.field + "'"));
      offered = offered || (problem.field == bad.field &&
                            problem.allowed.find(bad.allowed) != std::string::npos);
    }
    EXPECT_THAT(named, testing::Contains(bad.field));
    EXPECT_TRUE(offered) << error.fields[0].allowed;
  }
}

TEST(SpecParse, WhatIsNotAnObjectIsRefused) {
  for (const Json& value : {Json(nullptr), Json(3), Json("resnet50"), Json::array()}) {
    const auto parsed = parse_spec(value);
    ASSERT_FALSE(parsed);
    EXPECT_EQ(parsed.error().fields[0].allowed, "a JSON object");
  }
}

TEST(SpecParse, AllProblemsAreReportedAtOnce) {
  const auto parsed = parse_spec(Json::parse(
      R"({"model": "vgg", "bogus": 1, "batch_size": 0, "steps": {"measured": 0, "x": 1}})"));
  ASSERT_FALSE(parsed);
  std::vector<std::string> named;
  for (const auto& problem : parsed.error().fields) named.push_back(problem.field);
  EXPECT_THAT(named, testing::UnorderedElementsAre("model", "bogus", "batch_size", "steps.measured",
                                                   "steps.x"));
  EXPECT_THAT(parsed.error().message, testing::EndsWith("(and 4 more)"));
}

TEST(SpecParse, OneMistakeIsOneProblem) {
  // A wrong mode must not make the fields of the meant mode look wrong as well.
  for (const char* text : {R"("mode": "infer", "inference": {"instances": 2})",
                           R"("variable_update": "ps", "parameter_server": {"servers": 1})",
                           R"("input": {"kind": "pictures", "path": "/data"})",
                           R"("resources": {"device": "tpu", "gpus_per_worker": 1})"}) {
    const auto parsed = parse_spec(spec_of(text));
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().fields.size(), 1u) << text << parsed.error().fields.back().field;
  }
}

TEST(SpecParse, ARefusalOffersWhatRunsNow) {
  const auto parsed = parse_spec({{"model", "vgg"}});
  ASSERT_FALSE(parsed);
  EXPECT_THAT(parsed.error().fields[0].allowed,
              testing::AllOf(testing::StartsWith("one of resnet50, inception_v3"),
                             testing::EndsWith("catsdogs_deep")));
}

TEST(SpecParse, AnAnswerStaysSmall) {
  Json spec = {{"model", std::string(1'000'000, 'x')}};
  for (int i = 0; i < 5000; ++i) spec[std::string("unknown").append(std::to_string(i))] = i;
  spec[std::string(1'000'000, 'k')] = 1;
  const auto parsed = parse_spec(spec);
  ASSERT_FALSE(parsed);
  std::size_t bytes = 0;
  for (const auto& p : parsed.error().fields) {
    bytes += p.field.size() + p.value.dump().size() + p.detail.size();
  }
  EXPECT_LE(parsed.error().fields.size(), 100u);
  EXPECT_LT(bytes, 100'000u);
}

TEST(SpecParse, LabelsAndNamesAreBounded) {
  Json labels = Json::object();
  for (int i = 0; i < 64; ++i)
    labels[std::string("k").append(std::to_string(i))] = std::string(256, 'v');
  EXPECT_TRUE(parse_spec({{"model", "resnet50"}, {"labels", labels}}));
  labels["one"] = "more";
  EXPECT_FALSE(parse_spec({{"model", "resnet50"}, {"labels", labels}}));
  EXPECT_FALSE(parse_spec({{"model", "resnet50"}, {"labels", {{"k", std::string(257, 'v')}}}}));
  EXPECT_TRUE(parse_spec({{"model", "resnet50"}, {"labels", {{std::string(63, 'k'), ""}}}}));
  EXPECT_FALSE(parse_spec({{"model", "resnet50"}, {"labels", {{std::string(64, 'k'), ""}}}}));
  EXPECT_TRUE(parse_spec({{"model", "resnet50"}, {"name", std::string(200, 'n')}}));
  EXPECT_FALSE(parse_spec({{"model", "resnet50"}, {"name", std::string(201, 'n')}}));
}

TEST(SpecParse, BytesThatAreNoTextDoNotThrow) {
  EXPECT_FALSE(parse_spec({{"model", "\xff\xfe"}}));
  EXPECT_FALSE(parse_spec({{"model", "resnet50"}, {"mode", "\xc3\x28"}}));
}

// --- accepted

TEST(SpecParse, DefaultsAreFilled) {
  const auto parsed = parse_spec({{"model", "resnet50"}});
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->batch_size, 32);
  EXPECT_EQ(parsed->image_size, 224);
  EXPECT_EQ(parsed->classes, 1000);
  EXPECT_EQ(parsed->variable_update, VariableUpdate::kAllReduce);
  EXPECT_EQ(parsed->steps.warmup, 10);
  EXPECT_EQ(parsed->steps.measured, 100);
  EXPECT_FALSE(parsed->steps.measured_seconds);
  EXPECT_FALSE(parsed->resources.workers_per_agent);
  EXPECT_EQ(parsed->repetitions.max, 1);
}

TEST(SpecParse, TheLossScaleIsDynamicUnlessItIsANumber) {
  const std::string start = R"("precision": "fp16", "resources": {"device": "gpu"})";
  const auto dynamic = parse_spec(spec_of(start));
  ASSERT_TRUE(dynamic) << dynamic.error().message;
  EXPECT_FALSE(dynamic->loss_scale);
  EXPECT_EQ(to_json(*dynamic)["loss_scale"], "dynamic");
  const auto fixed = parse_spec(spec_of(start + R"(, "loss_scale": 256)"));
  ASSERT_TRUE(fixed) << fixed.error().message;
  EXPECT_EQ(fixed->loss_scale, 256);
  EXPECT_FALSE(to_json(*parse_spec({{"model", "resnet50"}})).contains("loss_scale"));
}

TEST(SpecParse, MeasuringForATimeLeavesTheCountOut) {
  const auto parsed = parse_spec(spec_of(R"("steps": {"measured_seconds": 30})"));
  ASSERT_TRUE(parsed);
  EXPECT_FALSE(parsed->steps.measured);
  EXPECT_EQ(parsed->steps.measured_seconds, 30);
  EXPECT_FALSE(to_json(*parsed)["steps"].contains("measured"));
}

TEST(SpecParse, ClassesOfPicturesAreTheFolders) {
  const auto parsed = parse_spec(spec_of(R"("input": {"kind": "images", "path": "/data/photos"})"));
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->classes, 0);
  EXPECT_FALSE(to_json(*parsed).contains("classes"));
  EXPECT_EQ(
      parse_spec(spec_of(R"("classes": 7, "input": {"kind": "images", "path": "/d"})"))->classes,
      7);
}

TEST(SpecParse, RoundTrip) {
  for (
      const char* text :
      {R"({"model": "resnet50"})",
       R"("batch_size": 16, "seed": 9007199254740991)",
       R"("optimizer": {"learning_rate": 0.1, "momentum": 0, "weight_decay": 0})",
       R"("variable_update": "independent", "resources": {"workers_per_agent": 4})",
       R"("variable_update": "parameter_server", "parameter_server": {"shard_bytes": 65536})",
       R"("all_reduce": {"bucket_bytes": 1048576, "overlap": false, "algorithm": "ring"})",
       R"("all_reduce": {"wire": "bf16"}, "resources": {"workers_per_agent": 2})",
       R"("variable_update": "parameter_server", "resources": {"agents": 3, "workers": 5},
           "parameter_server": {"placement": "dedicated"})",
       R"("variable_update": "parameter_server", "resources": {"workers_per_agent": 4},
           "parameter_server": {"servers": 3, "placement": "dedicated", "wire": "fp16",
                                "consistency": "bounded", "staleness": 2})",
       R"("input": {"kind": "images", "path": "/d/x y", "cache": true, "decode_threads": 2,
                     "queue_depth": 5, "augment": {"flip": false}})",
       R"("input": {"kind": "packed", "path": "/d", "augment": {"flip": true, "crop": true}})",
       R"("mode": "inference", "input": {"kind": "packed", "path": "/d"})",
       R"("resources": {"selector": {"name": "a", "site": "b"}, "threads_per_worker": 2})",
       R"("steps": {"warmup": 0, "measured_seconds": 2.5}, "repetitions": 3)",
       R"("timeout_s": 60, "stall_s": 30.5, "retries": 0, "labels": {"a/b": "c"}, "name": "n")",
       R"("batch_size": "max", "profile": true)",
       R"("precision": "fp16", "loss_scale": 1024, "fusion": "bn-relu-add+conv-statistics", "resources": {"device": "gpu"})",
       R"("precision": "fp16", "loss_scale": "dynamic", "fusion": "bn-relu-add",
           "resources": {"device": "gpu", "gpus_per_worker": 1})",
       R"("precision": "tf32", "mode": "inference", "resources": {"device": "gpu"})",
       R"("input": {"kind": "images", "path": "/d", "decode_device": "gpu"},
           "resources": {"device": "gpu"})",
       R"("mode": "inference", "batch_size": 1, "input": {"kind": "packed", "path": "/d", "overlap": true},
           "resources": {"device": "gpu"})",
       R"("batch_size": 16.0, "image_size": 32, "classes": 2, "profile": false, "priority": 0)"}) {
    SCOPED_TRACE(text);
    const auto first = parse_spec(spec_of(text));
    ASSERT_TRUE(first) << first.error().message;
    const Json written = to_json(*first);
    const auto again = parse_spec(written);
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(to_json(*again), written);
    const auto resolved =
        resolve_for_host(*first, {.numa_domains = 2, .physical_cores = 8, .gpus = 2});
    ASSERT_TRUE(resolved) << resolved.error().message;
    const auto resolved_again = parse_spec(to_json(*resolved));
    ASSERT_TRUE(resolved_again) << resolved_again.error().message;
    EXPECT_EQ(to_json(*resolved_again), to_json(*resolved));
  }
}

}  // namespace
}  // namespace rackmark

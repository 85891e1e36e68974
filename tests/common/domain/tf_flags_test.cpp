#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/domain/spec.hpp"

namespace rackmark {
namespace {

Json spec_from(const std::string& line, bool gpu = false) {
  const auto result = spec_from_tf_flags(line, gpu);
  EXPECT_TRUE(result) << line << ": " << result.error().message;
  return result ? *result : Json();
}

// The line with which this began.
TEST(TfFlags, TheFoundingLineIsAccepted) {
  const Json json = spec_from("--num_gpus=1 --model=resnet50 --variable_update=parameter_server");
  const auto parsed = parse_spec(json);
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->model, "resnet50");
  EXPECT_EQ(parsed->variable_update, VariableUpdate::kParameterServer);
  EXPECT_EQ(parsed->resources.workers_per_agent, 1);
  EXPECT_EQ(parsed->resources.device, Device::kCpu);
  EXPECT_EQ(parsed->steps.warmup, 10);
  EXPECT_EQ(parsed->steps.measured, 100);
}

TEST(TfFlags, EveryFlagMaps) {
  const Json json = spec_from(
      "python3 tf_cnn_benchmarks.py --model=resnet50_v1.5 --num_gpus=2 --batch_size=16 "
      "--num_batches=20 --num_warmup_batches=2 --device=cpu --variable_update=replicated "
      "--data_format=NHWC --optimizer=momentum --momentum=0.8 --init_learning_rate=0.1 "
      "--weight_decay=0.001 --display_every=5 --image_size=128 --tf_random_seed=7 "
      "--num_intra_threads=4 --data_dir=/data/photos --data_name=imagenet");
  EXPECT_EQ(json["model"], "resnet50");
  EXPECT_EQ(json["mode"], "training");
  EXPECT_EQ(json["batch_size"], 16);
  EXPECT_EQ(json["image_size"], 128);
  EXPECT_EQ(json["seed"], 7);
  EXPECT_EQ(json["variable_update"], "all_reduce");
  EXPECT_EQ(json["resources"]["workers_per_agent"], 2);
  EXPECT_EQ(json["resources"]["threads_per_worker"], 4);
  EXPECT_EQ(json["optimizer"]["momentum"], 0.8);
  EXPECT_EQ(json["optimizer"]["learning_rate"], 0.1);
  EXPECT_EQ(json["optimizer"]["weight_decay"], 0.001);
  EXPECT_EQ(json["input"]["kind"], "images");
  EXPECT_EQ(json["input"]["path"], "/data/photos");
  EXPECT_EQ(json["steps"], (Json{{"warmup", 2}, {"measured", 20}}));
  EXPECT_EQ(json["labels"]["tf.data_format"], "NHWC");
  const auto parsed = parse_spec(json);
  EXPECT_TRUE(parsed) << parsed.error().message;
}

TEST(TfFlags, DefaultsAreThatProgramsOwn) {
  const Json json = spec_from("--model=resnet50");
  EXPECT_EQ(json["variable_update"], "parameter_server");
  EXPECT_EQ(json["optimizer"]["momentum"], 0.0);  // plain sgd
  EXPECT_EQ(json["optimizer"]["weight_decay"], 4e-5);
  EXPECT_EQ(json["resources"]["workers_per_agent"], 1);
  EXPECT_EQ(json["input"]["kind"], "synthetic");
  EXPECT_EQ(spec_from("--model=resnet50 --optimizer=momentum")["optimizer"]["momentum"], 0.9);
  EXPECT_EQ(spec_from("--model=resnet50 --data_name=imagenet")["input"]["kind"], "synthetic");
}

TEST(TfFlags, VariableUpdates) {
  for (const char* name :
       {"replicated", "horovod", "distributed_all_reduce", "collective_all_reduce"}) {
    EXPECT_EQ(
        spec_from(std::string("--model=resnet50 --variable_update=") + name)["variable_update"],
        "all_reduce");
  }
  EXPECT_EQ(spec_from("--model=resnet50 --variable_update=independent")["variable_update"],
            "independent");
  EXPECT_EQ(
      spec_from("--model=resnet50 --local_parameter_device=cpu")["parameter_server"]["device"],
      "cpu");
  EXPECT_EQ(
      spec_from("--model=resnet50 --cross_replica_sync=false")["parameter_server"]["consistency"],
      "async");
  EXPECT_FALSE(spec_from("--model=resnet50 --cross_replica_sync").contains("parameter_server"));
}

TEST(TfFlags, FormsOfWriting) {
  const Json expected = spec_from("--model=resnet50 --batch_size=8");
  EXPECT_EQ(spec_from("--model resnet50 --batch_size 8"), expected);
  EXPECT_EQ(spec_from("  --batch_size=8\n\t--model='resnet50' "), expected);
  EXPECT_EQ(spec_from("--model=\"resnet50\" \\\n --batch_size=8"), expected);
  EXPECT_EQ(spec_from("tf_cnn_benchmarks --model=resnet50 --batch_size=8 --noforward_only"),
            expected);
  EXPECT_EQ(spec_from("--model=inception3")["model"], "inception_v3");
  EXPECT_EQ(spec_from("--data_dir='/data/my photos' --model=resnet50")["input"]["path"],
            "/data/my photos");
}

TEST(TfFlags, ForwardOnlyIsInference) {
  const Json json = spec_from("--model=resnet50 --forward_only");
  EXPECT_EQ(json["mode"], "inference");
  EXPECT_FALSE(json.contains("variable_update"));
  EXPECT_FALSE(json.contains("optimizer"));
  EXPECT_EQ(spec_from("--model=resnet50 --forward_only=True --use_fp16")["precision"], "fp16");
  EXPECT_EQ(spec_from("--model=resnet50 --forward_only=false")["mode"], "training");
}

TEST(TfFlags, TheDeviceIsAGpuWhereThereIsOne) {
  const Json gpu = spec_from("--model=resnet50 --num_gpus=2 --use_fp16", true);
  EXPECT_EQ(gpu["resources"]["device"], "gpu");
  EXPECT_EQ(gpu["resources"]["workers_per_agent"], 2);
  EXPECT_EQ(spec_from("--model=resnet50", false)["resources"]["device"], "cpu");
  EXPECT_EQ(spec_from("--model=resnet50 --device=cpu", true)["resources"]["device"], "cpu");
  EXPECT_EQ(spec_from("--model=resnet50 --device=gpu")["resources"]["device"], "gpu");
}

TEST(TfFlags, RefusedByName) {
  struct Case {
    const char *line, *flag, *allowed;
  };
  for (const Case& c : {
           Case{"--batch_size=8", "--model", "resnet50"},
           Case{"--model=resnet50 --xla=true", "--xla", "batch_size"},
           Case{"--model=resnet50 --xla_compile", "--xla_compile", "batch_size"},
           Case{"--model=resnet50 --batch_size=many", "--batch_size", "whole number"},
           Case{"--model=resnet50 --batch_size=8x", "--batch_size", "whole number"},
           Case{"--model=resnet50 --batch_size=", "--batch_size", "a value"},
           Case{"--model=resnet50 --batch_size", "--batch_size", "a value"},
           Case{"--model=resnet50 --batch_size=1 --batch_size=2", "--batch_size", "one value"},
           Case{"--model=resnet50 --variable_update=distributed_replicated", "--variable_update",
                "replicated"},
           Case{"--model=resnet50 --device=tpu", "--device", "cpu"},
           Case{"--model=resnet50 --optimizer=rmsprop", "--optimizer", "momentum"},
           Case{"--model=resnet50 --momentum=0.5", "--momentum", "optimizer=momentum"},
           Case{"--model=resnet50 --data_format=NCHWc", "--data_format", "NCHW"},
           Case{"--model=resnet50 --variable_update=replicated --local_parameter_device=cpu",
                "--local_parameter_device", "parameter_server"},
           Case{"--model=resnet50 --variable_update=horovod --cross_replica_sync=false",
                "--cross_replica_sync", "parameter_server"},
           Case{"--model=resnet50 --data_dir=/d --data_name=synthetic", "--data_dir", "nothing"},
           Case{"--model=resnet50 --forward_only --momentum=0.9", "--momentum", "momentum"},
           Case{"--model=resnet50 --forward_only --weight_decay=0.1", "--weight_decay", "nothing"},
           Case{"--model=resnet50 --forward_only=maybe", "--forward_only", "true or false"},
           Case{"--model=resnet50 --init_learning_rate=fast", "--init_learning_rate", "a number"},
           Case{"resnet50", "resnet50", "--flag"},
       }) {
    SCOPED_TRACE(c.line);
    const auto result = spec_from_tf_flags(c.line, false);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, ErrorCode::kInvalid);
    bool found = false;
    for (const auto& problem : result.error().fields) {
      found = found || (problem.allowed.find(c.allowed) != std::string::npos &&
                        (problem.field == c.flag || problem.field == std::string("--") + c.flag));
    }
    EXPECT_TRUE(found) << result.error().message;
  }
}

TEST(TfFlags, EveryUnknownFlagIsNamed) {
  const auto result = spec_from_tf_flags("--model=resnet50 --one=1 --two --three=3", false);
  ASSERT_FALSE(result);
  ASSERT_EQ(result.error().fields.size(), 3u);
  EXPECT_EQ(result.error().fields[1].field, "--two");
}

}  // namespace
}  // namespace rackmark

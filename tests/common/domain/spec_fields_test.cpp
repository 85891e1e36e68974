#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "common/domain/spec.hpp"
#include "common/json/described.hpp"

namespace rackmark {
namespace {

// Puts `value` at a path with dots.
void put(Json& spec, const std::string& path, const Json& value) {
  Json* at = &spec;
  std::size_t start = 0;
  for (auto dot = path.find('.'); dot != path.npos; dot = path.find('.', start)) {
    at = &(*at)[path.substr(start, dot - start)];
    start = dot + 1;
  }
  (*at)[path.substr(start)] = value;
}

const SpecField& field(const std::string& path) {
  for (const auto& f : spec_fields()) {
    if (f.path == path) return f;
  }
  ADD_FAILURE() << "no field " << path;
  return spec_fields()[0];
}

TEST(SpecFields, EveryRowIsComplete) {
  std::set<std::string> paths;
  for (const auto& f : spec_fields()) {
    EXPECT_TRUE(paths.insert(f.path).second) << f.path << " is there twice";
    EXPECT_THAT(f.help, testing::EndsWith(".")) << f.path;
    EXPECT_THAT(
        (std::set<std::string>{"string", "integer", "number", "boolean", "enum", "integer_or_max",
                               "number_or_dynamic", "repetitions", "map"}),
        testing::Contains(f.type))
        << f.path;
    if (f.type == "integer" || f.type == "number") {
      EXPECT_TRUE(f.minimum && f.maximum) << f.path << " is unbounded";
    }
    if (f.type == "enum") {
      EXPECT_FALSE(f.values.empty()) << f.path;
      for (const auto& now : f.values_now) EXPECT_THAT(f.values, testing::Contains(now)) << f.path;
    }
  }
  EXPECT_GE(paths.size(), 50u);
}

TEST(SpecFields, TheDesignsFieldsAreThere) {
  for (const char* path : {"model",
                           "mode",
                           "precision",
                           "loss_scale",
                           "batch_size",
                           "image_size",
                           "classes",
                           "seed",
                           "optimizer.kind",
                           "optimizer.schedule",
                           "variable_update",
                           "all_reduce.wire",
                           "parameter_server.staleness",
                           "resources.selector",
                           "resources.gpus_per_worker",
                           "input.augment.shear",
                           "input.compare_synthetic",
                           "steps.measured_seconds",
                           "steps.epochs",
                           "steps.target_accuracy",
                           "inference.instances",
                           "inference.request_rate",
                           "inference.calibration",
                           "repetitions",
                           "profile",
                           "measure_collectives",
                           "fusion",
                           "priority",
                           "timeout_s",
                           "stall_s",
                           "retries",
                           "labels",
                           "name"}) {
    EXPECT_EQ(field(path).path, path);
  }
}

TEST(SpecFields, DefaultsAreTheDesigns) {
  EXPECT_EQ(field("optimizer.learning_rate").default_value, 0.01);
  EXPECT_EQ(field("optimizer.momentum").default_value, 0.9);
  EXPECT_EQ(field("optimizer.weight_decay").default_value, 1e-4);
  EXPECT_EQ(field("all_reduce.bucket_bytes").default_value, 26214400);
  EXPECT_EQ(field("parameter_server.shard_bytes").default_value, 4194304);
  EXPECT_EQ(field("steps.warmup").default_value, 10);
  EXPECT_EQ(field("steps.measured").default_value, 100);
  EXPECT_EQ(field("variable_update").default_value, "all_reduce");
  EXPECT_EQ(field("seed").default_value, 1);
  EXPECT_EQ(field("retries").default_value, 1);
  EXPECT_EQ(field("repetitions").default_value, 1);
  EXPECT_TRUE(field("batch_size").default_value.is_null());
  EXPECT_EQ(field("batch_size").default_text, "the model's");
}

// Every default that the table states is one that the parser takes and gives back.
TEST(SpecFields, EveryStatedDefaultIsWhatAnEmptySpecGets) {
  const auto parsed = parse_spec({{"model", "resnet50"}});
  ASSERT_TRUE(parsed);
  const Json spec = to_json(*parsed);
  for (const auto& f : spec_fields()) {
    if (f.default_value.is_null()) continue;
    std::string pointer = "/" + f.path;
    for (auto& c : pointer) c = c == '.' ? '/' : c;
    const Json::json_pointer at(pointer);
    if (spec.contains(at)) {
      EXPECT_EQ(spec[at], f.default_value) << f.path;
    } else {
      EXPECT_NE(f.applies_when, "") << f.path << " applies and is absent";
    }
  }
}

// Every row is reachable: a value of the wrong type under its path is refused by that path.
TEST(SpecFields, EveryRowIsChecked) {
  for (const auto& f : spec_fields()) {
    Json spec = {{"model", "resnet50"}};
    put(spec, f.path, Json::array({1}));
    const auto parsed = parse_spec(spec);
    ASSERT_FALSE(parsed) << f.path;
    std::vector<std::string> named;
    for (const auto& problem : parsed.error().fields) named.push_back(problem.field);
    EXPECT_THAT(named, testing::Contains(f.path));
  }
}

TEST(SpecFields, EveryBoundHolds) {
  for (const auto& f : spec_fields()) {
    if (!f.available || !f.minimum || !f.maximum) continue;
    for (const Json& value : {Json(*f.minimum - 1), Json(*f.maximum + 1), Json(1e300)}) {
      Json spec = {{"model", "resnet50"}};
      put(spec, f.path, value);
      const auto parsed = parse_spec(spec);
      ASSERT_FALSE(parsed) << f.path << " = " << value;
      EXPECT_EQ(parsed.error().code, ErrorCode::kInvalid);
      EXPECT_FALSE(parsed.error().fields[0].allowed.empty()) << f.path;
    }
  }
}

TEST(SpecFields, TheSchemaIsMadeFromTheTable) {
  const Json schema = spec_json_schema();
  EXPECT_EQ(schema["additionalProperties"], false);
  EXPECT_EQ(schema["required"], Json::array({"model"}));
  for (const auto& f : spec_fields()) {
    std::string pointer = "/properties/" + f.path;
    for (auto dot = pointer.find('.'); dot != pointer.npos; dot = pointer.find('.')) {
      pointer.replace(dot, 1, "/properties/");
    }
    ASSERT_TRUE(schema.contains(Json::json_pointer(pointer))) << pointer;
    const Json& entry = schema[Json::json_pointer(pointer)];
    EXPECT_NE(entry["description"].get<std::string>().find(f.help), std::string::npos);
    if (!f.default_value.is_null()) {
      EXPECT_EQ(entry["default"], f.default_value) << f.path;
    }
    if (f.type == "enum") {
      EXPECT_EQ(entry["enum"], Json(f.values)) << f.path;
    }
  }
  EXPECT_EQ(schema["properties"]["optimizer"]["additionalProperties"], false);
}

TEST(ModelFacts, TheSpecsNamesAreTheModels) {
  std::vector<std::string> names, available;
  for (const auto& model : model_facts()) {
    names.push_back(model.name);
    if (model.available) available.push_back(model.name);
    EXPECT_GT(model.image_size, 0) << model.name;
    EXPECT_GT(model.classes, 0) << model.name;
    EXPECT_EQ(model.available, model.parameters > 0) << model.name;
  }
  EXPECT_EQ(names, field("model").values);
  EXPECT_EQ(available, field("model").values_now);
  EXPECT_EQ(model_facts()[0].parameters, 25'557'032);
}

}  // namespace
}  // namespace rackmark

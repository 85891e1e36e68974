#include "controller/http/schema.hpp"

#include <gtest/gtest.h>

#include "common/protocol/jobs.hpp"

namespace rackmark::http {
namespace {

TEST(Schema, StructsAreSharedAndReferredTo) {
  nlohmann::json schemas = nlohmann::json::object();
  EXPECT_EQ(schema_of<protocol::JobPage>(schemas),
            (nlohmann::json{{"$ref", "#/components/schemas/JobPage"}}));
  EXPECT_TRUE(schemas.contains("JobPage") && schemas.contains("JobView") &&
              schemas.contains("RunView") && schemas.contains("Headline"));
  const auto& job = schemas["JobView"]["properties"];
  EXPECT_EQ(job["id"]["type"], "integer");
  EXPECT_EQ(job["state"]["enum"],
            (nlohmann::json{"queued", "running", "succeeded", "failed", "cancelled"}));
  EXPECT_EQ(job["group_id"]["type"], (nlohmann::json{"integer", "null"}));
  EXPECT_EQ(job["runs"]["items"]["$ref"], "#/components/schemas/RunView");
  EXPECT_EQ(job["labels"]["additionalProperties"]["type"], "string");
  EXPECT_EQ(job["spec_resolved"], nlohmann::json::object()) << "anything";
}

TEST(Schema, ANullableEnumAllowsNull) {
  nlohmann::json schemas = nlohmann::json::object();
  const auto schema = schema_of<std::optional<JobState>>(schemas);
  EXPECT_EQ(schema["type"], (nlohmann::json{"string", "null"}));
  EXPECT_TRUE(schema["enum"].back().is_null());
  const auto nested = schema_of<std::optional<protocol::Waiting>>(schemas);
  EXPECT_EQ(nested["anyOf"][1]["type"], "null");
}

TEST(Schema, QueriesAreParameters) {
  nlohmann::json schemas = nlohmann::json::object();
  const auto parameters = query_parameters<protocol::JobQuery>(schemas);
  EXPECT_EQ(parameters.size(), 12u);
  EXPECT_EQ(parameters.back()["name"], "limit");
  EXPECT_EQ(parameters.back()["schema"]["default"], 50);
  EXPECT_EQ(parameters[0]["in"], "query");
}

// Every name that is referred to is defined.
TEST(Schema, NoReferenceDangles) {
  nlohmann::json schemas = nlohmann::json::object();
  schema_of<protocol::JobPage>(schemas);
  const std::string text = schemas.dump();
  const std::string prefix = "#/components/schemas/";
  for (auto at = text.find(prefix); at != std::string::npos; at = text.find(prefix, at + 1)) {
    const auto begin = at + prefix.size();
    const std::string name = text.substr(begin, text.find('"', begin) - begin);
    EXPECT_TRUE(schemas.contains(name) && schemas[name].is_object()) << name;
  }
}

}  // namespace
}  // namespace rackmark::http

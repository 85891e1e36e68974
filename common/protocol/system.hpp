// What the controller itself is, what it can run, and what happens in it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/domain/spec.hpp"
#include "common/json/described.hpp"
#include "common/json/json.hpp"
#include "common/protocol/endpoint.hpp"

namespace rackmark::protocol {

struct VersionView {
  std::string version, controller_uuid, started_at;
  int protocol = 1;
  std::int64_t schema = 0;  // number of the newest migration
};
BOOST_DESCRIBE_STRUCT(VersionView, (), (version, controller_uuid, started_at, protocol, schema))

struct ModelList {
  std::vector<ModelFacts> items;
};
BOOST_DESCRIBE_STRUCT(ModelList, (), (items))

struct SpecSchema {
  nlohmann::json json_schema;
  std::vector<SpecField> fields;                   // the table itself: what the form is made from
  std::map<std::string, std::string> definitions;  // of measured numbers, for hover
};
BOOST_DESCRIBE_STRUCT(SpecSchema, (), (json_schema, fields, definitions))

struct BackupView {
  std::string file;  // on the controller's host, beside its database
  std::int64_t bytes = 0;
  std::string created_at;
};
BOOST_DESCRIBE_STRUCT(BackupView, (), (file, bytes, created_at))

// Server-sent events. With an id (a row of the event log, resumable by Last-Event-ID):
//   event "job":   JobView without runs, transitions, spec_submitted, spec_resolved
//   event "run":   RunView without spec, transitions and result
//   event "agent": AgentView without inventory
// Without an id (live only; fetch /runs/{id}/steps or /logs to catch up):
//   event "steps": {"run_id", "job_id", "rank", and the members of StepsEvent}
//   event "telemetry": {"run_id", "job_id", "rank", "t_ns", members of TelemetryEvent}
//   event "logs":  {"run_id", "job_id", "lines": [LogLineView...]}
//   event "gap":   {}: rows after the given Last-Event-ID are gone; fetch what you show anew
//   event "ping":  {}: after 15 s without another; proxies keep the stream, readers know it lives
struct EventQuery {
  std::optional<std::int64_t> job;  // only what concerns this job
};
BOOST_DESCRIBE_STRUCT(EventQuery, (), (job))

// RFC 9457 problem details: the body of every error, content type application/problem+json.
struct ProblemField {
  std::string field;
  nlohmann::json value;
  std::string allowed, detail;
};
BOOST_DESCRIBE_STRUCT(ProblemField, (), (field, value, allowed, detail))
struct Problem {
  std::string type = "about:blank", title;  // title: the status in words
  int status = 500;
  std::string detail, instance;      // instance: the path that was asked
  std::vector<ProblemField> errors;  // of a 422: every wrong member
};
BOOST_DESCRIBE_STRUCT(Problem, (), (type, title, status, detail, instance, errors))

inline constexpr Endpoint<Nothing, VersionView> kVersion{Verb::kGet, "/api/v1/version",
                                                         "Versions and identity", Role::kPublic};
inline constexpr Endpoint<Nothing, ModelList> kModels{Verb::kGet, "/api/v1/models",
                                                      "Networks that a job may name"};
inline constexpr Endpoint<Nothing, SpecSchema> kSpecSchema{
    Verb::kGet, "/api/v1/spec", "The job spec: JSON schema, field table, definitions of numbers"};
inline constexpr Endpoint<Nothing, BackupView> kCreateBackup{
    Verb::kPost, "/api/v1/backups", "Copy the database into a file beside it", Role::kAdmin, 201};
// Also served, outside the Endpoint form: GET /api/v1/events (SSE, EventQuery),
// /api/v1/openapi.json, /healthz, /readyz, /metrics, and the web view under every other path.

}  // namespace rackmark::protocol

#include "controller/api/metrics.hpp"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <map>

#include "controller/http/server.hpp"
#include "controller/service/reader.hpp"

namespace rackmark::api {
namespace {

using States = std::map<std::string, std::int64_t>;

void set_states(prometheus::Family<prometheus::Gauge>& family, const States& states) {
  for (const auto& [state, count] : states) {
    family.Add({{"state", state}}).Set(static_cast<double>(count));
  }
}

const prometheus::Histogram::BucketBoundaries kSeconds{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                                       0.1,   0.25,   0.5,   1,    3,     25};

}  // namespace

struct Metrics::Impl {
  prometheus::Registry registry;

  prometheus::Family<prometheus::Gauge>& gauges(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry);
  }
  prometheus::Family<prometheus::Counter>& requests =
      prometheus::BuildCounter()
          .Name("rackmark_http_requests_total")
          .Help("Answered requests by route, method and status")
          .Register(registry);
  prometheus::Family<prometheus::Histogram>& latency =
      prometheus::BuildHistogram()
          .Name("rackmark_http_request_seconds")
          .Help("From the last byte of a request to the last byte of its answer")
          .Register(registry);
  prometheus::Family<prometheus::Counter>& uploads =
      prometheus::BuildCounter()
          .Name("rackmark_event_uploads_total")
          .Help("Uploads of event batches by agents, by status")
          .Register(registry);
  prometheus::Family<prometheus::Gauge>& jobs = gauges("rackmark_jobs", "Jobs by state");
  prometheus::Family<prometheus::Gauge>& runs = gauges("rackmark_runs", "Runs by state");
  prometheus::Family<prometheus::Gauge>& agents = gauges("rackmark_agents", "Agents by state");
  prometheus::Gauge& results = gauges("rackmark_results", "Results stored").Add({});
  prometheus::Gauge& newest_event =
      gauges("rackmark_event_log_newest", "Newest number of the event log").Add({});
  prometheus::Gauge& database_bytes =
      gauges("rackmark_database_bytes", "Size of the database").Add({});
  prometheus::Gauge& oldest_queued_s =
      gauges("rackmark_oldest_queued_seconds", "Age of the oldest waiting job; 0 when none waits")
          .Add({});
  prometheus::Gauge& failing =
      gauges("rackmark_writes_failing", "1 while nothing can be stored, as on a full disk").Add({});
  prometheus::Gauge& subscribers = gauges("rackmark_event_streams", "Open event streams").Add({});
  prometheus::Gauge& held_syncs = gauges("rackmark_held_syncs", "Agents in a held sync").Add({});
  prometheus::Gauge& connections = gauges("rackmark_connections", "Open connections").Add({});
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {
  impl_->gauges("rackmark_build_info", "Always 1; the version is a label")
      .Add({{"version", RACKMARK_VERSION}})
      .Set(1);
}
Metrics::~Metrics() = default;

void Metrics::observe(const http::Observation& observation) {
  // Only known routes are labels: addresses that strangers make up must not become series.
  const std::string route(observation.route.empty() ? "other" : observation.route);
  const std::string method(observation.route.empty() ? "other" : observation.method);
  impl_->requests
      .Add({{"route", route}, {"method", method}, {"status", std::to_string(observation.status)}})
      .Increment();
  impl_->latency.Add({{"route", route}}, kSeconds).Observe(observation.seconds);
}

void Metrics::count_event_upload(int status) {
  impl_->uploads.Add({{"status", std::to_string(status)}}).Increment();
}

void Metrics::set_streams(std::size_t subscribers, std::size_t held_syncs,
                          std::size_t connections) {
  impl_->subscribers.Set(static_cast<double>(subscribers));
  impl_->held_syncs.Set(static_cast<double>(held_syncs));
  impl_->connections.Set(static_cast<double>(connections));
}

void Metrics::set_failing(bool failing) { impl_->failing.Set(failing ? 1 : 0); }

std::string Metrics::text(const service::Counters& counters) {
  set_states(impl_->jobs, counters.jobs_by_state);
  set_states(impl_->runs, counters.runs_by_state);
  set_states(impl_->agents, counters.agents_by_state);
  impl_->results.Set(static_cast<double>(counters.results));
  impl_->newest_event.Set(static_cast<double>(counters.events_logged));
  impl_->database_bytes.Set(static_cast<double>(counters.database_bytes));
  impl_->oldest_queued_s.Set(counters.oldest_queued_s.value_or(0));
  return prometheus::TextSerializer().Serialize(impl_->registry.Collect());
}

}  // namespace rackmark::api

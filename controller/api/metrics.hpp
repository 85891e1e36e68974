// /metrics: what Prometheus scrapes. Request counters belong to the network thread; text() may be
// called from any thread (prometheus-cpp locks).
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace rackmark::http {
struct Observation;
}
namespace rackmark::service {
struct Counters;
}

namespace rackmark::api {

class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  void observe(const http::Observation& observation);
  void count_event_upload(int status);
  void set_failing(bool failing);  // nothing can be stored
  void set_streams(std::size_t subscribers, std::size_t held_syncs, std::size_t connections);

  // The exposition format 0.0.4, with gauges set from `counters`.
  std::string text(const service::Counters& counters);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace rackmark::api

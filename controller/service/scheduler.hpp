// Which job runs where, as a pure function of what is queued and what is there.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/domain/spec.hpp"
#include "controller/service/networks.hpp"

namespace rackmark::service {

struct Host {
  std::int64_t id = 0;
  std::string name, device_class;
  std::map<std::string, std::string> labels;
  HostShape shape;
  Networked network;
  std::string absence;  // "" = present; else why it gets no work: "lost", "shut down", ...
  std::optional<std::int64_t> busy_job;  // what holds it now
  std::optional<double> free_in_s;       // with busy_job: from past runs; nullopt = unknown
  std::string openmpi;                   // its version

  bool is_free() const { return absence.empty() && !busy_job; }
};

struct QueuedJob {
  std::int64_t id = 0;
  std::int64_t agents_wanted = 1;
  bool needs_gpu = false;
  std::map<std::string, std::string> selector;  // "name" matches the host's name
  std::string required_class;  // later repetitions stay on the device class of the first; "" = any
  std::vector<std::int64_t> preferred_hosts;  // where its last run succeeded
  std::vector<std::int64_t> avoided_hosts;    // where the attempt before this one did not
  std::optional<double> estimate_s;           // of its run, from past ones
  // Why this host cannot run it ("" = it can); called only for hosts that match otherwise.
  std::function<std::string(const Host&)> why_not;
};

struct Queue {
  std::vector<QueuedJob> jobs;  // in the order in which they should start
  std::vector<Host> hosts;
};

struct Placement {
  std::int64_t job_id = 0;
  std::vector<std::int64_t> hosts;  // head first
  std::string network;              // on which they talk; "" for one host
};

struct Wait {
  std::int64_t job_id = 0;
  std::string detail;
  std::optional<std::int64_t> blocking_job;
  std::optional<double> estimate_s;
};

struct Plan {
  std::vector<Placement> placements;
  std::vector<Wait> waits;
};

// Seam for priorities with ageing, backfill, and more than one run per host.
class Scheduler {
 public:
  virtual ~Scheduler() = default;
  // Every job of the queue is either placed or waits, and says why. With `only_placements` it may
  // stop as soon as no host is free.
  virtual Plan plan(const Queue& queue, bool only_placements) const = 0;
};

// First come, first served per host; a host runs one thing at a time; a job that needs several
// hosts holds its place on each until all are free, so nothing behind it can starve it. The hosts
// of one job are of one device class, have one version of Open MPI and share exactly one network.
class FifoScheduler : public Scheduler {
 public:
  Plan plan(const Queue& queue, bool only_placements) const override;
};

}  // namespace rackmark::service

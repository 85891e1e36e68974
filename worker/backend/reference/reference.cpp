#include "worker/backend/reference/reference.hpp"

#include <omp.h>

#include <new>

#include "worker/backend/memory_limit.hpp"
#include "worker/backend/reference/plan.hpp"

namespace rackmark::worker {
namespace {

template <class T>
std::unique_ptr<TrainPlan> compile_as(const Net& net, const PlanOptions& options) {
  using Plan = reference::ReferencePlan<T>;
  const std::int64_t wanted = Plan::predicted_bytes(net, options);
  const std::int64_t free = memory_limit().free_bytes;
  if (wanted > free) throw OutOfMemory(wanted, free);
  try {
    return std::make_unique<Plan>(net, options);
  } catch (const std::bad_alloc&) {
    throw OutOfMemory(wanted, free);
  }
}

class ReferenceBackend final : public Backend {
 public:
  std::string name() const override { return "reference"; }
  std::vector<std::string> precisions() const override { return {"fp32", "fp64"}; }
  bool usable(std::string*) const override { return true; }

  std::unique_ptr<TrainPlan> compile(const Net& net, const PlanOptions& options) override {
    PlanOptions resolved = options;
    if (resolved.batch < 1) throw std::invalid_argument("the batch must be at least 1");
    if (resolved.threads == 0) resolved.threads = omp_get_num_procs();
    if (resolved.precision == "fp32") return compile_as<float>(net, resolved);
    if (resolved.precision == "fp64") return compile_as<double>(net, resolved);
    throw std::invalid_argument("backend reference has no precision '" + resolved.precision +
                                "', only fp32, fp64");
  }
};

}  // namespace

std::unique_ptr<Backend> make_reference_backend() { return std::make_unique<ReferenceBackend>(); }

}  // namespace rackmark::worker

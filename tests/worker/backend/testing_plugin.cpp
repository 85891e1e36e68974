#include <cstdlib>

#include "worker/backend/reference/reference.hpp"

namespace {

// The plain backend under another name; unusable for the reason in RACKMARK_TESTING_UNUSABLE. With
// RACKMARK_TESTING_MEMORY a device of so many bytes, of which a plan takes 1,000 a picture, and
// leaves too few for the products of matrix_peak().
class TestingBackend final : public rackmark::worker::Backend {
 public:
  std::string name() const override { return "testing"; }
  std::vector<std::string> precisions() const override { return inner_->precisions(); }
  bool usable(std::string* why_not) const override {
    const char* why = std::getenv("RACKMARK_TESTING_UNUSABLE");
    if (why == nullptr) return inner_->usable(why_not);
    *why_not = why;
    return false;
  }
  std::optional<rackmark::worker::MemoryLimit> device_memory() override {
    const char* bytes = std::getenv("RACKMARK_TESTING_MEMORY");
    if (bytes == nullptr) return std::nullopt;
    return rackmark::worker::MemoryLimit{std::atoll(bytes), "testing device"};
  }
  std::optional<std::int64_t> predict_bytes(const rackmark::worker::Net&,
                                            const rackmark::worker::PlanOptions& options) override {
    if (!device_memory()) return std::nullopt;
    return std::int64_t{1000} * options.batch;
  }
  std::unique_ptr<rackmark::worker::TrainPlan> compile(
      const rackmark::worker::Net& net, const rackmark::worker::PlanOptions& options) override {
    compiled_ = true;
    return inner_->compile(net, options);
  }

  std::optional<double> matrix_peak(const std::string&, int, double) override {
    if (const auto memory = device_memory(); memory && compiled_) {
      throw rackmark::worker::OutOfMemory(memory->free_bytes, {0, memory->set_by});
    }
    return std::nullopt;
  }

 private:
  std::unique_ptr<Backend> inner_ = rackmark::worker::make_reference_backend();
  bool compiled_ = false;
};

}  // namespace

extern "C" rackmark::worker::Backend* rackmark_make_backend() { return new TestingBackend; }

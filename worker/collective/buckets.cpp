#include <algorithm>

#include "worker/collective/gradient_exchange.hpp"

namespace rackmark::worker {

namespace {

constexpr std::int64_t kLastBucketBytes = 1 << 20;
constexpr std::int64_t kFloatBytes = static_cast<std::int64_t>(sizeof(float));

std::int64_t end_of(const TrainPlan::Extent& extent) { return extent.offset + extent.count; }

}  // namespace

std::vector<Bucket> make_buckets(const TrainPlan& plan, std::int64_t max_bytes) {
  const int count = static_cast<int>(plan.net().parameters().size());
  std::vector<int> in_order;
  std::int64_t total_end = 0;
  for (int p = 0; p < count; ++p) {
    in_order.push_back(p);
    total_end = std::max(total_end, end_of(plan.extent(p)));
  }
  std::sort(in_order.begin(), in_order.end(),
            [&](int a, int b) { return plan.extent(a).offset < plan.extent(b).offset; });

  // The tail is cut off first, then the rest is filled from the front.
  std::size_t tail = in_order.size();
  if (total_end * kFloatBytes > max_bytes) {
    const std::int64_t tail_bytes = std::min(kLastBucketBytes, max_bytes);
    --tail;
    while (tail > 1 &&
           (total_end - plan.extent(in_order[tail - 1]).offset) * kFloatBytes <= tail_bytes) {
      --tail;
    }
  }

  std::vector<Bucket> buckets;
  for (std::size_t i = 0; i < in_order.size(); ++i) {
    const TrainPlan::Extent extent = plan.extent(in_order[i]);
    const bool fits = !buckets.empty() && i != tail &&
                      (end_of(extent) - buckets.back().range.offset) * kFloatBytes <= max_bytes;
    if (!fits) buckets.push_back({{extent.offset, 0}, {}});
    buckets.back().range.count = end_of(extent) - buckets.back().range.offset;
    buckets.back().parameters.push_back(in_order[i]);
  }
  return buckets;
}

}  // namespace rackmark::worker

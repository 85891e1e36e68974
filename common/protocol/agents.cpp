#include "common/protocol/agents.hpp"

#include <tuple>

namespace rackmark::protocol {

std::size_t likely_culprit(const std::vector<StallReport>& reports) {
  const auto key = [](const StallReport& r) {
    const bool stopped = r.process_state.starts_with("T") || r.process_state.starts_with("t");
    return std::tuple(!stopped, r.steps, -r.silent_s);
  };
  std::size_t found = 0;
  for (std::size_t i = 1; i < reports.size(); ++i) {
    if (key(reports[i]) < key(reports[found])) found = i;
  }
  return found;
}

}  // namespace rackmark::protocol

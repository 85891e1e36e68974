// Results as flat rows: the columns of `rackmark export --format csv`, units in their names.
#pragma once

#include <string>
#include <vector>

#include "common/protocol/runs.hpp"

namespace rackmark::cli {

std::vector<std::string> export_header();
// Cells in the order of the header; what is not available is an empty cell.
std::vector<std::string> export_row(const protocol::ResultView& result);

}  // namespace rackmark::cli

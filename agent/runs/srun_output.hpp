// What srun writes, read: the labels of --label, and its reports about a task that ended.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "agent/runs/mpirun_output.hpp"

namespace rackmark::agent {

// "07: text" -> rank 7; a line without a label is srun's own on `stream`.
TaggedLine parse_labelled_line(std::string_view line, std::string_view stream);

// The task that srun says ended first, from its own lines on standard error.
std::optional<AbortReport> parse_srun_report(std::span<const std::string> lines);

}  // namespace rackmark::agent

// What mpirun writes, read: the tags of --tag-output, and its reports about a rank that ended.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace rackmark::agent {

struct TaggedLine {
  std::int64_t rank = -1;  // -1: mpirun's own
  std::string stream;      // stdout or stderr
  std::string text;        // valid UTF-8: broken bytes are replaced
};
// "[1,0]<stderr>:text" -> rank 0; a line without a tag is mpirun's own on `stream`.
TaggedLine parse_tagged_line(std::string_view line, std::string_view stream);

// Broken UTF-8 replaced by U+FFFD, so that JSON can carry it.
std::string valid_utf8(std::string_view text);

// The rank that mpirun says ended the run, from its own lines on standard error.
struct AbortReport {
  std::int64_t rank = -1;
  std::int64_t signal = 0;                // of "exited on signal n"
  std::optional<std::int64_t> exit_code;  // of "Exit code: n"
};
std::optional<AbortReport> parse_abort_report(std::span<const std::string> lines);

}  // namespace rackmark::agent

// Numbers and names for people. A number carries its unit and spread; a missing one says why.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/protocol/jobs.hpp"

namespace rackmark::cli {

std::string rate_text(double images_per_second);  // "7.61", "76.1", "761", "4,812"
std::string spread_text(const measure::Spread& spread,
                        std::int64_t runs);                    // "±0.4 % (n=1, within the run)"
std::string headline_text(const measure::Headline& headline);  // "7.61 img/s ±0.4 % (n=5)"
// The headline, or why there is none: "out of memory", "waiting: behind job 41", "measuring".
std::string job_number_text(const protocol::JobView& job);
std::string digits_text(double value);  // three that mean something: "0.0912", "10.9", "1,000"
std::string milliseconds_text(std::optional<double> ms);  // "4,203 ms"; "not available"
std::string duration_text(double seconds);                // "42 s", "3 m 05 s", "2 h 10 m"
std::string bytes_text(double bytes);                     // "15.6 GiB"
std::string count_text(std::int64_t n);                   // "25,557,032"
std::string percent_text(double fraction);                // "0.4 %"

std::string words(std::string_view wire_name);    // "out_of_memory" -> "out of memory"
std::string time_text(std::string_view rfc3339);  // "2026-11-21 02:03:04Z"
// Text of others for a terminal: control characters (escape sequences) become '?', tabs stay.
std::string printable(std::string_view text);

// "[########........] 12/20  7.61 img/s  loss 6.93" of the job's last run; at most `width` columns.
std::string progress_text(const protocol::JobView& job, int width);

}  // namespace rackmark::cli

#include "agent/runs/mpirun_output.hpp"

#include <algorithm>
#include <charconv>

#include "common/json/json.hpp"

namespace rackmark::agent {

namespace {

// The number right after `mark`, wherever that is in the line.
std::optional<std::int64_t> number_after(std::string_view line, std::string_view mark) {
  const std::size_t at = line.find(mark);
  if (at == std::string_view::npos) return std::nullopt;
  line.remove_prefix(at + mark.size());
  while (line.starts_with(' ')) line.remove_prefix(1);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), value);
  if (error != std::errc{} || end == line.data()) return std::nullopt;
  return value;
}

}  // namespace

std::string valid_utf8(std::string_view text) {
  const bool ascii = std::all_of(text.begin(), text.end(),
                                 [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  if (ascii) return std::string(text);
  using nlohmann::json;
  const std::string quoted =
      json(std::string(text)).dump(-1, ' ', false, json::error_handler_t::replace);
  return json::parse(quoted).get<std::string>();
}

TaggedLine parse_tagged_line(std::string_view line, std::string_view stream) {
  TaggedLine out{-1, std::string(stream), {}};
  const std::size_t comma = line.find(','), close = line.find("]<");
  if (line.starts_with('[') && comma < close && close != std::string_view::npos) {
    for (const std::string_view name : {"stdout", "stderr"}) {
      const std::string_view rest = line.substr(close + 2);
      if (!rest.starts_with(name) || !rest.substr(name.size()).starts_with(">:")) continue;
      const std::string_view digits = line.substr(comma + 1, close - comma - 1);
      std::int64_t rank = -1;
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), rank);
      if (error != std::errc{} || end != digits.data() + digits.size() || rank < 0) break;
      return {rank, std::string(name), valid_utf8(rest.substr(name.size() + 2))};
    }
  }
  out.text = valid_utf8(line);
  return out;
}

std::optional<AbortReport> parse_abort_report(std::span<const std::string> lines) {
  std::optional<AbortReport> found;
  std::optional<std::int64_t> named_rank;
  bool noticed = false;  // named_rank is of a sentence whose end, the signal, is yet to come
  for (const auto& line : lines) {
    // mpirun noticed that process rank 1 with PID 4711 on node n exited on signal 9 (Killed).
    // Open MPI 5 begins a new line before "signal".
    if (const auto rank = number_after(line, "process rank ")) {
      named_rank = rank;
      noticed = true;
    }
    auto signal = number_after(line, "exited on signal ");
    if (!signal && line.starts_with("signal ")) signal = number_after(line, "signal ");
    if (noticed && signal) {
      found = AbortReport{*named_rank, *signal, std::nullopt};
      noticed = false;
    }
    // Process name: [[59341,1],0] or [prterun-node1-4711@1,0]
    if (line.find("Process name: [") != std::string::npos) {
      const auto comma = line.find_last_of(",[");  // a "[" is there
      named_rank = number_after(std::string_view(line).substr(comma), ",");
    }
    // Exit code:    3
    if (const auto code = number_after(line, "Exit code:"); code && named_rank && !found)
      found = AbortReport{*named_rank, 0, code};
  }
  return found;
}

}  // namespace rackmark::agent

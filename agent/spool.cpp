#include "agent/spool.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <optional>
#include <system_error>

#include "agent/process/files.hpp"
#include "common/json/described.hpp"

namespace rackmark::agent {

namespace fs = std::filesystem;
using protocol::EventBatch;

namespace {

constexpr std::uint64_t kSegmentBytes = std::uint64_t{1} << 20;
constexpr std::size_t kMaxRecordBytes = std::size_t{64} << 20;

std::uint32_t crc32(std::string_view bytes) {
  static const auto table = [] {
    std::array<std::uint32_t, 256> made{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t c = i;
      for (int k = 0; k < 8; ++k) c = (c & 1) != 0 ? 0xEDB88320U ^ (c >> 1) : c >> 1;
      made[i] = c;
    }
    return made;
  }();
  std::uint32_t crc = ~0U;
  for (const char byte : bytes)
    crc = table[(crc ^ static_cast<unsigned char>(byte)) & 0xFFU] ^ (crc >> 8);
  return ~crc;
}

std::string text_of(const EventBatch& batch) {
  return json::encode(batch).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string record_of(std::int64_t seq, const std::string& text) {
  return fmt::format("rm1 {} {} {:08x}\n{}\n", seq, text.size(), crc32(text), text);
}

struct Header {
  std::int64_t seq = 0;
  std::uint64_t bytes = 0;
  std::uint32_t crc = 0;
  std::size_t size = 0;  // of the header line itself
};

std::optional<Header> parse_header(std::string_view at) {
  const std::size_t end = at.substr(0, 80).find('\n');
  if (end == std::string_view::npos || !at.starts_with("rm1 ")) return std::nullopt;
  const std::string line(at.substr(0, end));
  Header header;
  long long seq = 0;
  unsigned long long bytes = 0;
  unsigned crc = 0;
  int used = 0;
  if (std::sscanf(line.c_str(), "rm1 %lld %llu %8x%n", &seq, &bytes, &crc, &used) != 3 ||
      static_cast<std::size_t>(used) != line.size() || seq < 1 || bytes > kMaxRecordBytes)
    return std::nullopt;
  return Header{seq, bytes, crc, end + 1};
}

// At most `bytes` from `offset` on: fewer at the end of the file. Throws std::system_error.
std::string read_range(const fs::path& path, std::uint64_t offset, std::uint64_t bytes) {
  const auto fail = [&path] {
    throw std::system_error(errno, std::generic_category(), "cannot read " + path.string());
  };
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) fail();
  std::string text(bytes, '\0');
  std::size_t have = 0;
  while (have < text.size()) {
    const ssize_t n = ::pread(fd.get(), text.data() + have, text.size() - have,
                              static_cast<off_t>(offset + have));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail();
    if (n == 0) break;
    have += static_cast<std::size_t>(n);
  }
  text.resize(have);
  return text;
}

UniqueFd open_to_append(const fs::path& path, int more_flags) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | more_flags, 0600));
  if (!fd) throw std::system_error(errno, std::generic_category(), "cannot open " + path.string());
  return fd;
}

void drop_telemetry(EventBatch& batch) {
  std::erase_if(batch.events, [](const nlohmann::json& event) {
    return event.is_object() && event.value("type", "") == "telemetry";
  });
}

void drop_logs(EventBatch& batch) {
  batch.dropped += static_cast<std::int64_t>(batch.logs.size());
  batch.logs.clear();
}

}  // namespace

Spool::Spool(fs::path root, std::uint64_t limit_bytes)
    : root_(std::move(root)), limit_bytes_(limit_bytes) {
  fs::create_directories(root_);
  for (const auto& entry : fs::directory_iterator(root_)) {
    const std::string name = entry.path().filename().string();
    std::int64_t run_id = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), run_id);
    if (error == std::errc{} && end == name.data() + name.size()) load_run(run_id);
  }
}

fs::path Spool::folder_of(std::int64_t run_id) const { return root_ / std::to_string(run_id); }

void Spool::load_run(std::int64_t run_id) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(folder_of(run_id))) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".new")) {
      fs::remove(entry.path());  // a rewrite that did not come to its end
    } else if (name.starts_with("events-")) {
      paths.push_back(entry.path());
    }
  }
  std::sort(paths.begin(), paths.end());
  RunSpool& run = runs_[run_id];
  for (const auto& path : paths) {
    const std::int64_t first = std::stoll(path.filename().string().substr(7));
    if (run.segments.empty()) run.last_seq = run.accepted_seq = first - 1;
    Segment segment = load_segment(path, run.last_seq + 1);
    if (!segment.records.empty()) run.last_seq = segment.records.back().seq;
    bytes_ += segment.size;
    run.segments.push_back(std::move(segment));
  }
  if (!run.segments.empty()) run.open = open_to_append(run.segments.back().path, 0);
}

// Cuts a torn tail off. In front of a record whose number is too high, or instead of one whose sum
// is wrong, come records without an offset: read() makes empty batches of them.
Spool::Segment Spool::load_segment(const fs::path& path, std::int64_t next_seq) {
  Segment segment{path, 0, {}};
  const std::string all = read_range(path, 0, fs::file_size(path));
  const std::string_view text = all;
  std::size_t at = 0;
  while (at < text.size()) {
    const auto header = parse_header(text.substr(at));
    if (!header || at + header->size + header->bytes + 1 > text.size()) break;
    const std::string_view body = text.substr(at + header->size, header->bytes);
    const std::size_t end = at + header->size + header->bytes + 1;
    const bool whole = crc32(body) == header->crc && text[end - 1] == '\n';
    if (!whole && end == text.size()) break;  // the tail: never sent, its number is given again
    for (; next_seq < header->seq; ++next_seq) segment.records.push_back({.seq = next_seq});
    if (header->seq == next_seq) {
      Record record{.seq = next_seq};
      if (whole) record = {next_seq, at + header->size, header->bytes, header->crc, true};
      segment.records.push_back(record);
      ++next_seq;
    }
    at = end;
  }
  if (at < text.size()) fs::resize_file(path, at);
  segment.size = at;
  return segment;
}

void Spool::start_segment(std::int64_t run_id, RunSpool& run, std::int64_t first_seq) {
  const fs::path folder = folder_of(run_id);
  fs::create_directories(folder);
  Segment segment{folder / fmt::format("events-{:012}", first_seq), 0, {}};
  UniqueFd fd = open_to_append(segment.path, O_CREAT | O_TRUNC);
  sync_folder(folder);
  sync_folder(root_);
  run.segments.push_back(std::move(segment));
  run.open = std::move(fd);
}

std::int64_t Spool::append(EventBatch batch) {
  const std::lock_guard lock(mutex_);
  RunSpool& run = runs_[batch.run_id];
  batch.seq = run.last_seq + 1;
  std::string text = text_of(batch);
  if (!make_room(text.size())) {
    drop_logs(batch);
    text = text_of(batch);
    if (!make_room(text.size())) drop_telemetry(batch);
    text = text_of(batch);
  }
  if (run.segments.empty() || run.segments.back().size >= kSegmentBytes)
    start_segment(batch.run_id, run, batch.seq);

  Segment& segment = run.segments.back();
  if (!run.open) run.open = open_to_append(segment.path, 0);
  const std::string record = record_of(batch.seq, text);
  try {
    write_all(run.open.get(), record);
    if (::fdatasync(run.open.get()) != 0)
      throw std::system_error(errno, std::generic_category(), "fdatasync");
  } catch (const std::system_error&) {
    // Half a record must not stand in front of the next one.
    [[maybe_unused]] const int cut = ::ftruncate(run.open.get(), static_cast<off_t>(segment.size));
    throw;
  }
  segment.records.push_back({batch.seq, segment.size + record.size() - text.size() - 1, text.size(),
                             crc32(text), !batch.logs.empty()});
  segment.size += record.size();
  bytes_ += record.size();
  run.last_seq = batch.seq;
  return batch.seq;
}

EventBatch Spool::read(std::int64_t run_id, const Segment& segment, const Record& record) {
  EventBatch lost;
  lost.run_id = run_id;
  lost.seq = record.seq;
  lost.dropped = 1;
  if (record.bytes == 0) return lost;
  const std::string text = read_range(segment.path, record.offset, record.bytes);
  if (text.size() != record.bytes || crc32(text) != record.crc) return lost;
  const auto parsed = json::parse(text);
  if (!parsed) return lost;
  auto batch = json::decode<EventBatch>(*parsed, json::Unknown::kIgnore);
  if (!batch) return lost;
  batch->run_id = run_id;
  return std::move(*batch);
}

bool Spool::collect(std::int64_t run_id, const RunSpool& run, std::size_t max_bytes,
                    std::size_t& bytes, std::vector<EventBatch>& out) {
  for (const auto& segment : run.segments) {
    for (const auto& record : segment.records) {
      if (record.seq <= run.accepted_seq) continue;
      bytes += record.bytes;
      if (bytes > max_bytes && !out.empty()) return false;
      out.push_back(read(run_id, segment, record));
    }
  }
  return true;
}

std::vector<EventBatch> Spool::pending(std::size_t max_bytes) const {
  const std::lock_guard lock(mutex_);
  std::vector<EventBatch> out;
  std::size_t bytes = 0;
  for (const auto& [run_id, run] : runs_) {
    if (!collect(run_id, run, max_bytes, bytes, out)) break;
  }
  return out;
}

std::vector<EventBatch> Spool::pending(std::int64_t run_id, std::size_t max_bytes) const {
  const std::lock_guard lock(mutex_);
  std::vector<EventBatch> out;
  std::size_t bytes = 0;
  if (const auto it = runs_.find(run_id); it != runs_.end())
    collect(run_id, it->second, max_bytes, bytes, out);
  return out;
}

bool Spool::has_pending() const { return next_pending(0).has_value(); }

bool Spool::has_pending(std::int64_t run_id) const {
  const std::lock_guard lock(mutex_);
  const auto it = runs_.find(run_id);
  return it != runs_.end() && it->second.has_pending();
}

std::optional<std::int64_t> Spool::next_pending(std::int64_t run_id) const {
  const std::lock_guard lock(mutex_);
  std::optional<std::int64_t> first;
  for (const auto& [id, run] : runs_) {
    if (!run.has_pending()) continue;
    if (id > run_id) return id;
    if (!first) first = id;
  }
  return first;
}

// Whole segments are removed, but never the last one: its name keeps the numbering.
void Spool::accepted(std::int64_t run_id, std::int64_t up_to_seq) {
  const std::lock_guard lock(mutex_);
  const auto it = runs_.find(run_id);
  if (it == runs_.end()) return;
  RunSpool& run = it->second;
  run.accepted_seq = std::clamp(up_to_seq, run.accepted_seq, run.last_seq);
  while (run.segments.size() > 1 && (run.segments.front().records.empty() ||
                                     run.segments.front().records.back().seq <= run.accepted_seq)) {
    bytes_ -= run.segments.front().size;
    std::error_code error;
    fs::remove(run.segments.front().path, error);
    run.segments.pop_front();
  }
}

void Spool::forget(std::int64_t run_id) {
  const std::lock_guard lock(mutex_);
  const auto it = runs_.find(run_id);
  if (it == runs_.end()) return;
  for (const auto& segment : it->second.segments) bytes_ -= segment.size;
  runs_.erase(it);
  std::error_code error;
  fs::remove_all(folder_of(run_id), error);
}

std::int64_t Spool::last_seq(std::int64_t run_id) const {
  const std::lock_guard lock(mutex_);
  const auto it = runs_.find(run_id);
  return it == runs_.end() ? 0 : it->second.last_seq;
}

std::uint64_t Spool::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

// Strips log lines, oldest segment of the oldest run first, until `wanted` more bytes fit.
bool Spool::make_room(std::uint64_t wanted) {
  if (bytes_ + wanted <= limit_bytes_) return true;
  for (auto& [run_id, run] : runs_) {
    for (std::size_t i = 0; i < run.segments.size(); ++i) {
      bytes_ -= strip_logs(run_id, run, i);
      if (bytes_ + wanted <= limit_bytes_) return true;
    }
  }
  return false;
}

// Rewrites a segment without log lines; gives the bytes gained. A crash leaves the old or the new.
std::uint64_t Spool::strip_logs(std::int64_t run_id, RunSpool& run, std::size_t index) {
  Segment& segment = run.segments[index];
  const bool worth = std::any_of(segment.records.begin(), segment.records.end(),
                                 [](const Record& record) { return record.has_logs; });
  if (!worth) return 0;
  std::string text;
  std::vector<Record> records;
  for (const auto& record : segment.records) {
    EventBatch batch = read(run_id, segment, record);
    drop_logs(batch);
    const std::string body = text_of(batch);
    const std::string whole = record_of(record.seq, body);
    records.push_back({record.seq, text.size() + whole.size() - body.size() - 1, body.size(),
                       crc32(body), false});
    text += whole;
  }
  write_file_atomically(segment.path, text);
  const std::uint64_t gained = segment.size - std::min<std::uint64_t>(segment.size, text.size());
  segment.records = std::move(records);
  segment.size = text.size();
  if (index + 1 == run.segments.size()) run.open.reset();  // it is another file now
  return gained;
}

}  // namespace rackmark::agent

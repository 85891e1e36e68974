// Bytes to lines, with a bound: what passes it is cut off, and the line is marked.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace rackmark::agent {

class LineReader {
 public:
  explicit LineReader(std::size_t limit) : limit_(limit) {}

  // `on_line(text, cut)`: without the newline and a carriage return before it.
  template <class F>
  void feed(std::string_view bytes, F&& on_line) {
    while (!bytes.empty()) {
      const std::size_t end = bytes.find('\n');
      take(bytes.substr(0, end));
      if (end == std::string_view::npos) return;
      finish(on_line);
      bytes.remove_prefix(end + 1);
    }
  }
  // The last line, when it has no newline.
  template <class F>
  void end(F&& on_line) {
    if (!line_.empty()) finish(on_line);
  }
  bool overflowed() const { return cut_; }  // the line that is being read passes the bound

 private:
  void take(std::string_view piece) {
    const std::size_t room = limit_ - line_.size();
    cut_ = cut_ || piece.size() > room;
    line_.append(piece.substr(0, room));
  }
  template <class F>
  void finish(F&& on_line) {
    if (!line_.empty() && line_.back() == '\r') line_.pop_back();
    on_line(std::string_view(line_), cut_);
    line_.clear();
    cut_ = false;
  }

  std::size_t limit_;
  std::string line_;
  bool cut_ = false;
};

}  // namespace rackmark::agent

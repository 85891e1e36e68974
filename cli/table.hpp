// Columns for a terminal.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

namespace rackmark::cli {

struct Column {
  std::string title;
  bool right = false;  // numbers stand right
};

// Cells may hold UTF-8; width counts code points. Widths are those of the widest cell; the last
// column is not padded.
class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  // As many cells as there are columns.
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  bool empty() const { return rows_.empty(); }
  void print(std::ostream& out) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// One row of a CSV file (RFC 4180): quoted where a comma, quote or line break needs it, CRLF.
std::string csv_row(const std::vector<std::string>& cells);

}  // namespace rackmark::cli

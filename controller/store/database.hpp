// One connection to the database file, and statements on it. Used by one thread at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "common/json/described.hpp"
#include "controller/store/error.hpp"

namespace SQLite {
class Statement;
}

namespace rackmark::store {

// SQLite would create it with the process' umask; hashes of tokens are in it. Throws StoreError.
void create_private(const std::filesystem::path& file);

class Database {
 public:
  enum class Access { kWrite, kRead };

  // Every connection: WAL, foreign keys, busy timeout 10 s. A writer creates the file (0600),
  // runs a quick check and is synchronous=FULL: committed is durable. A reader cannot write.
  // Throws StoreError naming the file and what is wrong.
  Database(const std::filesystem::path& file, Access access);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  void execute(const std::string& sql);  // one or more statements without arguments or rows
  std::int64_t last_id() const;          // id of the row inserted last on this connection
  std::int64_t changed() const;          // rows touched by the last statement
  const std::filesystem::path& file() const { return file_; }

 private:
  friend class Query;
  struct Impl;
  std::unique_ptr<Impl> impl_;
  std::filesystem::path file_;
};

// One use of a statement: arguments bound in order of the `?`s, rows read column by column.
// Statements are prepared once per connection and reused. Everything throws StoreError.
//
//   Query q(db, kFindJob, id);
//   if (q.step()) q.read(row.id, row.name);
class Query {
 public:
  template <class... Args>
  Query(Database& db, std::string_view sql, const Args&... args) : Query(Prepare{}, db, sql) {
    (bind(args), ...);
  }
  ~Query();
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;

  // One more argument; for statements put together from parts.
  template <class T>
  void bind(const T& value) {
    if constexpr (std::is_same_v<T, nlohmann::json>) {  // first: it converts to anything
      bind_text(value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    } else if constexpr (json::detail::is_optional<T>::value) {
      value ? bind(*value) : bind_null();
    } else if constexpr (std::is_enum_v<T>) {
      bind_text(json::enum_name(value));
    } else if constexpr (std::is_floating_point_v<T>) {
      bind_real(value);
    } else if constexpr (std::is_integral_v<T>) {
      bind_integer(static_cast<std::int64_t>(value));
    } else if constexpr (std::is_convertible_v<const T&, std::string_view>) {
      bind_text(std::string_view(value));
    } else {
      bind_text(json::encode(value).dump());  // json, maps, vectors, described structs
    }
  }
  void bind_blob(std::string_view bytes);

  bool step();  // false: no further row
  void run();   // a statement without rows

  // The columns of the current row, from the first. Text of JSON columns is parsed; an enumerator
  // unknown to this program, like any value of a wrong type, is a StoreError.
  template <class... T>
  void read(T&... into) {
    int column = 0;
    (read_one(column++, into), ...);
  }
  std::string blob(int column) const;

 private:
  struct Prepare {};
  Query(Prepare, Database& db, std::string_view sql);
  void bind_null();
  void bind_integer(std::int64_t value);
  void bind_real(double value);
  void bind_text(std::string_view value);
  bool is_null(int column) const;
  std::int64_t integer(int column) const;
  double real(int column) const;
  std::string text(int column) const;
  nlohmann::json parsed(int column) const;
  [[noreturn]] void wrong_value(int column) const;

  template <class T>
  void read_one(int column, T& into) const {
    if constexpr (std::is_same_v<T, nlohmann::json>) {
      into = parsed(column);
    } else if constexpr (json::detail::is_optional<T>::value) {
      if (is_null(column)) {
        into.reset();
      } else {
        typename T::value_type value{};
        read_one(column, value);
        into = std::move(value);
      }
    } else if constexpr (std::is_same_v<T, bool>) {
      into = integer(column) != 0;
    } else if constexpr (std::is_enum_v<T>) {
      const auto value = json::enum_from<T>(text(column));
      if (!value) wrong_value(column);
      into = *value;
    } else if constexpr (std::is_floating_point_v<T>) {
      into = real(column);
    } else if constexpr (std::is_integral_v<T>) {
      into = static_cast<T>(integer(column));
    } else if constexpr (std::is_same_v<T, std::string>) {
      into = text(column);
    } else {
      auto value = json::decode<T>(parsed(column), json::Unknown::kIgnore);
      if (!value) wrong_value(column);
      into = std::move(*value);
    }
  }

  SQLite::Statement* statement_ = nullptr;
  std::unique_ptr<SQLite::Statement> own_;  // when the prepared one is already in use
  bool* in_use_ = nullptr;
  int bound_ = 0;
};

}  // namespace rackmark::store

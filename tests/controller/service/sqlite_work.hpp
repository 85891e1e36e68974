// What SQLite does on connections that are opened while one of these lives, in numbers that are the
// same on every machine: what a call costs can be compared with what it costs on more rows.
#pragma once

#include <sqlite3.h>

#include <cstdint>

namespace rackmark::service {

struct Work {
  std::int64_t statements = 0, instructions = 0, sorts = 0;
};

class SqliteWork {
 public:
  SqliteWork() { sqlite3_auto_extension(kAttach); }
  ~SqliteWork() { sqlite3_cancel_auto_extension(kAttach); }
  SqliteWork(const SqliteWork&) = delete;
  SqliteWork& operator=(const SqliteWork&) = delete;

  template <class Call>
  static Work of(Call call) {
    done = {};
    call();
    return done;
  }

 private:
  static int attach(sqlite3* db, const char**, const void*) {
    return sqlite3_trace_v2(db, SQLITE_TRACE_PROFILE, after_statement, nullptr);
  }
  static int after_statement(unsigned, void*, void* of, void*) {
    auto* statement = static_cast<sqlite3_stmt*>(of);
    ++done.statements;
    done.instructions += sqlite3_stmt_status(statement, SQLITE_STMTSTATUS_VM_STEP, 1);
    done.sorts += sqlite3_stmt_status(statement, SQLITE_STMTSTATUS_SORT, 1);
    return 0;
  }
  static inline const auto kAttach = reinterpret_cast<void (*)()>(&attach);
  static inline Work done;  // of the one thread that calls
};

}  // namespace rackmark::service

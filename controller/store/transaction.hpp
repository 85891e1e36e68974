// One change of the database: all of it or nothing, under one time.
#pragma once

#include <cstdint>

#include "controller/store/database.hpp"

namespace rackmark::store {

class Transaction {
 public:
  Transaction(Database& db, std::int64_t now_us) : db_(db), now_us_(now_us) {
    db_.execute("BEGIN IMMEDIATE");
  }
  // Without commit() everything is undone.
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  void commit();  // durable when it returns; throws StoreError, then nothing is stored
  Database& db() { return db_; }
  std::int64_t now_us() const { return now_us_; }  // the timestamp of everything in this change

 private:
  Database& db_;
  std::int64_t now_us_;
  bool open_ = true;
};

// Several queries over one unchanging state.
class Snapshot {
 public:
  explicit Snapshot(Database& db) : db_(db) { db_.execute("BEGIN"); }
  ~Snapshot();
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;

 private:
  Database& db_;
};

}  // namespace rackmark::store

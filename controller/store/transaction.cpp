#include "controller/store/transaction.hpp"

namespace rackmark::store {

namespace {

// A failing commit or a full disk has often ended the transaction already.
void undo(Database& db) {
  try {
    db.execute("ROLLBACK");
  } catch (const StoreError&) {  // nothing is open any more, which is what was wanted
  }
}

}  // namespace

Transaction::~Transaction() {
  if (open_) undo(db_);
}

void Transaction::commit() {
  db_.execute("COMMIT");
  open_ = false;
}

Snapshot::~Snapshot() { undo(db_); }

}  // namespace rackmark::store

-- What happened, for streams and for people.

-- Bounded by number and age; ids are never reused, so a reader can resume after any of them.
CREATE TABLE event_log (
  id     INTEGER PRIMARY KEY AUTOINCREMENT,
  at_us  INTEGER NOT NULL,
  event  TEXT NOT NULL,
  job_id INTEGER,
  data   TEXT NOT NULL
) STRICT;
CREATE INDEX event_log_by_job ON event_log (job_id, id);

CREATE TABLE idempotency_keys (
  key            TEXT PRIMARY KEY,
  request_sha256 TEXT NOT NULL,
  created_us     INTEGER NOT NULL,
  reply          TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_us);

CREATE TABLE audit_log (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  at_us   INTEGER NOT NULL,
  who     TEXT NOT NULL,
  action  TEXT NOT NULL,
  subject TEXT NOT NULL,
  detail  TEXT NOT NULL
) STRICT;

-- What runs send and what is made of it.

-- hello, phase, failure, out_of_memory and summary events, as they came.
CREATE TABLE run_facts (
  id     INTEGER PRIMARY KEY AUTOINCREMENT,
  run_id INTEGER NOT NULL REFERENCES runs (id),
  rank   INTEGER NOT NULL,
  type   TEXT NOT NULL,
  t_ns   INTEGER NOT NULL,                      -- CLOCK_MONOTONIC of the host
  data   TEXT NOT NULL
) STRICT;
CREATE INDEX run_facts_by_run ON run_facts (run_id, type, rank, id);

-- Samples are packed little-endian float32, NaN where there is none. While a run is under way each
-- accepted batch adds rows here; its end moves them into one row per (run, rank) of step_samples.
CREATE TABLE step_chunks (
  run_id                   INTEGER NOT NULL REFERENCES runs (id),
  rank                     INTEGER NOT NULL,
  phase                    TEXT NOT NULL CHECK (phase IN ('warmup', 'measuring')),
  first_step               INTEGER NOT NULL,
  ms                       BLOB NOT NULL,
  loss                     BLOB NOT NULL,
  input_wait_ms            BLOB NOT NULL,
  exposed_communication_ms BLOB NOT NULL,
  server_wait_ms           BLOB NOT NULL,
  PRIMARY KEY (run_id, rank, phase, first_step)
) STRICT, WITHOUT ROWID;

CREATE TABLE step_samples (
  run_id                   INTEGER NOT NULL REFERENCES runs (id),
  rank                     INTEGER NOT NULL,
  warmup_ms                BLOB NOT NULL,
  warmup_loss              BLOB NOT NULL,
  ms                       BLOB NOT NULL,
  loss                     BLOB NOT NULL,
  input_wait_ms            BLOB NOT NULL,
  exposed_communication_ms BLOB NOT NULL,
  server_wait_ms           BLOB NOT NULL,
  PRIMARY KEY (run_id, rank)
) STRICT;

CREATE TABLE telemetry (
  id     INTEGER PRIMARY KEY AUTOINCREMENT,
  run_id INTEGER NOT NULL REFERENCES runs (id),
  rank   INTEGER NOT NULL,
  t_ns   INTEGER NOT NULL,
  data   TEXT NOT NULL
) STRICT;
CREATE INDEX telemetry_by_run ON telemetry (run_id, id);

-- Per run the first 2,000 lines and the last 20,000; numbers of dropped lines stay unused.
CREATE TABLE log_lines (
  run_id INTEGER NOT NULL REFERENCES runs (id),
  number INTEGER NOT NULL,
  rank   INTEGER NOT NULL,
  stream TEXT NOT NULL,
  at_us  INTEGER,
  text   TEXT NOT NULL,
  PRIMARY KEY (run_id, number)
) STRICT, WITHOUT ROWID;

-- Only of runs that succeeded, once.
CREATE TABLE results (
  id                 INTEGER PRIMARY KEY AUTOINCREMENT,
  run_id             INTEGER NOT NULL UNIQUE REFERENCES runs (id),
  job_id             INTEGER NOT NULL REFERENCES jobs (id),
  agent_id           INTEGER NOT NULL REFERENCES agents (id),
  job_name           TEXT NOT NULL,
  agent              TEXT NOT NULL,
  device_class       TEXT NOT NULL,
  fingerprint        TEXT NOT NULL,
  created_us         INTEGER NOT NULL,
  model              TEXT NOT NULL,
  mode               TEXT NOT NULL,
  precision          TEXT NOT NULL,
  device             TEXT NOT NULL,
  variable_update    TEXT NOT NULL,
  input_kind         TEXT NOT NULL,
  backend            TEXT NOT NULL,
  batch_size         INTEGER NOT NULL,
  image_size         INTEGER NOT NULL,
  ranks              INTEGER NOT NULL,
  threads_per_worker INTEGER NOT NULL,
  repetition         INTEGER NOT NULL,
  attempt            INTEGER NOT NULL,
  images             INTEGER NOT NULL,
  steps              INTEGER NOT NULL,
  images_per_second  REAL NOT NULL CHECK (images_per_second > 0),
  window_s           REAL NOT NULL CHECK (window_s > 0),
  step               TEXT NOT NULL,             -- JSON: step statistics
  verdict            TEXT NOT NULL,
  causes             TEXT NOT NULL,             -- JSON array
  first_loss         REAL,
  final_loss         REAL,
  mfu                REAL,
  setup_s            REAL,
  peak_rss_bytes     INTEGER,
  power_w            REAL,
  joules_per_image   REAL,
  images_per_second_per_watt REAL,
  pictures_broken    INTEGER NOT NULL,
  broken_pictures    TEXT NOT NULL,             -- JSON array
  rank_times         TEXT NOT NULL,             -- JSON array
  environment        TEXT NOT NULL              -- JSON
) STRICT;
CREATE INDEX results_by_job ON results (job_id, id);
CREATE INDEX results_by_series ON results (fingerprint, id);
CREATE INDEX results_by_class ON results (model, precision, batch_size, device_class, id);
CREATE INDEX results_by_agent ON results (agent, id);
CREATE INDEX results_by_time ON results (created_us, id);

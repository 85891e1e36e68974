-- Times are integer microseconds UTC (_us). States and reasons are stored by their wire names.
-- Ids are never reused (AUTOINCREMENT): (controller.uuid, id) is a global identity.

CREATE TABLE controller (
  id         INTEGER PRIMARY KEY CHECK (id = 1),
  uuid       TEXT NOT NULL,
  created_us INTEGER NOT NULL
) STRICT;

-- Jobs that belong together: one per matching agent, 1..N agents, an input pair, a sweep's firing.
CREATE TABLE job_groups (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  kind       TEXT NOT NULL CHECK (kind IN ('each', 'scale', 'compare_input', 'sweep_firing')),
  name       TEXT NOT NULL DEFAULT '',
  created_us INTEGER NOT NULL
) STRICT;

CREATE TABLE agents (
  id                 INTEGER PRIMARY KEY AUTOINCREMENT,
  name               TEXT NOT NULL UNIQUE,
  token_hash         TEXT NOT NULL,
  labels             TEXT NOT NULL,             -- JSON object
  device_class       TEXT NOT NULL,
  device_class_given INTEGER NOT NULL,          -- 1: set by its owner, 0: made from the inventory
  inventory          TEXT NOT NULL,             -- JSON, as the agent last told it
  -- Observed: written only by syncs and by the lease.
  presence           TEXT NOT NULL CHECK (presence IN ('never_seen', 'present', 'left', 'lost')),
  presence_detail    TEXT NOT NULL DEFAULT '',
  boot_id            TEXT NOT NULL DEFAULT '',
  incarnation        TEXT NOT NULL DEFAULT '',
  sync_number        INTEGER NOT NULL DEFAULT 0,
  last_seen_us       INTEGER,
  conflict_us        INTEGER,                   -- when another machine last used this identity
  conflict_detail    TEXT NOT NULL DEFAULT '',
  enrolled_us        INTEGER NOT NULL
) STRICT;

CREATE TABLE enrolment_tokens (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  token_hash TEXT NOT NULL UNIQUE,
  created_us INTEGER NOT NULL,
  expires_us INTEGER NOT NULL,
  used_us    INTEGER,
  agent_id   INTEGER REFERENCES agents (id)
) STRICT;

CREATE TABLE jobs (
  id              INTEGER PRIMARY KEY AUTOINCREMENT,
  group_id        INTEGER REFERENCES job_groups (id),
  rerun_of        INTEGER REFERENCES jobs (id),
  name            TEXT NOT NULL,
  labels          TEXT NOT NULL,                -- JSON object; looked up through job_labels
  spec_submitted  TEXT NOT NULL,                -- verbatim
  spec_resolved   TEXT NOT NULL,                -- every default; host-dependent ones once placed
  spec_key        TEXT NOT NULL,                -- equal for specs that measure the same thing
  model           TEXT NOT NULL,
  mode            TEXT NOT NULL,
  precision       TEXT NOT NULL,
  device          TEXT NOT NULL,
  variable_update TEXT NOT NULL,                -- '' where it does not apply
  input_kind      TEXT NOT NULL,
  batch_size      INTEGER NOT NULL,
  priority        INTEGER NOT NULL,
  agents_wanted   INTEGER NOT NULL,
  selector        TEXT NOT NULL,                -- JSON object
  -- Wanted: written by users. Observed: written by the scheduler and the reports of agents.
  wanted          TEXT NOT NULL DEFAULT 'run' CHECK (wanted IN ('run', 'cancel')),
  state           TEXT NOT NULL,
  outcome         TEXT,                         -- run state that decided it
  reason          TEXT NOT NULL DEFAULT 'none',
  detail          TEXT NOT NULL DEFAULT '',
  next_repetition INTEGER,                      -- the run to place next; NULL: none
  next_attempt    INTEGER,
  device_class    TEXT NOT NULL DEFAULT '',     -- of the last run
  images_per_second REAL,                       -- headline; NULL while or when there is none
  spread          REAL,
  spread_kind     TEXT NOT NULL DEFAULT '',
  headline_runs   INTEGER NOT NULL DEFAULT 0,
  verdict         TEXT,                         -- of the last successful run
  causes          TEXT NOT NULL DEFAULT '[]',
  created_us      INTEGER NOT NULL,
  started_us      INTEGER,
  ended_us        INTEGER
) STRICT;
CREATE INDEX jobs_by_state ON jobs (state, id);
CREATE INDEX jobs_by_model ON jobs (model, id);
CREATE INDEX jobs_by_group ON jobs (group_id, id) WHERE group_id IS NOT NULL;
CREATE INDEX jobs_waiting ON jobs (priority DESC, id) WHERE next_repetition IS NOT NULL;

CREATE TABLE job_labels (
  job_id INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
  key    TEXT NOT NULL,
  value  TEXT NOT NULL,
  PRIMARY KEY (key, value, job_id)
) STRICT, WITHOUT ROWID;

-- One attempt of one repetition. The id is the fencing token.
CREATE TABLE runs (
  id                INTEGER PRIMARY KEY AUTOINCREMENT,
  job_id            INTEGER NOT NULL REFERENCES jobs (id),
  repetition        INTEGER NOT NULL,
  attempt           INTEGER NOT NULL,
  agent_id          INTEGER NOT NULL REFERENCES agents (id),  -- head of the gang
  device_class      TEXT NOT NULL,
  spec_resolved     TEXT NOT NULL,
  spec_key          TEXT NOT NULL,
  ranks             INTEGER NOT NULL,
  images_per_step   INTEGER NOT NULL,           -- of all ranks together
  run_token         TEXT NOT NULL,              -- of this run only; handed to its agents again and again
  timeout_s         REAL NOT NULL,
  wanted            TEXT NOT NULL DEFAULT 'run' CHECK (wanted IN ('run', 'cancel')),
  state             TEXT NOT NULL,
  reason            TEXT NOT NULL DEFAULT 'none',
  detail            TEXT NOT NULL DEFAULT '',
  exit_code         INTEGER,
  memory            TEXT NOT NULL DEFAULT 'null',  -- JSON; of an out-of-memory end
  -- What the head agent says of the end, while its last event batches are still on their way.
  reported_state    TEXT,
  reported_reason   TEXT NOT NULL DEFAULT 'none',
  reported_detail   TEXT NOT NULL DEFAULT '',
  reported_us       INTEGER,
  reported_agent_us INTEGER,
  reported_seq      INTEGER NOT NULL DEFAULT 0,
  -- Live progress, from the event batches seen so far.
  phase             TEXT NOT NULL DEFAULT '',
  steps_done        INTEGER NOT NULL DEFAULT 0,
  steps_planned     INTEGER,
  images_per_second REAL,
  loss              REAL,
  log_lines         INTEGER NOT NULL DEFAULT 0,  -- numbered so far, dropped ones included
  created_us        INTEGER NOT NULL,
  started_us        INTEGER,
  ended_us          INTEGER,
  UNIQUE (job_id, repetition, attempt)
) STRICT;
CREATE INDEX runs_live ON runs (id) WHERE ended_us IS NULL;
CREATE INDEX runs_by_key ON runs (spec_key, id) WHERE state = 'succeeded';

-- The hosts of a run, head first. A host is taken until it is known to be empty.
CREATE TABLE run_agents (
  run_id           INTEGER NOT NULL REFERENCES runs (id),
  agent_id         INTEGER NOT NULL REFERENCES agents (id),
  position         INTEGER NOT NULL,
  told_incarnation TEXT NOT NULL DEFAULT '',    -- process of the agent that was told of the run
  seen_incarnation TEXT NOT NULL DEFAULT '',    -- process of the agent that listed the run
  accepted_seq     INTEGER NOT NULL DEFAULT 0,  -- event batches of this source stored up to here
  accepted_us      INTEGER,
  released_us      INTEGER,
  PRIMARY KEY (run_id, agent_id)
) STRICT, WITHOUT ROWID;
-- Exclusive hosts, kept by the database itself.
CREATE UNIQUE INDEX run_agents_exclusive ON run_agents (agent_id) WHERE released_us IS NULL;
CREATE INDEX run_agents_by_agent ON run_agents (agent_id, run_id);

-- Of a job where run_id is NULL. Controller time orders; the agent's own is kept beside it.
CREATE TABLE transitions (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  job_id      INTEGER NOT NULL REFERENCES jobs (id),
  run_id      INTEGER REFERENCES runs (id),
  state       TEXT NOT NULL,
  actor       TEXT NOT NULL,
  reason      TEXT NOT NULL,
  detail      TEXT NOT NULL,
  at_us       INTEGER NOT NULL,
  agent_at_us INTEGER
) STRICT;
CREATE INDEX transitions_by_run ON transitions (run_id, id) WHERE run_id IS NOT NULL;
CREATE INDEX transitions_by_job ON transitions (job_id, id) WHERE run_id IS NULL;

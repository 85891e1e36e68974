-- Shares of what the device can do, how a largest batch was found, and per-layer profiles.
ALTER TABLE results ADD COLUMN matrix_peak_gflops REAL;
ALTER TABLE results ADD COLUMN convolution_bound_share REAL;
ALTER TABLE results ADD COLUMN batch_search TEXT;  -- JSON; null: a number was asked for

-- Of runs with `profile`: a pass of its own after the measured window. At most 1,500 rows of about
-- 200 bytes; more is refused when it comes in.
CREATE TABLE run_profiles (
  run_id INTEGER PRIMARY KEY REFERENCES runs (id),
  data   TEXT NOT NULL                          -- JSON: profile event
) STRICT;

-- Scaling groups: what was asked for, from which members and their roles follow; and what a run
-- measured of its network.
ALTER TABLE job_groups ADD COLUMN request TEXT NOT NULL DEFAULT '{}';  -- JSON, as it was accepted

ALTER TABLE results ADD COLUMN all_reduce_times TEXT NOT NULL DEFAULT '[]';  -- JSON array

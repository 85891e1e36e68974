-- Runs over several agents: the network on which they talk, and how the run ended on each of them. A
-- run ends when it has ended on all; runs.reported_* is then what their ends come to together.
ALTER TABLE runs ADD COLUMN network TEXT NOT NULL DEFAULT '';  -- CIDR; '' with one agent

ALTER TABLE run_agents ADD COLUMN end_state TEXT;              -- NULL: not said yet
ALTER TABLE run_agents ADD COLUMN end_reason TEXT NOT NULL DEFAULT 'none';
ALTER TABLE run_agents ADD COLUMN end_detail TEXT NOT NULL DEFAULT '';
ALTER TABLE run_agents ADD COLUMN end_us INTEGER;
ALTER TABLE run_agents ADD COLUMN end_agent_us INTEGER;
ALTER TABLE run_agents ADD COLUMN end_seq INTEGER NOT NULL DEFAULT 0;  -- its last event batch
ALTER TABLE run_agents ADD COLUMN end_exit_code INTEGER;
ALTER TABLE run_agents ADD COLUMN end_memory TEXT NOT NULL DEFAULT 'null';  -- JSON
ALTER TABLE run_agents ADD COLUMN stall TEXT NOT NULL DEFAULT 'null';       -- JSON: stall report
-- A run that was under way while the controller was replaced by this version.
UPDATE run_agents SET
  end_state = (SELECT reported_state FROM runs WHERE id = run_id),
  end_reason = (SELECT reported_reason FROM runs WHERE id = run_id),
  end_detail = (SELECT reported_detail FROM runs WHERE id = run_id),
  end_us = (SELECT reported_us FROM runs WHERE id = run_id),
  end_agent_us = (SELECT reported_agent_us FROM runs WHERE id = run_id),
  end_seq = (SELECT reported_seq FROM runs WHERE id = run_id)
WHERE run_id IN (SELECT id FROM runs WHERE ended_us IS NULL AND reported_state IS NOT NULL);

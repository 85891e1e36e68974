-- What is looked up at every sync and by every scrape must not cost more as history grows.
CREATE INDEX runs_by_state ON runs (state);

-- 1 once the run is over: kept in step with runs.ended_us, for the live runs of an agent.
ALTER TABLE run_agents ADD COLUMN run_over INTEGER NOT NULL DEFAULT 0;
UPDATE run_agents SET run_over = 1
WHERE run_id IN (SELECT id FROM runs WHERE ended_us IS NOT NULL);
CREATE INDEX run_agents_live ON run_agents (agent_id, run_id) WHERE run_over = 0;

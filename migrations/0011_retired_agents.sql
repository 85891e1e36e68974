-- A retired agent is kept for its past runs and results. It has no token, and whoever enrols under its
-- name takes the row up again.
ALTER TABLE agents ADD COLUMN retired_us INTEGER;

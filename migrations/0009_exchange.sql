-- How the workers carried out variable_update, "all_reduce (nccl 2.28.3)"; it stood in the place of the
-- spec's word, by which results are looked up and compared.
ALTER TABLE results ADD COLUMN exchange TEXT NOT NULL DEFAULT '';  -- '' in inference
UPDATE results SET
  exchange = iif(mode = 'inference', '', variable_update),
  variable_update = (SELECT variable_update FROM jobs WHERE jobs.id = results.job_id);

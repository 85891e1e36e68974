-- JSON: instances, latency percentiles, agreement of int8 with fp32; NULL in other modes.
ALTER TABLE results ADD COLUMN inference TEXT;

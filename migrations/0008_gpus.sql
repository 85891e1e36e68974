-- Memory of GPUs; what else is measured of them lies with the times of each rank (rank_times).
ALTER TABLE results ADD COLUMN peak_gpu_memory_bytes REAL;

-- Files that the GPU left to the CPU; null: the CPU decodes all.
ALTER TABLE results ADD COLUMN pictures_left_to_cpu INTEGER;

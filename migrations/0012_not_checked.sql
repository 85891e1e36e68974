-- What a verdict says nothing of, in words; of older rows it is not known.
ALTER TABLE results ADD COLUMN not_checked TEXT NOT NULL DEFAULT '[]';
ALTER TABLE jobs ADD COLUMN not_checked TEXT NOT NULL DEFAULT '[]';

-- Start and end of a tick became those of each attempt, which version 3 does not keep.
ALTER TABLE ticks DROP COLUMN started_at;
ALTER TABLE ticks DROP COLUMN finished_at;
ALTER TABLE ticks ADD COLUMN ran TEXT NOT NULL DEFAULT '[]';
PRAGMA user_version = 2;

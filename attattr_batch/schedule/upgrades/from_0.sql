-- The tables of a new file.
CREATE TABLE schedules (name TEXT PRIMARY KEY, settings TEXT NOT NULL);
CREATE TABLE ticks (
    schedule TEXT NOT NULL,
    tick TEXT NOT NULL,
    status TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    resolved TEXT,
    outcome TEXT,
    PRIMARY KEY (schedule, tick)
);
PRAGMA user_version = 4;

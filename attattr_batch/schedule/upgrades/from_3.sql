-- Of the files of a watched checkpoint nothing is kept any more: the identity of a run says whether it is another.
UPDATE ticks SET resolved = json_extract(resolved, '$.specs') WHERE resolved IS NOT NULL;
PRAGMA user_version = 4;

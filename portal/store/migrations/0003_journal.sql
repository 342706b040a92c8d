-- What was committed and is not yet in its tables: one row a group commit, the changed rows of
-- session, usage_day, account and device packed together (portal/store/journal.py). Emptied every
-- half minute, when the node stops, and when it starts again after a power cut.
CREATE TABLE journal (
    id INTEGER PRIMARY KEY,
    changes BLOB NOT NULL
);

-- Wrong passwords at the desk, so that pulling the plug shortens nobody's wait.

-- who: 'source:<address>', 'browser:<SHA-256 of its token>' or 'own:<operator>' with misses in a row,
-- 'name:<number>' with those of a name, from wherever, within ten minutes. Kept for half an hour.
CREATE TABLE sign_in_miss (
    who TEXT PRIMARY KEY,
    misses INTEGER NOT NULL,
    last_at INTEGER NOT NULL
) WITHOUT ROWID;

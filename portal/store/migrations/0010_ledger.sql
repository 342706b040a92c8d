-- The ledger: records that are only ever added (docs/ledger.md), and what stands around them.

-- One row for each epoch of this box's log; the newest is the one that grows. node: the id of the key
-- that signs it. replayed_below: sessions with a smaller id began before an older disk was put back;
-- 0 when none was. void_from: from this record on it was told again in the next epoch. acked,
-- backed_up: how many of its records the hub has, and has in its own backup.
CREATE TABLE ledger_epoch (
    epoch INTEGER PRIMARY KEY,
    node TEXT NOT NULL,
    size INTEGER NOT NULL,
    frontier BLOB NOT NULL,
    opened_at INTEGER NOT NULL,
    replayed_below INTEGER NOT NULL,
    void_from INTEGER,
    acked INTEGER NOT NULL DEFAULT 0,
    backed_up INTEGER NOT NULL DEFAULT 0
);

-- salt, personal: NULL where there is none or it was erased. public, c_loc: NULL once the body was
-- pruned; leaf has what the tree needs of it. It is kept from the first day, so that a body changed
-- behind the program's back is found by itself, and not only the checkpoint over it.
CREATE TABLE ledger (
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    at INTEGER NOT NULL,
    site INTEGER NOT NULL,
    public BLOB,
    c_loc BLOB,
    salt BLOB,
    personal BLOB,
    leaf BLOB NOT NULL,
    PRIMARY KEY (epoch, seq)
) WITHOUT ROWID;
CREATE INDEX ledger_personal ON ledger (at) WHERE personal IS NOT NULL;

CREATE TRIGGER ledger_never_shrinks BEFORE DELETE ON ledger
BEGIN
    SELECT RAISE (ABORT, 'the ledger is append-only');
END;
CREATE TRIGGER ledger_never_changes
BEFORE UPDATE OF epoch, seq, kind, at, site, public, c_loc, leaf ON ledger
WHEN NEW.epoch <> OLD.epoch OR NEW.seq <> OLD.seq OR NEW.kind <> OLD.kind OR NEW.at <> OLD.at
    OR NEW.site <> OLD.site OR NEW.public IS NOT NULL OR NEW.c_loc IS NOT NULL OR NEW.leaf <> OLD.leaf
BEGIN
    SELECT RAISE (ABORT, 'the ledger is append-only');
END;

-- Where the usage records of a site's day lie, and whether its DAY_TOTAL tells all of them.
CREATE TABLE ledger_day (
    site INTEGER NOT NULL,
    day INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    is_told INTEGER NOT NULL,
    PRIMARY KEY (site, day, epoch)
) WITHOUT ROWID;
CREATE INDEX ledger_day_untold ON ledger_day (day) WHERE is_told = 0;

-- Checkpoints with the hub's cosignature: what it cannot deny to have seen.
CREATE TABLE checkpoint (
    epoch INTEGER NOT NULL,
    size INTEGER NOT NULL,
    note TEXT NOT NULL,
    kept_at INTEGER NOT NULL,
    PRIMARY KEY (epoch, size)
) WITHOUT ROWID;

-- Under which random name an account stands in the records of a month (year * 12 + month - 1 in the
-- site's zone). A deleted row unlinks them for ever.
CREATE TABLE pseudonym (
    account_id INTEGER NOT NULL,
    month INTEGER NOT NULL,
    octets BLOB NOT NULL,
    PRIMARY KEY (account_id, month)
) WITHOUT ROWID;
CREATE INDEX pseudonym_by_month ON pseudonym (month);

-- Records name profiles by number. A name keeps its number, also when the profile is removed.
CREATE TABLE profile_number (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE
);
INSERT INTO profile_number (name) SELECT name FROM profile ORDER BY name;

-- told_: what the records about a session tell so far. Sessions that ended before the ledger began
-- count as told, so that a late packet adds only its own.
ALTER TABLE session ADD COLUMN told_records INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN told_input_octets INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN told_output_octets INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN told_s INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN told_counted_s INTEGER NOT NULL DEFAULT 0;
UPDATE session SET told_records = 1, told_input_octets = input_octets,
    told_output_octets = output_octets, told_s = session_time_s, told_counted_s = counted_s
WHERE ended_at IS NOT NULL;

-- From now on whatever is deleted is overwritten (secure_delete). What was freed before goes here.
CREATE TABLE scrub (zeros BLOB NOT NULL);
INSERT INTO scrub (zeros)
SELECT zeroblob (f.freelist_count * p.page_size) FROM pragma_freelist_count AS f, pragma_page_size AS p;
DROP TABLE scrub;

-- The operator's desk: people, what they did, announcements, complaints, devices by name.

-- wifi_name: the name phones see. counter: where cards are given, in words; opening_hours: when, in
-- the form of portal/domain/hours.py.
ALTER TABLE site ADD COLUMN wifi_name TEXT NOT NULL DEFAULT '';
ALTER TABLE site ADD COLUMN counter TEXT NOT NULL DEFAULT '';
ALTER TABLE site ADD COLUMN opening_hours TEXT NOT NULL DEFAULT '';

-- kind: 'cards', or 'device' for the account of a known device, which nobody can hold in a hand.
ALTER TABLE batch ADD COLUMN kind TEXT NOT NULL DEFAULT 'cards';
ALTER TABLE batch ADD COLUMN issued_by TEXT NOT NULL DEFAULT '';

ALTER TABLE voucher ADD COLUMN given_at INTEGER;
ALTER TABLE voucher ADD COLUMN given_by TEXT;
CREATE INDEX voucher_given ON voucher (site_id, given_at) WHERE given_at IS NOT NULL;
CREATE INDEX voucher_by_last4 ON voucher (last4);

-- Seconds added to the validity that the profile gives from first use.
ALTER TABLE account ADD COLUMN extra_valid_s INTEGER NOT NULL DEFAULT 0;

-- Top-ups: what a day, and every window that contains it, may have beyond the profile's quota.
CREATE TABLE credit (
    account_id INTEGER NOT NULL,
    day TEXT NOT NULL,
    octets INTEGER NOT NULL,
    seconds INTEGER NOT NULL,
    PRIMARY KEY (account_id, day)
) WITHOUT ROWID;

-- A browser an operator signed in with once: there a PIN is enough. token_hash: SHA-256 of what the
-- cookie holds.
CREATE TABLE operator_browser (
    token_hash BLOB PRIMARY KEY,
    operator TEXT NOT NULL REFERENCES operator (name) ON DELETE CASCADE,
    pin_hash TEXT NOT NULL,
    misses INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL
) WITHOUT ROWID;

-- Everything people did, by the desk or the command line. Nothing here is ever changed.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    operator TEXT NOT NULL,
    action TEXT NOT NULL,
    site_id INTEGER,
    object TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    details TEXT NOT NULL DEFAULT ''
);
CREATE INDEX audit_by_object ON audit (object);
CREATE INDEX audit_by_site ON audit (site_id, id);

CREATE TABLE announcement (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    site_id INTEGER NOT NULL REFERENCES site (id),
    words TEXT NOT NULL,
    starts_at INTEGER NOT NULL,
    ends_at INTEGER,
    created_at INTEGER NOT NULL,
    removed_at INTEGER
);

-- number: what the resident is told, `K-0042`; contact is personal and goes with the other personal parts.
CREATE TABLE complaint (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    site_id INTEGER NOT NULL REFERENCES site (id),
    category TEXT NOT NULL,
    words TEXT NOT NULL,
    contact TEXT NOT NULL DEFAULT '',
    serial TEXT,
    created_at INTEGER NOT NULL,
    answer TEXT,
    answered_at INTEGER,
    answered_by TEXT
);
CREATE INDEX complaint_open ON complaint (site_id, created_at) WHERE answered_at IS NULL;

CREATE TABLE blocked_device (
    site_id INTEGER NOT NULL REFERENCES site (id),
    mac TEXT NOT NULL,
    reason TEXT NOT NULL,
    blocked_by TEXT NOT NULL,
    blocked_at INTEGER NOT NULL,
    PRIMARY KEY (site_id, mac)
) WITHOUT ROWID;

-- Devices that need no card. Each has an account of its own, through a voucher nobody holds.
CREATE TABLE known_device (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    site_id INTEGER NOT NULL REFERENCES site (id),
    voucher_id INTEGER NOT NULL REFERENCES voucher (id),
    name TEXT NOT NULL,
    mac TEXT NOT NULL,
    kind TEXT NOT NULL,
    alarm_after_s INTEGER,
    added_at INTEGER NOT NULL,
    removed_at INTEGER
);
CREATE UNIQUE INDEX known_device_by_name ON known_device (site_id, name) WHERE removed_at IS NULL;
CREATE UNIQUE INDEX known_device_by_mac ON known_device (mac) WHERE removed_at IS NULL;

-- What usage_day says, by site: a month is 31 rows however many cards there are.
CREATE TABLE site_day (
    site_id INTEGER NOT NULL,
    day TEXT NOT NULL,
    octets INTEGER NOT NULL,
    seconds INTEGER NOT NULL,
    PRIMARY KEY (site_id, day)
) WITHOUT ROWID;
INSERT INTO site_day (site_id, day, octets, seconds)
SELECT c.site_id, u.day, SUM (u.octets), SUM (u.seconds)
FROM usage_day AS u
JOIN (SELECT account_id, MIN (site_id) AS site_id FROM voucher GROUP BY account_id) AS c
ON c.account_id = u.account_id
GROUP BY c.site_id, u.day;

CREATE TRIGGER audit_never_changes BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE (ABORT, 'the audit is append-only');
END;
CREATE TRIGGER audit_never_shrinks BEFORE DELETE ON audit
BEGIN
    SELECT RAISE (ABORT, 'the audit is append-only');
END;

-- What a site announced until now becomes an announcement without an end; from here on there is one
-- place for them.
INSERT INTO announcement (site_id, words, starts_at, created_at)
SELECT id, announcement, CAST (strftime ('%s', 'now') AS INTEGER), CAST (strftime ('%s', 'now') AS INTEGER)
FROM site WHERE announcement <> '';
ALTER TABLE site DROP COLUMN announcement;

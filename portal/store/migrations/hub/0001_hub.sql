-- A hub's tables, for SQLite and PostgreSQL. Every key of what nodes send begins with node_id, and
-- what grows by the session has the day in its key: they can be parted by month and spread over
-- servers by node later (docs/hub.md) without another key. Times are epoch seconds UTC, days are
-- ordinals (0001-01-01 = 1) in the site's zone, months are year * 12 + month - 1.

CREATE TABLE fact (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- What the office calls a site. `node_id` is the node that may report for it.
CREATE TABLE site (
    code TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    zone TEXT NOT NULL,
    group_name TEXT NOT NULL DEFAULT '',
    node_id TEXT,
    without_node TEXT NOT NULL DEFAULT 'closed',
    power_window TEXT NOT NULL DEFAULT '',
    created_at BIGINT NOT NULL,
    CHECK (without_node IN ('closed', 'open'))
);
CREATE INDEX site_by_node ON site (node_id);

CREATE TABLE node (
    node_id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    seal_key BYTEA,
    replaces TEXT,
    request_counter BIGINT NOT NULL DEFAULT 0,
    enrolled_at BIGINT NOT NULL,
    approved_at BIGINT,
    revoked_at BIGINT,
    last_seen_at BIGINT,
    backup_asked_at BIGINT,
    CHECK (state IN ('pending', 'active', 'revoked'))
);

-- Keys with which a node signs; while one replaces another both are good.
CREATE TABLE node_key (
    node_id TEXT NOT NULL,
    public_key BYTEA NOT NULL,
    since_at BIGINT NOT NULL,
    ended_at BIGINT,
    PRIMARY KEY (node_id, public_key)
);

-- The log of each epoch as far as the hub has it. `promised` is a note of the node about records
-- that have not come yet, `proven` one that this hub has cosigned and whose records it has lost;
-- retention has been through the records below `pruned_size`.
CREATE TABLE node_head (
    node_id TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    size BIGINT NOT NULL,
    frontier BYTEA NOT NULL,
    cosigned TEXT,
    promised TEXT,
    proven TEXT,
    parent_node TEXT,
    parent_epoch BIGINT,
    parent_size BIGINT,
    backed_up_size BIGINT NOT NULL DEFAULT 0,
    pruned_size BIGINT NOT NULL DEFAULT 0,
    newest_at BIGINT,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (node_id, epoch)
);

-- Every checkpoint of a node that this hub has cosigned, both signatures in the note.
CREATE TABLE checkpoint (
    node_id TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    size BIGINT NOT NULL,
    note TEXT NOT NULL,
    cosigned_at BIGINT NOT NULL,
    PRIMARY KEY (node_id, epoch, size)
) /*sqlite WITHOUT ROWID*/;

-- What nodes sent, octet for octet.
CREATE TABLE record (
    node_id TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    kind BIGINT NOT NULL,
    at BIGINT NOT NULL,
    site BIGINT NOT NULL,
    public BYTEA NOT NULL,
    c_loc BYTEA NOT NULL,
    PRIMARY KEY (node_id, epoch, seq)
) /*sqlite WITHOUT ROWID*/;

-- In place of records whose time is over: their leaves, 32 octets each, one after the other, so that
-- the tree can still be made.
CREATE TABLE leaf_run (
    node_id TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    first BIGINT NOT NULL,
    count BIGINT NOT NULL,
    leaves BYTEA NOT NULL,
    PRIMARY KEY (node_id, epoch, first)
) /*sqlite WITHOUT ROWID*/;

-- Session and slice records taken apart. Of a record that tells again what the hub has from an epoch
-- before (flag 16), the figures are what it tells beyond that: sums over rows are sums of usage.
CREATE TABLE session_record (
    node_id TEXT NOT NULL,
    day BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    site BIGINT NOT NULL,
    pseudonym BYTEA NOT NULL,
    gateway BIGINT NOT NULL,
    profile BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    at BIGINT NOT NULL,
    duration_s BIGINT NOT NULL,
    counted_s BIGINT NOT NULL,
    input_octets BIGINT NOT NULL,
    output_octets BIGINT NOT NULL,
    cause BIGINT NOT NULL,
    flags BIGINT NOT NULL,
    clock_quality BIGINT NOT NULL,
    PRIMARY KEY (node_id, day, epoch, seq)
) /*sqlite WITHOUT ROWID*/;

-- Day totals as the node counted them; kept for ever.
CREATE TABLE day_total (
    node_id TEXT NOT NULL,
    site BIGINT NOT NULL,
    day BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    sessions BIGINT NOT NULL,
    users BIGINT NOT NULL,
    input_octets BIGINT NOT NULL,
    output_octets BIGINT NOT NULL,
    counted_s BIGINT NOT NULL,
    peak BIGINT NOT NULL,
    PRIMARY KEY (node_id, site, day)
);

-- All other records, their payload as text.
CREATE TABLE event (
    node_id TEXT NOT NULL,
    kind BIGINT NOT NULL,
    at BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    site BIGINT NOT NULL,
    payload TEXT NOT NULL,
    PRIMARY KEY (node_id, kind, at, epoch, seq)
) /*sqlite WITHOUT ROWID*/;

-- What a node's numbers stand for, as its newest records say. `code` and `zone` are those of sites.
CREATE TABLE node_name (
    node_id TEXT NOT NULL,
    what TEXT NOT NULL,
    number BIGINT NOT NULL,
    name TEXT NOT NULL,
    code TEXT NOT NULL DEFAULT '',
    zone TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (node_id, what, number)
);

-- Roll-ups, changed in the transaction that stores the records.

CREATE TABLE site_day (
    node_id TEXT NOT NULL,
    site BIGINT NOT NULL,
    day BIGINT NOT NULL,
    profile BIGINT NOT NULL,
    sessions BIGINT NOT NULL,
    users BIGINT NOT NULL,
    input_octets BIGINT NOT NULL,
    output_octets BIGINT NOT NULL,
    counted_s BIGINT NOT NULL,
    PRIMARY KEY (node_id, site, day, profile)
) /*sqlite WITHOUT ROWID*/;
CREATE INDEX site_day_by_day ON site_day (day);

-- `open_minutes` has 60 numbers of two octets: the sessions that were open in each minute.
CREATE TABLE site_hour (
    node_id TEXT NOT NULL,
    site BIGINT NOT NULL,
    hour BIGINT NOT NULL,
    sessions BIGINT NOT NULL,
    octets BIGINT NOT NULL,
    peak BIGINT NOT NULL,
    open_minutes BYTEA NOT NULL,
    PRIMARY KEY (node_id, site, hour)
) /*sqlite WITHOUT ROWID*/;

CREATE TABLE user_day (
    node_id TEXT NOT NULL,
    day BIGINT NOT NULL,
    pseudonym BYTEA NOT NULL,
    site BIGINT NOT NULL,
    profile BIGINT NOT NULL,
    PRIMARY KEY (node_id, day, pseudonym, site, profile)
) /*sqlite WITHOUT ROWID*/;

CREATE TABLE user_month (
    node_id TEXT NOT NULL,
    month BIGINT NOT NULL,
    pseudonym BYTEA NOT NULL,
    site BIGINT NOT NULL,
    sessions BIGINT NOT NULL,
    octets BIGINT NOT NULL,
    counted_s BIGINT NOT NULL,
    PRIMARY KEY (node_id, month, pseudonym, site)
) /*sqlite WITHOUT ROWID*/;

CREATE TABLE site_month (
    node_id TEXT NOT NULL,
    month BIGINT NOT NULL,
    site BIGINT NOT NULL,
    sessions BIGINT NOT NULL,
    users BIGINT NOT NULL,
    input_octets BIGINT NOT NULL,
    output_octets BIGINT NOT NULL,
    counted_s BIGINT NOT NULL,
    PRIMARY KEY (node_id, month, site)
) /*sqlite WITHOUT ROWID*/;
CREATE INDEX site_month_by_month ON site_month (month);

-- What does not fit, once for each thing that does not; `alarm_key` tells the things apart.
CREATE TABLE alarm (
    node_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    alarm_key TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    count BIGINT NOT NULL,
    detail TEXT NOT NULL,
    ended_at BIGINT,
    ended_by TEXT,
    reason TEXT,
    PRIMARY KEY (node_id, kind, alarm_key)
);

-- Both sides of an alarm, octet for octet: the node's note and records, the hub's note and records.
CREATE TABLE evidence (
    node_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    alarm_key TEXT NOT NULL,
    side TEXT NOT NULL,
    what TEXT NOT NULL,
    octets BYTEA NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (node_id, kind, alarm_key, side, what)
);

-- What the office wants of nodes: every version, signed.
CREATE TABLE document (
    name TEXT NOT NULL,
    scope TEXT NOT NULL,
    version BIGINT NOT NULL,
    not_before_at BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    note TEXT NOT NULL,
    made_at BIGINT NOT NULL,
    made_by TEXT NOT NULL,
    PRIMARY KEY (name, scope, version)
);

-- What a node says it has. `state`: held, or refused with the reason.
CREATE TABLE document_state (
    node_id TEXT NOT NULL,
    name TEXT NOT NULL,
    scope TEXT NOT NULL,
    held_version BIGINT NOT NULL DEFAULT 0,
    held_at BIGINT,
    refused_version BIGINT NOT NULL DEFAULT 0,
    refused_at BIGINT,
    refused_why TEXT,
    PRIMARY KEY (node_id, name, scope)
);

-- Octets of a node that the hub cannot read: number 0 of the deltas does not exist, the backup says
-- in `number` which deltas it contains.
CREATE TABLE sealed (
    node_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    number BIGINT NOT NULL,
    octets BYTEA NOT NULL,
    received_at BIGINT NOT NULL,
    PRIMARY KEY (node_id, kind, number)
);

-- People of the office, and what they did.
CREATE TABLE reviewer (
    name TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    must_change BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    CHECK (role IN ('admin', 'reviewer'))
);

CREATE TABLE hub_audit (
    at BIGINT NOT NULL,
    number BIGINT NOT NULL,
    who TEXT NOT NULL,
    deed TEXT NOT NULL,
    object TEXT NOT NULL,
    details TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (at, number)
);

-- What was deleted because its time was over.
CREATE TABLE pruning (
    node_id TEXT NOT NULL,
    class TEXT NOT NULL,
    at BIGINT NOT NULL,
    before_day BIGINT NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (node_id, class, at)
);

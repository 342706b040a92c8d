-- A node: sites, gateways, profiles, cards, devices, sessions, usage by day.
-- Instants are epoch seconds UTC, days are YYYY-MM-DD in the site's zone, booleans 0/1.

CREATE TABLE box (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE site (
    id INTEGER PRIMARY KEY,
    code TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    zone TEXT NOT NULL,
    helper TEXT NOT NULL DEFAULT '',
    power_window TEXT NOT NULL DEFAULT '',
    announcement TEXT NOT NULL DEFAULT ''
);

-- AUTOINCREMENT: a new gateway must never inherit the sessions of one that was removed.
CREATE TABLE gateway (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    site_id INTEGER NOT NULL REFERENCES site (id),
    name TEXT NOT NULL UNIQUE,
    family TEXT NOT NULL,
    address TEXT NOT NULL,
    nas_id TEXT,
    secret TEXT NOT NULL,
    uam_secret TEXT,
    mac_auth INTEGER NOT NULL,
    login_base TEXT,
    sends_gigawords INTEGER NOT NULL DEFAULT 0
);

-- So that its old sessions still say where they were.
CREATE TABLE removed_gateway (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL
);

-- Source addresses that have sent a valid Message-Authenticator: from then on they must.
CREATE TABLE learned_address (
    address TEXT PRIMARY KEY
) WITHOUT ROWID;

-- limits: JSON of what differs from the defaults of portal/domain/profile.py.
CREATE TABLE profile (
    name TEXT PRIMARY KEY,
    limits TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE batch (
    id INTEGER PRIMARY KEY,
    site_id INTEGER NOT NULL REFERENCES site (id),
    profile TEXT NOT NULL REFERENCES profile (name),
    note TEXT NOT NULL DEFAULT '',
    issued_at INTEGER NOT NULL
);

-- Whose quota is counted. A card that is replaced hands its account to the new card, so that the
-- balance and whatever an old session still reports stay in one place.
CREATE TABLE account (
    id INTEGER PRIMARY KEY,
    profile TEXT NOT NULL REFERENCES profile (name),
    first_used_at INTEGER,
    total_octets INTEGER NOT NULL DEFAULT 0,
    total_s INTEGER NOT NULL DEFAULT 0,
    move_day TEXT,
    move_count INTEGER NOT NULL DEFAULT 0,
    last_session_id INTEGER
);
CREATE INDEX account_by_profile ON account (profile);

CREATE TABLE voucher (
    id INTEGER PRIMARY KEY,
    account_id INTEGER NOT NULL REFERENCES account (id),
    batch_id INTEGER NOT NULL REFERENCES batch (id),
    site_id INTEGER NOT NULL REFERENCES site (id),
    serial TEXT NOT NULL UNIQUE,
    code_hash BLOB NOT NULL UNIQUE,
    last4 TEXT NOT NULL,
    sealed_code BLOB,
    issued_at INTEGER NOT NULL,
    use_before_at INTEGER,
    revoked_at INTEGER,
    replaced_at INTEGER,
    end_reason TEXT
);
CREATE INDEX voucher_by_account ON voucher (account_id);
CREATE INDEX voucher_by_batch ON voucher (batch_id);
CREATE INDEX voucher_sealed ON voucher (issued_at) WHERE sealed_code IS NOT NULL;

-- What each account used on each day, except the pending_ part of sessions.
CREATE TABLE usage_day (
    account_id INTEGER NOT NULL,
    day TEXT NOT NULL,
    octets INTEGER NOT NULL,
    seconds INTEGER NOT NULL,
    PRIMARY KEY (account_id, day)
) WITHOUT ROWID;

-- A phone of an account: whether it may come back without typing, and the grant it holds.
CREATE TABLE device (
    account_id INTEGER NOT NULL,
    mac TEXT NOT NULL,
    is_remembered INTEGER NOT NULL,
    gateway_id INTEGER NOT NULL,
    session_id INTEGER,
    granted_octets INTEGER,
    granted_s INTEGER,
    granted_at INTEGER NOT NULL,
    PRIMARY KEY (account_id, mac)
) WITHOUT ROWID;
CREATE INDEX device_by_mac ON device (mac);

-- base_: octets counted before the gateway's counter began at zero again; its last reading is
-- what lies above. pending_: counted, but not yet in usage_day and the account's total.
CREATE TABLE session (
    id INTEGER PRIMARY KEY,
    voucher_id INTEGER,
    gateway_id INTEGER NOT NULL,
    site_id INTEGER NOT NULL,
    acct_session_id TEXT NOT NULL,
    mac TEXT,
    framed_ip TEXT,
    has_class INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    granted_octets INTEGER,
    granted_s INTEGER,
    last_seen_at INTEGER NOT NULL,
    ended_at INTEGER,
    end_cause TEXT,
    is_stopped INTEGER NOT NULL,
    is_superseded INTEGER NOT NULL,
    input_octets INTEGER NOT NULL,
    output_octets INTEGER NOT NULL,
    session_time_s INTEGER NOT NULL,
    base_input_octets INTEGER NOT NULL,
    base_output_octets INTEGER NOT NULL,
    counted_s INTEGER NOT NULL,
    pending_day TEXT,
    pending_octets INTEGER NOT NULL,
    pending_s INTEGER NOT NULL
);
-- Open sessions are read at start; the others are found by id, which our Class carries.
CREATE INDEX session_open ON session (gateway_id) WHERE ended_at IS NULL;
CREATE INDEX session_by_voucher ON session (voucher_id);
CREATE INDEX session_without_class ON session (gateway_id, acct_session_id) WHERE has_class = 0;

CREATE TABLE outage (
    started_at INTEGER PRIMARY KEY,
    ended_at INTEGER
);

CREATE TABLE operator (
    name TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    site_id INTEGER REFERENCES site (id),
    password_hash TEXT NOT NULL,
    must_change INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) WITHOUT ROWID;

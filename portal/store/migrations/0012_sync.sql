-- What a node keeps of its dealings with the hub.

-- Numbers and octets by name; portal/store/sync.py lists the names.
CREATE TABLE sync (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

-- Documents of the hub, as signed. state: 'applied' (the last known good one), 'waiting' (for its
-- not-before) or 'refused' (why says the reason). One of each at most; versions only grow.
CREATE TABLE policy_document (
    name TEXT NOT NULL,
    scope TEXT NOT NULL,
    state TEXT NOT NULL,
    version INTEGER NOT NULL,
    note TEXT NOT NULL,
    why TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (name, scope, state)
) WITHOUT ROWID;

-- Signed notes that contradict each other: whoever signed them cannot deny it. Never deleted.
CREATE TABLE evidence (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    what TEXT NOT NULL,
    ours TEXT NOT NULL,
    theirs TEXT NOT NULL
);

-- What phones get while the node is away: 'closed', or 'open' where the gateway can do that.
ALTER TABLE site ADD COLUMN without_node TEXT NOT NULL DEFAULT 'closed';

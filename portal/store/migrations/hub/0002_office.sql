-- The office's side of its nodes: invitations, who reported for which site, and why people did what.

-- One row for each token that was given out. `token_key` checks a proof and is no token itself.
-- `state`: open, pending (a box has come with it), approved, refused, withdrawn.
CREATE TABLE enrolment (
    token_id TEXT PRIMARY KEY,
    token_key BYTEA NOT NULL,
    site TEXT NOT NULL,
    state TEXT NOT NULL,
    made_at BIGINT NOT NULL,
    made_by TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    node_id TEXT,
    signing BYTEA,
    sealing BYTEA,
    words TEXT NOT NULL DEFAULT '',
    presented_at BIGINT,
    decided_at BIGINT,
    decided_by TEXT,
    CHECK (state IN ('open', 'pending', 'approved', 'refused', 'withdrawn'))
);
CREATE INDEX enrolment_by_site ON enrolment (site);

-- Which box reported for a site, and when; a replaced one's records stay the site's.
CREATE TABLE site_node (
    node_id TEXT NOT NULL,
    site TEXT NOT NULL,
    since_at BIGINT NOT NULL,
    until_at BIGINT,
    PRIMARY KEY (node_id, site)
);

ALTER TABLE hub_audit ADD COLUMN reason TEXT NOT NULL DEFAULT '';

-- Gateways: what their configurations and their control need.

-- A site's services that phones may use before they log in: names or addresses, blanks between them.
ALTER TABLE site ADD COLUMN open_services TEXT NOT NULL DEFAULT '';

-- The network of the phones behind a gateway, in CIDR form; no two gateways of a node share one.
ALTER TABLE gateway ADD COLUMN guest_net TEXT;
-- Whether a gateway calls upload Output and download Input, against RFC 2866: yes, no, or as its
-- packets say (auto).
ALTER TABLE gateway ADD COLUMN swap_octets TEXT NOT NULL DEFAULT 'auto';

-- What a gateway was asked to do with a session (RFC 5176) and what it answered; no proof of either.
-- kind: 'disconnect' or 'coa'. why: a word of portal/disconnects.py. asked_by: an operator, 'command
-- line', or empty: the node itself. sent: requests that led to an answer or to none. answer: 'ack',
-- 'nak', 'timeout', 'unasked', NULL while it is awaited.
CREATE TABLE gateway_action (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    gateway_id INTEGER NOT NULL,
    site_id INTEGER NOT NULL,
    session_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    why TEXT NOT NULL,
    asked_by TEXT NOT NULL,
    sent INTEGER NOT NULL,
    answer TEXT,
    answered_at INTEGER,
    error_cause INTEGER,
    round_trip_ms INTEGER
);
CREATE INDEX gateway_action_by_gateway ON gateway_action (gateway_id, id);
CREATE INDEX gateway_action_by_time ON gateway_action (at);

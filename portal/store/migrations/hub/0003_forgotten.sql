-- What the sums have of records that were forgotten at a person's wish: sums of the records that are
-- left and these are the sums that are shown. Nothing here is more than that difference. `users`: whose
-- last record is gone, so that their pseudonym is in no row any more.

CREATE TABLE forgotten_day (
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

CREATE TABLE forgotten_month (
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

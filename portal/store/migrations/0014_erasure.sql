-- Records of persons who wished to be erased, whose bodies go once the hub has them in its own backup
-- and their day is told: until then they stand under a random name that nobody can resolve.
CREATE TABLE ledger_erasing (
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (epoch, seq)
) WITHOUT ROWID;

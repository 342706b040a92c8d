-- Operators who work at several sites; no whole MAC in the audit.

-- The sites of an operator whose operator.site_id is not null; that one, where what they do about
-- themselves is filed, is among them. A null there means every site, now and later.
CREATE TABLE operator_site (
    operator TEXT NOT NULL REFERENCES operator (name) ON DELETE CASCADE,
    site_id INTEGER NOT NULL REFERENCES site (id),
    PRIMARY KEY (operator, site_id)
) WITHOUT ROWID;
INSERT INTO operator_site (operator, site_id)
    SELECT name, site_id FROM operator WHERE site_id IS NOT NULL;

-- Known devices stood there with the MAC as object and the name in the details. The lines are kept
-- for ever, so the MAC goes; nothing else of them changes.
DROP TRIGGER audit_never_changes;
UPDATE audit SET
    object = details,
    details = '**:**:**:**:' || substr(object, 9, 2) || ':' || substr(object, 11, 2)
    WHERE action = 'device.remove' AND length(object) = 12;
UPDATE audit SET
    object = substr(details, 1, MAX (instr(details, ' (attendance), '), instr(details, ' (office), '), instr(details, ' (other), ')) - 1),
    details = '**:**:**:**:' || substr(object, 9, 2) || ':' || substr(object, 11, 2)
        || substr(details, MAX (instr(details, ' (attendance), '), instr(details, ' (office), '), instr(details, ' (other), ')))
    WHERE action = 'device.add' AND length(object) = 12;
CREATE TRIGGER audit_never_changes BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE (ABORT, 'the audit is append-only');
END;

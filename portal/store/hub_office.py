"""The SQL about the office: who may sign in, what they did, invitations of boxes, sites' boxes.

Every statement stands next to the function that runs it. Methods with a `transaction` are part of
the caller's.
"""

from collections.abc import Sequence
from typing import Any

from portal.store.audit import Deed
from portal.store.db.either import HubDatabase, HubTransaction, Reading, Row

_ENROLMENT = (
    "SELECT token_id, token_key, site, state, made_at, made_by, expires_at, node_id, signing,"
    " sealing, words, presented_at, decided_at, decided_by FROM enrolment"
)


class OfficeStore:
    """What the office writes down about its people and its boxes."""

    def __init__(self, database: HubDatabase):
        self.database = database

    # --- what was done

    async def write_deed(self, transaction: HubTransaction, at: int, deed: Deed) -> None:
        """Record a deed in the transaction that does it."""
        # Two in one second: the number tells them apart, the lock keeps them from taking the same.
        await transaction.lock("audit")
        row = await transaction.one(
            "SELECT COALESCE(MAX(number), 0) AS number FROM hub_audit WHERE at = ?", (at,)
        )
        number = 1 + (0 if row is None else int(row["number"]))
        await transaction.run(
            "INSERT INTO hub_audit (at, number, who, deed, object, reason, details)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (at, number, deed.by, deed.action, deed.object, deed.reason, deed.details),
        )

    async def deeds(
        self, before: tuple[int, int] | None, *, who: str = "", limit: int
    ) -> list[Row]:
        """What was done, newest first, below (at, number)."""
        at, number = before or (1 << 60, 0)
        wheres = ["(at < ? OR (at = ? AND number < ?))"]
        values: list[Any] = [at, at, number]
        if who:
            wheres.append("who = ?")
            values.append(who)
        return await self.database.all(
            "SELECT at, number, who, deed, object, reason, details FROM hub_audit"
            f" WHERE {' AND '.join(wheres)} ORDER BY at DESC, number DESC LIMIT ?",
            (*values, limit),
        )

    # --- people

    async def people(self) -> list[Row]:
        """Everybody who may sign in, by name."""
        return await self.database.all(
            "SELECT name, role, password_hash, must_change, created_at FROM reviewer ORDER BY name"
        )

    async def add_person(
        self,
        transaction: HubTransaction,
        name: str,
        role: str,
        password_hash: str,
        must_change: bool,
        at: int,
    ) -> None:
        """Add somebody whose name is free."""
        await transaction.run(
            "INSERT INTO reviewer (name, role, password_hash, must_change, created_at, changed_at)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (name, role, password_hash, int(must_change), at, at),
        )

    async def set_password(
        self,
        transaction: HubTransaction,
        name: str,
        password_hash: str,
        must_change: bool,
        at: int,
    ) -> None:
        """Set somebody's password."""
        await transaction.run(
            "UPDATE reviewer SET password_hash = ?, must_change = ?, changed_at = ? WHERE name = ?",
            (password_hash, int(must_change), at, name),
        )

    async def set_role(self, transaction: HubTransaction, name: str, role: str, at: int) -> None:
        """Set what somebody may do."""
        await transaction.run(
            "UPDATE reviewer SET role = ?, changed_at = ? WHERE name = ?", (role, at, name)
        )

    async def remove_person(self, transaction: HubTransaction, name: str) -> None:
        """Remove somebody; what they did stays."""
        await transaction.run("DELETE FROM reviewer WHERE name = ?", (name,))

    # --- sites

    async def set_site(
        self, transaction: HubTransaction, code: str, values: Sequence[tuple[str, str]]
    ) -> None:
        """Change columns of a site; the caller names existing ones only."""
        columns = ", ".join(f"{name} = ?" for name, _ in values)
        await transaction.run(
            f"UPDATE site SET {columns} WHERE code = ?", (*(value for _, value in values), code)
        )

    async def site_begins(
        self, transaction: HubTransaction, code: str, node_id: str, at: int
    ) -> None:
        """From now on this box reports for the site; whoever did so until now does no more."""
        await transaction.run(
            "UPDATE site_node SET until_at = ? WHERE site = ? AND until_at IS NULL"
            " AND node_id <> ?",
            (at, code, node_id),
        )
        await transaction.run(
            "INSERT INTO site_node (node_id, site, since_at) VALUES (?, ?, ?)"
            " ON CONFLICT (node_id, site) DO UPDATE SET until_at = NULL",
            (node_id, code, at),
        )

    async def site_ends(self, transaction: HubTransaction, node_id: str, at: int) -> None:
        """This box reports for no site any more."""
        await transaction.run(
            "UPDATE site_node SET until_at = ? WHERE node_id = ? AND until_at IS NULL",
            (at, node_id),
        )
        await transaction.run("UPDATE site SET node_id = NULL WHERE node_id = ?", (node_id,))

    async def set_replaces(self, transaction: HubTransaction, node_id: str, old: str) -> None:
        """Note whose place a box has taken."""
        await transaction.run("UPDATE node SET replaces = ? WHERE node_id = ?", (old, node_id))

    async def heads(self, reading: Reading, node_id: str) -> list[Row]:
        """How long the logs of a box are here: epoch, size."""
        return await reading.all(
            "SELECT epoch, size FROM node_head WHERE node_id = ? ORDER BY epoch", (node_id,)
        )

    # --- invitations

    async def add_enrolment(
        self,
        transaction: HubTransaction,
        token_id: str,
        token_key: bytes,
        site: str,
        by: str,
        at: int,
        expires_at: int,
    ) -> None:
        """Write down a token; an older one of the site that nobody has used is worth nothing."""
        await transaction.run(
            "UPDATE enrolment SET state = 'withdrawn', decided_at = ?, decided_by = ?"
            " WHERE site = ? AND state = 'open'",
            (at, by, site),
        )
        await transaction.run(
            "INSERT INTO enrolment (token_id, token_key, site, state, made_at, made_by, expires_at)"
            " VALUES (?, ?, ?, 'open', ?, ?, ?)",
            (token_id, token_key, site, at, by, expires_at),
        )

    async def enrolment(self, reading: Reading, token_id: str) -> Row | None:
        """The invitation of a token."""
        return await reading.one(f"{_ENROLMENT} WHERE token_id = ?", (token_id,))

    async def enrolments(self, reading: Reading, state: str) -> list[Row]:
        """All invitations in a state, oldest first."""
        return await reading.all(
            f"{_ENROLMENT} WHERE state = ? ORDER BY made_at, token_id", (state,)
        )

    async def present(
        self,
        transaction: HubTransaction,
        token_id: str,
        *,
        node_id: str,
        signing: bytes,
        sealing: bytes,
        words: str,
        at: int,
    ) -> None:
        """A box has come with the token."""
        await transaction.run(
            "UPDATE enrolment SET state = 'pending', node_id = ?, signing = ?, sealing = ?,"
            " words = ?, presented_at = ? WHERE token_id = ?",
            (node_id, signing, sealing, words, at, token_id),
        )

    async def decide(
        self, transaction: HubTransaction, token_id: str, state: str, by: str, at: int
    ) -> None:
        """Approve, refuse or withdraw an invitation."""
        await transaction.run(
            "UPDATE enrolment SET state = ?, decided_at = ?, decided_by = ? WHERE token_id = ?",
            (state, at, by, token_id),
        )

    # --- alarms that enrolment raises and ends

    async def raise_alarm(
        self,
        transaction: HubTransaction,
        node_id: str,
        kind: str,
        key: str,
        at: int,
        detail: str,
    ) -> None:
        """Raise an alarm, or count it once more."""
        await transaction.run(
            "INSERT INTO alarm (node_id, kind, alarm_key, first_at, last_at, count, detail)"
            " VALUES (?, ?, ?, ?, ?, 1, ?) ON CONFLICT (node_id, kind, alarm_key) DO UPDATE SET"
            " last_at = excluded.last_at, count = alarm.count + 1, detail = excluded.detail,"
            " ended_at = NULL, ended_by = NULL, reason = NULL",
            (node_id, kind, key, at, at, detail),
        )

    async def alarms(self, *, is_open: bool, limit: int) -> list[Row]:
        """Alarms that stand, or those that were ended; newest first."""
        return await self.database.all(
            "SELECT node_id, kind, alarm_key, first_at, last_at, count, detail, ended_at, ended_by,"
            f" reason FROM alarm WHERE ended_at IS {'NULL' if is_open else 'NOT NULL'}"
            " ORDER BY last_at DESC, node_id, kind, alarm_key LIMIT ?",
            (limit,),
        )

    async def evidence(self, node_id: str, kind: str, key: str) -> list[Row]:
        """Both sides of an alarm."""
        return await self.database.all(
            "SELECT side, what, octets, at FROM evidence"
            " WHERE node_id = ? AND kind = ? AND alarm_key = ? ORDER BY side, what",
            (node_id, kind, key),
        )

    async def end_alarm(
        self,
        transaction: HubTransaction,
        node_id: str,
        kind: str,
        key: str,
        by: str,
        reason: str,
        at: int,
    ) -> bool:
        """End an alarm; False when none stands."""
        changed = await transaction.run(
            "UPDATE alarm SET ended_at = ?, ended_by = ?, reason = ? WHERE node_id = ?"
            " AND kind = ? AND alarm_key = ? AND ended_at IS NULL",
            (at, by, reason, node_id, kind, key),
        )
        return changed == 1

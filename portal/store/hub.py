"""The hub's store: the hub itself, its sites, its nodes and their keys.

What nodes send is in hub_ledger.py and hub_usage.py, what goes back to them in hub_documents.py
and hub_sealed.py, what does not fit in hub_alarms.py. Every statement stands next to the function
that runs it. Methods with a `transaction` are part of the caller's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from portal.store.db.either import HubDatabase, HubTransaction, Reading, Row


@dataclass(frozen=True, slots=True)
class Reviewer:
    """Somebody who may sign in at the hub."""

    name: str
    role: str
    password_hash: str
    must_change: bool


class HubStore:
    """The hub, its sites, its nodes."""

    def __init__(self, database: HubDatabase):
        self.database = database

    # --- the hub itself

    async def facts(self) -> dict[str, str]:
        """What is known of the hub itself: `hub_id`, `name`, `zone`."""
        rows = await self.database.all("SELECT name, value FROM fact")
        return {row["name"]: row["value"] for row in rows}

    async def set_facts(
        self, transaction: HubTransaction, facts: Sequence[tuple[str, str]]
    ) -> None:
        """Set facts about the hub."""
        await transaction.run_many(
            "INSERT INTO fact (name, value) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            list(facts),
        )

    async def add_reviewer(self, transaction: HubTransaction, reviewer: Reviewer, now: int) -> None:
        """Add somebody who may sign in; the name must be new."""
        await transaction.run(
            "INSERT INTO reviewer (name, role, password_hash, must_change, created_at, changed_at)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (
                *(reviewer.name, reviewer.role, reviewer.password_hash),
                *(int(reviewer.must_change), now, now),
            ),
        )

    async def write_audit(
        self,
        transaction: HubTransaction,
        at: int,
        who: str,
        deed: str,
        object: str,
        details: str = "",
    ) -> None:
        """Record what a person of the office did, in the transaction of the deed."""
        await transaction.run(
            "INSERT INTO hub_audit (at, number, who, deed, object, details)"
            " SELECT CAST(? AS BIGINT), COALESCE(MAX(number), 0) + 1, CAST(? AS TEXT),"
            " CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT) FROM hub_audit WHERE at = ?",
            (at, who, deed, object, details, at),
        )

    # --- sites

    async def add_site(
        self, transaction: HubTransaction, code: str, name: str, zone: str, group: str, now: int
    ) -> bool:
        """Add a site; False when the code is taken."""
        changed = await transaction.run(
            "INSERT INTO site (code, name, zone, group_name, created_at) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (code) DO NOTHING",
            (code, name, zone, group, now),
        )
        return changed == 1

    async def sites(self) -> list[Row]:
        """All sites, by code."""
        return await self.database.all("SELECT * FROM site ORDER BY code")

    async def sites_of(self, reading: Reading, node_id: str) -> list[Row]:
        """The sites this node reports for."""
        return await reading.all("SELECT * FROM site WHERE node_id = ? ORDER BY code", (node_id,))

    async def site(self, reading: Reading, code: str) -> Row | None:
        """One site."""
        return await reading.one("SELECT * FROM site WHERE code = ?", (code,))

    async def give_site(self, transaction: HubTransaction, code: str, node_id: str | None) -> None:
        """Let this node, and no other, report for the site."""
        await transaction.run("UPDATE site SET node_id = ? WHERE code = ?", (node_id, code))

    # --- nodes and their keys

    async def add_node(
        self,
        transaction: HubTransaction,
        node_id: str,
        public_key: bytes,
        seal_key: bytes,
        now: int,
        *,
        state: str = "pending",
        replaces: str | None = None,
    ) -> bool:
        """Add a node that has enrolled; False when it is known already."""
        added = await transaction.run(
            "INSERT INTO node (node_id, state, seal_key, replaces, enrolled_at, approved_at)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (node_id) DO NOTHING",
            (node_id, state, seal_key, replaces, now, now if state == "active" else None),
        )
        if added:
            await self.add_key(transaction, node_id, public_key, now)
        return added == 1

    async def node(self, reading: Reading, node_id: str) -> Row | None:
        """One node."""
        return await reading.one("SELECT * FROM node WHERE node_id = ?", (node_id,))

    async def nodes(self) -> list[Row]:
        """All nodes, in the order they enrolled."""
        return await self.database.all("SELECT * FROM node ORDER BY enrolled_at, node_id")

    async def set_state(
        self, transaction: HubTransaction, node_id: str, state: str, now: int
    ) -> None:
        """Make a node `active` or `revoked`."""
        column = "approved_at" if state == "active" else "revoked_at"
        await transaction.run(
            f"UPDATE node SET state = ?, {column} = ? WHERE node_id = ?", (state, now, node_id)
        )

    async def add_key(
        self, transaction: HubTransaction, node_id: str, public_key: bytes, now: int
    ) -> None:
        """Take another signing key of a node as good, the newest of them."""
        row = await transaction.one(
            "SELECT MAX(since_at) AS at FROM node_key WHERE node_id = ?", (node_id,)
        )
        latest = None if row is None else row["at"]
        await transaction.run(
            "INSERT INTO node_key (node_id, public_key, since_at) VALUES (?, ?, ?)"
            " ON CONFLICT (node_id, public_key) DO NOTHING",
            (node_id, public_key, now if latest is None else max(now, latest + 1)),
        )

    async def end_older_keys(
        self, transaction: HubTransaction, node_id: str, public_key: bytes, now: int
    ) -> None:
        """Take the signing keys that a node had before this one as good no longer."""
        await transaction.run(
            "UPDATE node_key SET ended_at = ? WHERE node_id = ? AND ended_at IS NULL AND since_at <"
            " (SELECT since_at FROM node_key WHERE node_id = ? AND public_key = ?)",
            (now, node_id, node_id, public_key),
        )

    async def keys_of(self, reading: Reading, node_id: str) -> list[bytes]:
        """The signing keys of a node that are good now, oldest first."""
        rows = await reading.all(
            "SELECT public_key FROM node_key WHERE node_id = ? AND ended_at IS NULL"
            " ORDER BY since_at, public_key",
            (node_id,),
        )
        return [bytes(row["public_key"]) for row in rows]

    async def all_keys_of(self, reading: Reading, node_id: str) -> list[bytes]:
        """All signing keys a node ever had, oldest first."""
        rows = await reading.all(
            "SELECT public_key FROM node_key WHERE node_id = ? ORDER BY since_at, public_key",
            (node_id,),
        )
        return [bytes(row["public_key"]) for row in rows]

    async def take_counter(
        self, transaction: HubTransaction, node_id: str, counter: int, now: int
    ) -> bool:
        """Note that a node was heard with this request counter; False when it is no new one."""
        changed = await transaction.run(
            "UPDATE node SET request_counter = ?, last_seen_at = ?"
            " WHERE node_id = ? AND request_counter < ?",
            (counter, now, node_id, counter),
        )
        return changed == 1

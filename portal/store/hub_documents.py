"""The hub's documents: every version, and what nodes say they hold of them."""

from collections.abc import Sequence

from portal.store.db.either import HubDatabase, HubTransaction, Reading, Row


class DocumentStore:
    """What the office wants of nodes."""

    def __init__(self, database: HubDatabase):
        self.database = database

    async def newest(self, reading: Reading, name: str, scope: str) -> Row | None:
        """The newest version of a document."""
        return await reading.one(
            "SELECT * FROM document WHERE name = ? AND scope = ? ORDER BY version DESC LIMIT 1",
            (name, scope),
        )

    async def highest_held(self, reading: Reading, name: str, scope: str) -> int:
        """The highest version of a document that any node says it holds; 0 for none."""
        row = await reading.one(
            "SELECT COALESCE(MAX(held_version), 0) AS version FROM document_state"
            " WHERE name = ? AND scope = ?",
            (name, scope),
        )
        return 0 if row is None else int(row["version"])

    async def add(
        self,
        transaction: HubTransaction,
        name: str,
        scope: str,
        version: int,
        not_before_at: int,
        sha256: str,
        note: str,
        made_at: int,
        made_by: str,
    ) -> None:
        """Keep a signed version."""
        await transaction.run(
            "INSERT INTO document (name, scope, version, not_before_at, sha256, note, made_at,"
            " made_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (name, scope, version, not_before_at, sha256, note, made_at, made_by),
        )

    async def wanted(self, reading: Reading, scopes: Sequence[str]) -> list[Row]:
        """The newest version of every document of these scopes, by name and scope."""
        marks = ", ".join("?" * len(scopes))
        return await reading.all(
            "SELECT d.name, d.scope, d.version, d.note FROM document AS d JOIN"
            " (SELECT name, scope, MAX(version) AS version FROM document"
            f" WHERE scope IN ({marks}) GROUP BY name, scope) AS n"
            " ON n.name = d.name AND n.scope = d.scope AND n.version = d.version"
            " ORDER BY d.name, d.scope",
            tuple(scopes),
        )

    async def newest_of_all(self) -> list[Row]:
        """The newest version of every document: `name, scope, version, made_at, made_by`."""
        return await self.database.all(
            "SELECT d.name, d.scope, d.version, d.not_before_at, d.made_at, d.made_by"
            " FROM document AS d JOIN (SELECT name, scope, MAX(version) AS version FROM document"
            " GROUP BY name, scope) AS n ON n.name = d.name AND n.scope = d.scope"
            " AND n.version = d.version ORDER BY d.name, d.scope"
        )

    async def states(self, reading: Reading, node_id: str) -> list[Row]:
        """What a node says of each document."""
        return await reading.all(
            "SELECT * FROM document_state WHERE node_id = ? ORDER BY name, scope", (node_id,)
        )

    async def set_held(
        self,
        transaction: HubTransaction,
        node_id: str,
        rows: Sequence[tuple[str, str, int]],
        at: int,
    ) -> None:
        """A node holds these versions now."""
        await transaction.run_many(
            "INSERT INTO document_state (node_id, name, scope, held_version, held_at)"
            " VALUES (?, ?, ?, ?, ?) ON CONFLICT (node_id, name, scope) DO UPDATE SET"
            " held_version = excluded.held_version, held_at = excluded.held_at",
            [(node_id, *row, at) for row in rows],
        )

    async def set_refused(
        self,
        transaction: HubTransaction,
        node_id: str,
        rows: Sequence[tuple[str, str, int, str]],
        at: int,
    ) -> None:
        """A node would not apply these versions."""
        await transaction.run_many(
            "INSERT INTO document_state"
            " (node_id, name, scope, refused_version, refused_why, refused_at)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (node_id, name, scope) DO UPDATE SET"
            " refused_version = excluded.refused_version, refused_why = excluded.refused_why,"
            " refused_at = excluded.refused_at",
            [(node_id, *row, at) for row in rows],
        )

"""The SQL about operators, their wrong passwords and the browsers in which a PIN is enough."""

from collections.abc import Collection

from portal.store.audit import Deed, write
from portal.store.db import Database, Row, Transaction


class OperatorStore:
    """Reads and writes operators; every change is recorded in its own transaction."""

    def __init__(self, database: Database):
        self._database = database

    def operators(self) -> list[Row]:
        """All operators by name; `site_ids` is a JSON array, null: every site."""
        return self._database.all(
            "SELECT name, role, CASE WHEN site_id IS NOT NULL THEN"
            " (SELECT json_group_array(s.site_id) FROM operator_site s WHERE s.operator = name)"
            " END AS site_ids,"
            " password_hash, must_change, created_at FROM operator ORDER BY name"
        )

    async def add(
        self,
        name: str,
        role: str,
        site_ids: Collection[int] | None,
        password_hash: str,
        must_change: bool,
        at: int,
        deed: Deed,
    ) -> None:
        """Add an operator whose name is free; `site_ids` None: every site."""
        async with self._database.transaction() as transaction:
            await transaction.insert(
                "INSERT INTO operator (name, role, site_id, password_hash, must_change, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (name, role, _home(site_ids), password_hash, int(must_change), at),
            )
            await _write_sites(transaction, name, site_ids)
            await write(transaction, at, deed)

    async def change(
        self, name: str, role: str, site_ids: Collection[int] | None, at: int, deed: Deed
    ) -> None:
        """Set what an operator may do and where; `site_ids` None: every site."""
        async with self._database.transaction() as transaction:
            await transaction.run(
                "UPDATE operator SET role = ?, site_id = ? WHERE name = ?",
                (role, _home(site_ids), name),
            )
            await transaction.run("DELETE FROM operator_site WHERE operator = ?", (name,))
            await _write_sites(transaction, name, site_ids)
            await write(transaction, at, deed)

    async def set_password(
        self,
        name: str,
        password_hash: str,
        must_change: bool,
        kept_browser: bytes | None,
        at: int,
        deed: Deed,
    ) -> None:
        """Set a password; every browser with a PIN but `kept_browser` must ask for it again."""
        async with self._database.transaction() as transaction:
            await transaction.run(
                "UPDATE operator SET password_hash = ?, must_change = ? WHERE name = ?",
                (password_hash, int(must_change), name),
            )
            await transaction.run(
                "DELETE FROM operator_browser WHERE operator = ? AND token_hash IS NOT ?",
                (name, kept_browser),
            )
            await write(transaction, at, deed)

    async def remove(self, name: str, at: int, deed: Deed) -> None:
        """Remove an operator and their browsers; what they did stays in the audit."""
        async with self._database.transaction() as transaction:
            await transaction.run("DELETE FROM operator WHERE name = ?", (name,))
            await write(transaction, at, deed)

    async def record(self, at: int, deed: Deed) -> None:
        """Write a deed that changes nothing else, such as a sign-in."""
        async with self._database.transaction() as transaction:
            await write(transaction, at, deed)

    # -- wrong passwords -------------------------------------------------------------------

    def misses(self) -> list[Row]:
        """Misses that are not forgiven: `who, misses, last_at`."""
        return self._database.all("SELECT who, misses, last_at FROM sign_in_miss ORDER BY last_at")

    async def keep_miss(self, who: str, misses: int, at: int, forget_before_at: int) -> None:
        """Set the misses of `who`, the last at `at`; forget those whose last is older than
        `forget_before_at`."""
        async with self._database.transaction() as transaction:
            await transaction.run("DELETE FROM sign_in_miss WHERE last_at < ?", (forget_before_at,))
            await transaction.run(
                "INSERT INTO sign_in_miss (who, misses, last_at) VALUES (?, ?, ?)"
                " ON CONFLICT (who) DO UPDATE"
                " SET misses = MAX (misses, excluded.misses), last_at = excluded.last_at",
                (who, misses, at),
            )

    async def forgive_misses(self, who: str) -> None:
        """Forget the misses of `who`."""
        async with self._database.transaction() as transaction:
            await transaction.run("DELETE FROM sign_in_miss WHERE who = ?", (who,))

    # -- browsers --------------------------------------------------------------------------

    def browser(self, token_hash: bytes) -> Row | None:
        """The browser with this token: operator, pin_hash, misses, last_used_at."""
        return self._database.one(
            "SELECT operator, pin_hash, misses, last_used_at FROM operator_browser"
            " WHERE token_hash = ?",
            (token_hash,),
        )

    async def add_browser(
        self,
        token_hash: bytes,
        operator: str,
        pin_hash: str,
        replaced: bytes | None,
        at: int,
        deed: Deed,
    ) -> None:
        """Remember a browser, in the place of the one with the token `replaced`."""
        async with self._database.transaction() as transaction:
            await transaction.run("DELETE FROM operator_browser WHERE token_hash IS ?", (replaced,))
            await transaction.insert(
                "INSERT INTO operator_browser"
                " (token_hash, operator, pin_hash, misses, created_at, last_used_at)"
                " VALUES (?, ?, ?, 0, ?, ?)",
                (token_hash, operator, pin_hash, at, at),
            )
            await write(transaction, at, deed)

    async def browser_missed(self, token_hash: bytes, most: int) -> bool:
        """Count a wrong PIN, while there are fewer than `most`; False when there are not.

        Counted before the PIN is looked at: neither a power cut nor many at once get more tries.
        """
        async with self._database.transaction() as transaction:
            changed = await transaction.run(
                "UPDATE operator_browser SET misses = misses + 1"
                " WHERE token_hash = ? AND misses < ?",
                (token_hash, most),
            )
        return changed == 1

    async def browser_used(self, token_hash: bytes, at: int, deed: Deed) -> None:
        """A right PIN: earlier misses are forgiven."""
        async with self._database.transaction() as transaction:
            await transaction.run(
                "UPDATE operator_browser SET misses = 0, last_used_at = ? WHERE token_hash = ?",
                (at, token_hash),
            )
            await write(transaction, at, deed)

    async def forget_browser(self, token_hash: bytes, at: int, deed: Deed | None = None) -> None:
        """The browser asks for the password again."""
        async with self._database.transaction() as transaction:
            await transaction.run(
                "DELETE FROM operator_browser WHERE token_hash = ?", (token_hash,)
            )
            if deed is not None:
                await write(transaction, at, deed)

    async def forget_old_browsers(self, before_at: int) -> None:
        """Forget browsers that nobody signed in with since `before_at`."""
        async with self._database.transaction() as transaction:
            await transaction.run(
                "DELETE FROM operator_browser WHERE last_used_at < ?", (before_at,)
            )


def _home(site_ids: Collection[int] | None) -> int | None:
    return None if site_ids is None else min(site_ids)


async def _write_sites(
    transaction: Transaction, name: str, site_ids: Collection[int] | None
) -> None:
    await transaction.run_many(
        "INSERT INTO operator_site (operator, site_id) VALUES (?, ?)",
        [(name, site_id) for site_id in site_ids or ()],
    )

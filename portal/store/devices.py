"""The SQL of devices people know by name: phones that are blocked, and devices without a card.

Every change writes its audit row in the same transaction. Nothing is decided here.
"""

from portal.store.audit import Deed, write
from portal.store.cards import NewBatch, NewCard, insert_batch
from portal.store.db import Database, Row


class DeviceStore:
    """Writes and reads blocked and known devices."""

    def __init__(self, database: Database):
        self._database = database

    def blocked(self) -> list[Row]:
        """All blocked phones, oldest first."""
        return self._database.all(
            "SELECT site_id, mac, reason, blocked_by, blocked_at FROM blocked_device"
            " ORDER BY blocked_at, mac"
        )

    async def block(self, site_id: int, mac: str, at: int, deed: Deed) -> None:
        """Block a phone at a site for the deed's reason."""
        async with self._database.transaction() as transaction:
            await transaction.run(
                "INSERT INTO blocked_device (site_id, mac, reason, blocked_by, blocked_at)"
                " VALUES (?, ?, ?, ?, ?)",
                (site_id, mac, deed.reason, deed.by, at),
            )
            await write(transaction, at, deed)

    async def unblock(self, site_id: int, mac: str, at: int, deed: Deed) -> None:
        """Let a phone in again."""
        async with self._database.transaction() as transaction:
            await transaction.run(
                "DELETE FROM blocked_device WHERE site_id = ? AND mac = ?", (site_id, mac)
            )
            await write(transaction, at, deed)

    def known(self) -> list[Row]:
        """All known devices, those removed too, oldest first."""
        return self._database.all(
            "SELECT k.id, k.site_id, k.voucher_id, k.name, k.mac, k.kind, k.alarm_after_s,"
            " k.added_at, k.removed_at, a.profile FROM known_device k"
            " JOIN voucher v ON v.id = k.voucher_id JOIN account a ON a.id = v.account_id"
            " ORDER BY k.id"
        )

    async def add_known(
        self,
        batch: NewBatch,
        card: NewCard,
        *,
        name: str,
        mac: str,
        kind: str,
        alarm_after_s: int | None,
        deed: Deed,
    ) -> tuple[int, int]:
        """Insert a known device with a card nobody holds; return (device, card) ids."""
        async with self._database.transaction() as transaction:
            card_id = await insert_batch(transaction, batch, [card])
            device_id = await transaction.insert(
                "INSERT INTO known_device (site_id, voucher_id, name, mac, kind, alarm_after_s,"
                " added_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (batch.site_id, card_id, name, mac, kind, alarm_after_s, batch.issued_at),
            )
            await write(transaction, batch.issued_at, deed)
            return device_id, card_id

    async def remove_known(self, device_id: int, card_id: int, at: int, deed: Deed) -> None:
        """End a known device and its card."""
        async with self._database.transaction() as transaction:
            await transaction.run(
                "UPDATE known_device SET removed_at = ? WHERE id = ?", (at, device_id)
            )
            await transaction.run(
                "UPDATE voucher SET revoked_at = ?, end_reason = ? WHERE id = ?",
                (at, deed.reason, card_id),
            )
            await write(transaction, at, deed)

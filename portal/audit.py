"""Audit: what people did, for those who may read it.

Deeds are written by the store methods that do them (portal/store/audit.py); here is what they may
be called, reading, and the deeds that change nothing. Nobody can change or delete a line, admins
neither.
"""

from dataclasses import dataclass

from portal.store.audit import AuditStore, Deed
from portal.store.db import Row

COMMAND_LINE = "command line"
"""Who did what was done with the command `pesisir`: an operator's name has no space."""

BY_ITSELF = "the node"
"""Who did what the node did by itself."""

ACTIONS = frozenset(
    (
        "announcement.add",
        "announcement.remove",
        "complaint.answer",
        "complaint.forget",
        "device.add",
        "device.block",
        "device.remove",
        "device.unblock",
        "gateway.add",
        "gateway.config",
        "gateway.remove",
        "gateway.set",
        "ledger.export",
        "operator.add",
        "operator.change",
        "operator.password",
        "operator.own_password",
        "operator.pin",
        "operator.remove",
        "profile.remove",
        "profile.set",
        "session.disconnect",
        "sign_in",
        "sign_in.refused",
        "sign_out",
        "site.add",
        "site.set",
        "voucher.erase",
        "voucher.extend",
        "voucher.give",
        "voucher.issue",
        "voucher.print",
        "voucher.replace",
        "voucher.revoke",
        "voucher.show_code",
        "voucher.top_up",
        "voucher.undo",
    )
)
"""Every action there is; the page says it with the text `audit.<action>`."""

PAGE = 50
"""Lines on a page."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the audit."""

    id: int
    at: int
    operator: str
    action: str
    site_id: int | None
    object: str
    reason: str
    details: str


def _line(row: Row) -> Line:
    return Line(**dict(row))


class Audit:
    """Reads the audit."""

    def __init__(self, store: AuditStore):
        self._store = store

    async def record(self, at: int, deed: Deed) -> None:
        """Write down a deed that changes nothing, such as a look at what is personal."""
        await self._store.record(at, deed)

    async def lines(
        self,
        site_id: int | None,
        *,
        before_id: int | None = None,
        object: str | None = None,
        operator: str | None = None,
        limit: int = PAGE,
    ) -> list[Line]:
        """The newest lines below `before_id`, of one site, or of the whole node for None."""
        rows = await self._store.recorded(
            None if site_id is None else (site_id,),
            before_id=before_id,
            object=object or None,
            operator=operator or None,
            limit=limit,
        )
        return [_line(row) for row in rows]

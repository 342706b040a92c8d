"""Tickets: the one-time passwords with which the portal hands a phone over to its gateway.

The code on the card must not travel in a URL, so a right code buys a password good for 60 seconds,
one use, one gateway, and one phone where the gateway's signature says which phone it is.
"""

from dataclasses import dataclass

LIFE_S = 60.0
PER_SERIAL = 4
"""Open at once for one card: somebody who presses the button again and again."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A right code: hand the phone over with this name and one-time password."""

    serial: str
    voucher_id: int
    password: str


@dataclass(slots=True)
class _Open:
    ticket: Ticket
    good_until_s: float
    gateway_id: int | None
    mac: str | None


class Tickets:
    """Open one-time passwords. Times are readings of the elapsed-time clock, in seconds."""

    def __init__(self) -> None:
        self._by_serial: dict[str, list[_Open]] = {}

    def add(
        self, ticket: Ticket, *, gateway_id: int | None, mac: str | None, elapsed_s: float
    ) -> None:
        """Open a ticket for this gateway and phone; None leaves that open."""
        tickets = self._by_serial.setdefault(ticket.serial, [])
        tickets.append(_Open(ticket, elapsed_s + LIFE_S, gateway_id, mac))
        del tickets[:-PER_SERIAL]

    def open_for(
        self, serial: str, *, gateway_id: int, mac: str | None, elapsed_s: float
    ) -> list[Ticket]:
        """The tickets this phone may use at this gateway now."""
        tickets = self._by_serial.get(serial)
        if tickets is None:
            return []
        return [
            known.ticket
            for known in tickets
            if known.good_until_s >= elapsed_s
            and known.gateway_id in (None, gateway_id)
            and known.mac in (None, mac)
        ]

    def waits_s(self, gateway_id: int, elapsed_s: float) -> float | None:
        """How long the oldest open ticket for this gateway has waited, in seconds; None when none
        does. A phone that was sent on comes back within a second or two."""
        ages = [
            LIFE_S - (known.good_until_s - elapsed_s)
            for tickets in self._by_serial.values()
            for known in tickets
            if known.good_until_s >= elapsed_s and known.gateway_id == gateway_id
        ]
        return max(ages, default=None)

    def use(self, ticket: Ticket) -> None:
        """Take a ticket out: it was its one use."""
        tickets = self._by_serial.get(ticket.serial, [])
        tickets[:] = [known for known in tickets if known.ticket is not ticket]
        if not tickets:
            self._by_serial.pop(ticket.serial, None)

    def forget_old(self, elapsed_s: float) -> None:
        """Drop tickets nobody can use any more."""
        for serial in list(self._by_serial):
            tickets = self._by_serial[serial]
            tickets[:] = [known for known in tickets if known.good_until_s >= elapsed_s]
            if not tickets:
                del self._by_serial[serial]

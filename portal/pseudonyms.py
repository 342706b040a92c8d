"""Pseudonyms: the random name under which a card stands in the ledger for one month.

Which card it was is known in the village only, and only as long as the mapping is kept: the same
card has another name next month, and a name whose mapping was erased belongs to nobody.
"""

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Final

from portal.domain.ledger import PSEUDONYM_OCTETS
from portal.store.batch import Batch
from portal.store.ledger import Rule
from portal.store.pseudonyms import PseudonymStore

NOBODY = bytes(PSEUDONYM_OCTETS)
"""For a session of no card: it counts for nobody."""
KEPT: Final = 20_000
DAY_S = 86_400


def month_of(at: int, zone: tzinfo) -> int:
    """The month of an instant in a zone, counted from year 0."""
    return month_of_local(datetime.fromtimestamp(at, zone))


def month_of_local(local: datetime) -> int:
    """The month of a time on the wall, counted from year 0."""
    return local.year * 12 + local.month - 1


class Pseudonyms:
    """Gives each account its name for a month."""

    def __init__(self, store: PseudonymStore, *, random_octets: Callable[[int], bytes]):
        self._store = store
        self._random_octets = random_octets
        self._known: dict[tuple[int, int], bytes] = {}
        self._new: dict[tuple[int, int], bytes] = {}
        self._in_flight: dict[tuple[int, int], bytes] = {}

    def of(self, account_id: int, month: int) -> bytes:
        """The name of an account in a month; a new one is written with the next commit."""
        key = (account_id, month)
        name = self._known.get(key) or self._new.get(key) or self._in_flight.get(key)
        if name is not None:
            return name
        name = self._store.stored(account_id, month)
        if name is None:
            name = self._new[key] = self._random_octets(PSEUDONYM_OCTETS)
        if len(self._known) >= KEPT:
            self._known.clear()
        self._known[key] = name
        return name

    def forget_account(self, account_id: int) -> None:
        """Give an account that was erased no name that it had."""
        self._known = {key: name for key, name in self._known.items() if key[0] != account_id}

    async def forget(self, rule: Rule) -> int:
        """Erase whose the names of months were that ended before a moment; return how many."""
        # A day earlier the month has ended in every zone.
        month = month_of(rule.before_at - DAY_S, UTC)
        gone = await self._store.forget(month, rule)
        self._known = {key: name for key, name in self._known.items() if key[1] >= month}
        return gone

    def collect(self, batch: Batch) -> Callable[[bool], None]:
        """Put new names into a batch; call the result with whether it was committed."""
        taken, self._new = self._new, {}
        self._in_flight = taken
        batch.pseudonyms = [(*key, name) for key, name in taken.items()]

        def settle(is_committed: bool) -> None:
            self._in_flight = {}
            if not is_committed:
                self._new = {**taken, **self._new}

        return settle

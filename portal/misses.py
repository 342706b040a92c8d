"""Misses: how many wrong codes a phone and a site may try, and how long they then wait.

A client without a miss is never delayed or refused, so that one child guessing codes cannot lock
out a village. The numbers are portal-ux V5: at most 129,600 guesses a month against 2,000 live
12-digit codes hit one with 0.26 %.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass

CLIENT_MISSES = 5
"""Misses in a row before a client waits."""
FIRST_WAIT_S = 60.0
LONGEST_WAIT_S = 900.0
FORGIVEN_AFTER_S = 1800.0
"""Without a further miss a client is as new."""
SITE_MISSES = 30
SITE_SPAN_S = 600.0
SITE_SLOT_S = 5.0
"""Over the site's limit, clients with a miss, and those that cannot be told apart, take turns."""
CLIENTS_KEPT = 10_000
COUNTED_S = 86_400
"""How far back misses are counted for the operator's page."""
_STEP_S = 3600


@dataclass(slots=True)
class _Client:
    misses: int = 0
    waits_until_s: float = 0.0
    last_miss_s: float = 0.0


class Misses:
    """Misses by client and by site. Times are readings of the elapsed-time clock, in seconds."""

    def __init__(self) -> None:
        self._clients: OrderedDict[str, _Client] = OrderedDict()
        self._of_site: dict[int, deque[float]] = {}
        self._next_slot_s: dict[int, float] = {}
        self._counted: dict[int, dict[int, int]] = {}
        """Misses of each site by hour, for `count`."""

    def wait_s(self, client: str | None, site_id: int | None, elapsed_s: float) -> float:
        """Seconds this client must wait before its next try; 0 lets it try now.

        `client` None is one that cannot be told from others: only the site's limit holds for it.
        """
        known = None if client is None else self._clients.get(client)
        if known is not None:
            if elapsed_s - known.last_miss_s > FORGIVEN_AFTER_S:
                del self._clients[client or ""]
                known = None
            elif known.waits_until_s > elapsed_s:
                return known.waits_until_s - elapsed_s
        if site_id is None or (client is not None and known is None):
            return 0.0
        misses = self._of_site.get(site_id)
        if misses is None:
            return 0.0
        while misses and elapsed_s - misses[0] > SITE_SPAN_S:
            misses.popleft()
        if len(misses) < SITE_MISSES:
            return 0.0
        slot_s = self._next_slot_s.get(site_id, 0.0)
        if slot_s > elapsed_s:
            return slot_s - elapsed_s
        self._next_slot_s[site_id] = elapsed_s + SITE_SLOT_S
        return 0.0

    def miss(
        self,
        client: str | None,
        site_id: int | None,
        elapsed_s: float,
        *,
        at_site: int | None = None,
    ) -> None:
        """Count a wrong code. From the fifth on the client waits a minute, then twice as long each
        time, up to a quarter of an hour. `at_site`: where it was, if no site's limit holds."""
        place = at_site if site_id is None else site_id
        if place is not None:
            self._count(place, elapsed_s)
        if site_id is not None:
            self._of_site.setdefault(site_id, deque(maxlen=1000)).append(elapsed_s)
        if client is None:
            return
        known = self._clients.setdefault(client, _Client())
        self._clients.move_to_end(client)
        if elapsed_s - known.last_miss_s > FORGIVEN_AFTER_S:
            known.misses = 0
        self._missed(known, known.misses + 1, elapsed_s)

    def _missed(self, known: _Client, misses: int, elapsed_s: float) -> None:
        known.misses = misses
        known.last_miss_s = elapsed_s
        if known.misses >= CLIENT_MISSES:
            wait_s = FIRST_WAIT_S * 2 ** min(known.misses - CLIENT_MISSES, 10)
            known.waits_until_s = elapsed_s + min(wait_s, LONGEST_WAIT_S)
        if len(self._clients) > CLIENTS_KEPT:
            self._clients.popitem(last=False)

    def recall(self, client: str, misses: int, last_miss_s: float) -> None:
        """Take up what a client missed before a restart, in a row and the last then."""
        self._missed(self._clients.setdefault(client, _Client()), misses, last_miss_s)

    def recall_site(self, site_id: int, misses: int, last_miss_s: float) -> None:
        """Take up what was missed at a site before a restart, as if all of it was missed then."""
        self._of_site[site_id] = deque([last_miss_s] * misses, maxlen=1000)

    def in_a_row(self, client: str) -> int:
        """How many misses of a client are not forgiven."""
        known = self._clients.get(client)
        return 0 if known is None else known.misses

    def lately(self, site_id: int, elapsed_s: float) -> int:
        """How many misses count against a site."""
        found = self._of_site.get(site_id, ())
        return sum(elapsed_s - missed_s <= SITE_SPAN_S for missed_s in found)

    def _count(self, site_id: int, elapsed_s: float) -> None:
        hours = self._counted.setdefault(site_id, {})
        hour = int(elapsed_s // _STEP_S)
        if hour not in hours:
            oldest = hour - COUNTED_S // _STEP_S
            for old in [one for one in hours if one <= oldest]:
                del hours[old]
        hours[hour] = hours.get(hour, 0) + 1

    def count(self, site_id: int, elapsed_s: float) -> int:
        """Wrong codes at a site in the last 24 hours, to the hour; from the start of the node."""
        oldest = int(elapsed_s // _STEP_S) - COUNTED_S // _STEP_S
        return sum(n for hour, n in self._counted.get(site_id, {}).items() if hour > oldest)

    def forgive(self, client: str) -> None:
        """Forget what a client missed: it has shown that it is who it says."""
        self._clients.pop(client, None)

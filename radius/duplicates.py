"""Retransmissions: the same request gets the same octets and is never worked on twice.

RFC 5080 2.2.2. One `Duplicates` belongs to one source address, so that a flood from one gateway
cannot push out what another may still ask for.
"""

from itertools import islice
from typing import Final

KEEP_S: Final = 30.0
MAX_ENTRIES: Final = 4096


class Entry:
    """One request: `reply` is None while it is being worked on."""

    __slots__ = ("at_s", "authenticator", "reply")

    def __init__(self, authenticator: bytes, at_s: float) -> None:
        self.authenticator = authenticator
        self.at_s = at_s
        self.reply: bytes | None = None


class Duplicates:
    """The last requests of one source address, oldest first.

    A key names receiving socket, source port, code and Identifier. Times are monotonic seconds.
    """

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: int) -> Entry | None:
        """The entry of a request that was begun."""
        return self._entries.get(key)

    def begin(self, key: int, authenticator: bytes, now_s: float) -> Entry | None:
        """Remember a new request, forgetting an older one with the same key; None if it is the same
        request again, which `find` has."""
        entries = self._entries
        known = entries.get(key)
        if known is not None:
            if known.authenticator == authenticator and now_s - known.at_s <= KEEP_S:
                return None
            # A dict keeps the place of a key that is set again; age order needs it at the end.
            del entries[key]
        if len(entries) >= MAX_ENTRIES:
            self._make_room(now_s)
        entry = entries[key] = Entry(authenticator, now_s)
        return entry

    def forget(self, key: int, entry: Entry) -> None:
        """Forget a request, unless a newer one took its key."""
        if self._entries.get(key) is entry:
            del self._entries[key]

    def expire(self, now_s: float) -> None:
        """Forget what is older than 30 s."""
        old = []
        for key, entry in self._entries.items():
            if now_s - entry.at_s <= KEEP_S:
                break
            old.append(key)
        for key in old:
            del self._entries[key]

    def _make_room(self, now_s: float) -> None:
        self.expire(now_s)
        if len(self._entries) >= MAX_ENTRIES:
            # A quarter at once: taking the first key of a dict again and again is quadratic.
            for key in list(islice(self._entries, MAX_ENTRIES // 4)):
                del self._entries[key]

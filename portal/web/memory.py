"""Memory: codes typed a moment ago, for phones on their way through their gateway.

A phone that types its code before it has a usable arrival is sent to its gateway and comes back
with one. Meanwhile the code waits here, under a key that only this phone can bring back: its MAC as
the gateway signs it, or an unguessable number in the address it was sent to. Codes never travel in
addresses that gateways keep, and nothing here is written down.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

KEPT_S = 300
"""Seconds a code waits: a slow link and a slow thumb; after that the form is shown again."""
KEPT_ENTRIES = 2_000
"""About 200 bytes each. The oldest goes first; who loses a code types it again."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A code on its way, and what the resident asked for."""

    code: str
    at: int
    """When it was typed, epoch seconds UTC."""
    move: bool = False
    """The resident confirmed that the card moves to this phone."""
    rounds: int = 1
    """How often the phone has been sent to its gateway for this code."""


class Memory:
    """Waiting codes by key; each can be taken once."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, Waiting] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, keys: Iterable[str], waiting: Waiting) -> None:
        """Keep a code under every one of `keys`, replacing what was there."""
        for key in keys:
            self._entries.pop(key, None)
            self._entries[key] = waiting
        while len(self._entries) > KEPT_ENTRIES:
            self._entries.popitem(last=False)

    def take(self, keys: Iterable[str], now: int) -> Waiting | None:
        """Return the code under one of `keys` and forget it under all; None when too old."""
        found = None
        for key in keys:
            waiting = self._entries.pop(key, None)
            if waiting is not None and 0 <= now - waiting.at <= KEPT_S:
                found = found or waiting
        return found

"""Watched: what the server does with each packet, told to somebody who looks.

While nobody looks, the server makes plain exchanges and nothing here runs. `watch` lets it make
`WatchedExchange`s instead, which tell what became of them.
"""

import functools
from typing import Protocol

from radius.dropped import Drop
from radius.duplicates import Duplicates, Entry
from radius.listener import Control, Peer
from radius.packet import Packet
from radius.server import Client, Exchange, Outlet, Server


class Watcher(Protocol):
    """Who looks. The calls come from the event loop, must not block and must not raise."""

    def answered(self, exchange: "WatchedExchange", code: int | None, attributes: bytes) -> None:
        """A request was answered with this code and these attributes; None: it stays unanswered."""

    def repeated(self, packet: Packet, client: Client, source: tuple[str, int], sent: bool) -> None:
        """A retransmission came; `sent`: it got the answer again, else the first is at work."""

    def status(self, source: str, is_answered: bool) -> None:
        """A Status-Server came (RFC 5997) from this address."""

    def dropped(self, drop: Drop) -> None:
        """A packet was dropped."""


class WatchedExchange(Exchange):
    """An exchange that tells what became of it."""

    __slots__ = ("_watcher", "began_s")

    def __init__(
        self,
        watcher: Watcher,
        server: Server,
        packet: Packet,
        client: Client,
        source: tuple[str, int],
        outlet: Outlet,
        peer: Peer,
        control: Control | None,
        duplicates: Duplicates,
        key: int,
        entry: Entry,
    ) -> None:
        super().__init__(
            server, packet, client, source, outlet, peer, control, duplicates, key, entry
        )
        self._watcher = watcher
        self.note = ""
        self.began_s = self._server.clock()

    @property
    def passed_s(self) -> float:
        """Seconds since the request came in."""
        return self._server.clock() - self.began_s

    def answer(self, code: int, attributes: bytes = b"") -> None:
        """As `Exchange.answer`."""
        is_first = not self._is_over
        super().answer(code, attributes)
        if is_first:
            is_sent = self._entry.reply is not None
            self._watcher.answered(self, code if is_sent else None, attributes)

    def drop(self) -> None:
        """As `Exchange.drop`."""
        is_first = not self._is_over
        super().drop()
        if is_first:
            self._watcher.answered(self, None, b"")


def watch(server: Server, watcher: Watcher) -> None:
    """Tell `watcher` of each packet from the next on, and nobody else any more."""
    server.make_exchange = functools.partial(WatchedExchange, watcher)
    server.on_repeated = watcher.repeated
    server.on_status = watcher.status
    server.dropped.on_drop = watcher.dropped


def unwatch(server: Server) -> None:
    """Tell nobody any more."""
    server.make_exchange = None
    server.on_repeated = None
    server.on_status = None
    server.dropped.on_drop = None

"""Connections of browsers: whoever keeps one without asking for anything is let go.

A guest's phone is enough to open hundreds, to begin a request and never end it, or to send a header
without an end. None of that may keep the next phone from the page, or fill the memory.
"""

import asyncio
from collections import Counter
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_WITHIN_S = 20.0
"""So long the head of a request may take, from the connection or its first octet on."""
BODY_SILENT_S = 30.0
"""So long a body may pause: a hub's nodes send theirs over satellites."""
MOST_HEAD_OCTETS = 65_536
MOST_CONNECTIONS = 400
"""Beyond these, one that waits for nothing but its own request goes for each that comes."""
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


class GuardedConnection(HttpToolsProtocol):
    """uvicorn's connection with limits of time, size and number."""

    waits_since_s: float | None = None
    """By the loop's clock, since when it owes us a request; None while it is owed an answer."""
    _deadline_s: float | None = None
    _timer: asyncio.TimerHandle | None = None
    _head_octets = 0
    _is_in_head = True

    def connection_made(self, transport: Any) -> None:
        """Take a new connection, in the place of another where there are too many."""
        super().connection_made(transport)
        self.waits_since_s = self.loop.time()
        self._within(HEAD_WITHIN_S)
        if len(self.connections) > MOST_CONNECTIONS:
            self._make_room()

    def _make_room(self) -> None:
        """Let the oldest go of whoever has most, so that a crowd harms itself first."""
        waiting = [
            one
            for one in self.connections
            if isinstance(one, GuardedConnection)
            and one.waits_since_s is not None
            and one is not self
            and not one.transport.is_closing()
        ]
        if not waiting:
            return
        many = Counter(one.client and one.client[0] for one in waiting)
        worst = max(
            waiting,
            key=lambda one: (many[one.client and one.client[0]], -(one.waits_since_s or 0.0)),
        )
        worst.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._deadline_s = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, as long as it may become a request."""
        if self.waits_since_s is not None and self._deadline_s is None:
            self._within(HEAD_WITHIN_S)
        super().data_received(data)
        if not self._is_in_head or self.transport.is_closing():
            return
        self._head_octets += len(data)
        if self._head_octets > MOST_HEAD_OCTETS:
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        """The first octet of a request."""
        self._is_in_head = True
        self._head_octets = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is there; a body may follow."""
        self._is_in_head = False
        self._within(BODY_SILENT_S)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._within(BODY_SILENT_S)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole: the next turn is ours."""
        self._deadline_s = None
        self._head_octets = 0
        is_answered = self.cycle is not None and self.cycle.response_complete
        self.waits_since_s = self.loop.time() if is_answered else None
        if is_answered:
            # uvicorn's own limit began with the answer, and what came of the body ended it.
            self._within(HEAD_WITHIN_S)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is out: the next turn is theirs."""
        super().on_response_complete()
        if self.cycle is not None and self.cycle.response_complete:
            self.waits_since_s = self.loop.time()

    def _within(self, seconds: float) -> None:
        """Be let go unless something is heard by then."""
        self._deadline_s = self.loop.time() + seconds
        if self._timer is None:
            self._timer = self.loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._deadline_s is None or self.transport.is_closing():
            return
        left_s = self._deadline_s - self.loop.time()
        if left_s > 0:
            self._timer = self.loop.call_later(left_s, self._look)
        else:
            self.transport.abort()

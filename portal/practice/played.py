"""Played gateways: one make of gateway on real UDP sockets, with phones that log in and use data.

A played gateway keeps to its `Dialect` and does what a case of the dialect suite tells it: lose an
answer and ask again with a new Identifier, forget a Stop, begin its counters anew. It takes
Disconnect-Requests as strictly as its make does.
"""

import asyncio
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from portal.practice.dialects import (
    START,
    STOP,
    Attributes,
    Counters,
    Dialect,
    Place,
    Station,
    takes_request,
)
from radius.packet import (
    ACCESS_ACCEPT,
    ACCESS_REQUEST,
    ACCOUNTING_REQUEST,
    CLASS,
    COA_REQUEST,
    DISCONNECT_REQUEST,
    MAX_PACKET_OCTETS,
    USER_NAME,
    USER_PASSWORD,
    Packet,
    PacketError,
    attribute,
    build_reply,
    parse,
    sign_request,
    verify_accounting,
    verify_response,
)
from radius.password import hide

Address = tuple[str, int]

ANSWER_WITHIN_S = 5.0
DISCONNECT_PORT = 3799
ADMIN_RESET = 6


class _Socket(asyncio.DatagramProtocol):
    """One UDP socket: answers go to who waits for them, the rest to `on_request`."""

    def __init__(self, on_request: Callable[[bytes, Address], None] | None = None) -> None:
        self._on_request = on_request
        self._waiting: dict[int, tuple[bytes, asyncio.Future[bytes]]] = {}
        self._transport: asyncio.DatagramTransport | None = None

    @classmethod
    async def open(
        cls,
        address: str,
        port: int = 0,
        on_request: Callable[[bytes, Address], None] | None = None,
    ) -> "_Socket":
        """Bind to address:port. Raises OSError when it is taken."""
        _, opened = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: cls(on_request), local_addr=(address, port)
        )
        return opened

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        waiting = self._waiting.get(data[1]) if len(data) >= 20 else None
        if waiting is not None and data[0] not in (DISCONNECT_REQUEST, COA_REQUEST):
            if not waiting[1].done():
                waiting[1].set_result(data)
        elif self._on_request is not None:
            self._on_request(data, (str(addr[0]), addr[1]))

    def error_received(self, exc: Exception) -> None:
        """A closed port says so; the missing answer says it too."""

    def send(self, datagram: bytes, to: Address) -> None:
        """Send one datagram."""
        assert self._transport is not None
        self._transport.sendto(datagram, to)

    async def ask(self, datagram: bytes, to: Address, within_s: float) -> bytes | None:
        """Send and wait for the answer with this Identifier; None when none comes."""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[datagram[1]] = (datagram, answer)
        self.send(datagram, to)
        try:
            return await asyncio.wait_for(answer, within_s)
        except TimeoutError:
            return None
        finally:
            del self._waiting[datagram[1]]

    def close(self) -> None:
        """Close the socket."""
        if self._transport is not None:
            self._transport.close()


@dataclass(slots=True)
class Use:
    """A session as the gateway has it."""

    station: Station
    session_id: str
    user_name: str
    class_value: bytes | None
    login: Attributes
    started_at: int
    up_octets: int = 0
    down_octets: int = 0
    is_over: bool = False
    changed: Packet | None = None
    """The last CoA-Request it took."""


class PlayedGateway:
    """One gateway of one make. `now` gives epoch seconds UTC."""

    def __init__(
        self,
        dialect: Dialect,
        *,
        address: str,
        nas_id: str,
        secret: str,
        auth: Address,
        acct: Address,
        now: Callable[[], int],
    ) -> None:
        self.dialect = dialect
        self.place = Place(nas_id, address)
        self.now = now
        self.uses: list[Use] = []
        self._address = address
        self._secret = secret.encode()
        self._auth, self._acct = auth, acct
        self._identifiers = itertools.cycle(range(256))
        self._counts = itertools.count(1)
        self._socket: _Socket | None = None
        self._control: _Socket | None = None
        self._tasks: set[asyncio.Task[object]] = set()
        self.asked: list[tuple[int, str]] = []
        """Code of each dynamic request and what was done: `ack`, `nak` or `silence`."""

    async def start(self) -> None:
        """Open the sockets. Raises OSError when this machine cannot have the address."""
        self._socket = await _Socket.open(self._address)
        self._control = await _Socket.open(self._address, DISCONNECT_PORT, self._on_request)

    async def stop(self) -> None:
        """Close the sockets."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for one in (self._socket, self._control):
            if one is not None:
                one.close()
        await asyncio.sleep(0)

    def new_session_id(self) -> str:
        """The Acct-Session-Id of the next login."""
        return self.dialect.spell_session(self.now(), next(self._counts))

    # -- asking ----------------------------------------------------------------------------

    async def log_in(
        self,
        station: Station,
        user_name: bytes,
        password: bytes,
        *,
        session_id: str | None = None,
        is_return: bool = False,
        resend_after_s: float | None = None,
    ) -> tuple[Packet, Use | None]:
        """Ask for a phone; the answer, and its session where it was let in (no Start is sent).

        With `resend_after_s` the first answer is lost: the same login is asked again after that
        time with a new Identifier and a new Request Authenticator, and this answer counts.
        """
        session_id = session_id or self.new_session_id()
        login = self.dialect.access(
            station, session_id, user_name, place=self.place, is_return=is_return
        )
        cut = password[: self.dialect.password_octets]
        answer = await self._ask_access(login, cut)
        if resend_after_s is not None:
            await asyncio.sleep(resend_after_s)
            answer = await self._ask_access(login, cut)
        if answer.code != ACCESS_ACCEPT:
            return answer, None
        # uspot keeps the name it asked with; others take the Accept's.
        name = answer.first.get(USER_NAME, user_name)
        if self.dialect.family == "uspot":
            name = user_name
        use = Use(
            station=station,
            session_id=session_id,
            user_name=name.decode(),
            class_value=answer.first.get(CLASS),
            login=[(kind, name if kind == USER_NAME else value) for kind, value in login],
            started_at=self.now(),
        )
        self.uses.append(use)
        return answer, use

    async def _ask_access(self, login: Attributes, password: bytes) -> Packet:
        authenticator = os.urandom(16)
        hidden = hide(password, authenticator, self._secret)
        encoded = _encode([login[0], (USER_PASSWORD, hidden), *login[1:]])
        datagram = sign_request(
            ACCESS_REQUEST,
            next(self._identifiers),
            encoded,
            self._secret,
            authenticator=authenticator,
            message_authenticator=self.dialect.signs,
        )
        answer = await self._ask(datagram, self._auth)
        if answer is None:
            raise AssertionError("the Access-Request was not answered")
        return answer

    async def report(
        self,
        use: Use,
        status: int,
        *,
        seconds: int | None = None,
        cause: int | None = None,
        delay_s: int = 0,
        counters: Counters | None = None,
        resend_after_s: float | None = None,
    ) -> None:
        """Send one accounting packet of a session, with the counters it has by now."""
        if seconds is None:
            seconds = self.now() - use.started_at
        if counters is None:
            counters = Counters(use.up_octets, use.down_octets, seconds)
        attributes = self.dialect.accounting(
            status,
            use.station,
            use.session_id,
            use.user_name,
            place=self.place,
            at=self.now() - delay_s,
            class_value=use.class_value,
            counters=None if status == START else counters,
            cause=cause,
            delay_s=delay_s,
        )
        if status == STOP:
            use.is_over = True
        await self.account(attributes)
        if resend_after_s is not None:
            await asyncio.sleep(resend_after_s)
            await self.account(attributes)

    async def account(self, attributes: Attributes) -> None:
        """Send an Accounting-Request and see it answered."""
        datagram = sign_request(
            ACCOUNTING_REQUEST, next(self._identifiers), _encode(attributes), self._secret
        )
        if await self._ask(datagram, self._acct) is None:
            raise AssertionError("the Accounting-Request was not answered")

    async def announce(self, status: int) -> None:
        """Accounting-On or -Off, where this make says them."""
        if self.dialect.announces:
            session_id = self.new_session_id()
            await self.account(
                self.dialect.announcement(
                    status, place=self.place, at=self.now(), session_id=session_id
                )
            )

    async def _ask(self, datagram: bytes, to: Address) -> Packet | None:
        assert self._socket is not None
        answer = await self._socket.ask(datagram, to, ANSWER_WITHIN_S)
        if answer is None:
            return None
        return verify_response(
            datagram[4:20],
            answer,
            self._secret,
            require_message_authenticator=datagram[0] == ACCESS_REQUEST,
        )

    # -- being asked -----------------------------------------------------------------------

    def _on_request(self, data: bytes, source: Address) -> None:
        try:
            request = parse(data[:MAX_PACKET_OCTETS])
        except PacketError:
            return
        if request.code not in (DISCONNECT_REQUEST, COA_REQUEST):
            return
        if not verify_accounting(request, self._secret):
            return
        outcomes = [
            (use, takes_request(self.dialect, request, use.login))
            for use in self.uses
            if not use.is_over
        ]
        found = [use for use, outcome in outcomes if outcome]
        if not found and any(outcome is None for _, outcome in outcomes):
            self.asked.append((request.code, "silence"))
            return
        self.asked.append((request.code, "ack" if found else "nak"))
        # ACK and NAK follow their request's code (RFC 5176 2.3).
        code = request.code + (1 if found else 2)
        assert self._control is not None
        self._control.send(build_reply(request, code, b"", self._secret), source)
        for use in found:
            if request.code == COA_REQUEST:
                use.changed = request
            else:
                use.is_over = True
                self._keep(self.report(use, STOP, cause=ADMIN_RESET))

    def _keep(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settled(self) -> None:
        """Wait for what it sends by itself."""
        await asyncio.gather(*self._tasks)


def moved(use: Use, *, up: int, down: int) -> None:
    """The phone moves octets."""
    use.up_octets += up
    use.down_octets += down


def without_gigawords(dialect: Dialect) -> Dialect:
    """The same make in a version whose counters start again at 4 GiB."""
    return replace(dialect, sends_gigawords=False)


def _encode(attributes: Sequence[tuple[int, bytes]]) -> bytes:
    return b"".join(attribute(kind, value) for kind, value in attributes)

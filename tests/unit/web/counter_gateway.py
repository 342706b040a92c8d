"""A gateway for the desk's tests: a real UDP socket that reports sessions and answers a
Disconnect-Request the way it is told: yes, no, or not at all."""

import asyncio
import hashlib
import itertools
import struct
from typing import Any, cast

from radius.packet import (
    ACCOUNTING_REQUEST,
    ACCT_INPUT_OCTETS,
    ACCT_OUTPUT_OCTETS,
    ACCT_SESSION_ID,
    ACCT_SESSION_TIME,
    ACCT_STATUS_TYPE,
    ACCT_TERMINATE_CAUSE,
    CALLING_STATION_ID,
    DISCONNECT_ACK,
    DISCONNECT_NAK,
    DISCONNECT_REQUEST,
    ERROR_CAUSE,
    NAS_IDENTIFIER,
    USER_NAME,
    attribute,
    integer_attribute,
    sign_request,
)
from tests.unit.web.village import SECRET, Village

START, STOP, INTERIM = 1, 2, 3


class CounterGateway(asyncio.DatagramProtocol):
    """One socket at an address of its own; `answer` is "ack", "nak" or None."""

    def __init__(self, village: Village, name: str, address: str) -> None:
        self._village = village
        self.name = name
        self.address = address
        self.answer: str | None = "ack"
        self.error_cause: int | None = None
        self.stops_first = True
        """Whether it reports the end before it says yes."""
        self.asked: list[bytes] = []
        self._identifiers = itertools.count()
        self._sessions: dict[str, tuple[str, str, float]] = {}
        self._replies: dict[int, asyncio.Future[bytes]] = {}

    @classmethod
    def at(
        cls, village: Village, name: str, address: str, *, site: str = "TANJUNG"
    ) -> "CounterGateway":
        """Register it and open its socket."""
        gateway = cls(village, name, address)

        async def begin() -> None:
            await village.node.admin.add_gateway(
                name, family="coova", address=address, nas_id=name, secret=SECRET, site=site
            )
            await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: gateway, local_addr=(address, 0)
            )

        village.do(begin())
        village._gateways.append(gateway)  # type: ignore[arg-type]  # stopped with the others
        return gateway

    async def stop(self) -> None:
        """Close the socket."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        if data[0] != DISCONNECT_REQUEST:
            reply = self._replies.get(data[1])
            if reply is not None and not reply.done():
                reply.set_result(data)
            return
        self.asked.append(data)
        if self.answer is None:
            return
        if self.answer == "ack" and self.stops_first:
            for acct_id in list(self._sessions):
                if acct_id.encode() in data:
                    self._send(STOP, acct_id, cause=6)
        code = DISCONNECT_ACK if self.answer == "ack" else DISCONNECT_NAK
        body = b"" if self.error_cause is None else integer_attribute(ERROR_CAUSE, self.error_cause)
        self._transport.sendto(reply_to(data, code, body), addr)

    # -- what it reports -------------------------------------------------------------------

    def start(self, acct_id: str, serial: str, mac: str, *, octets: int = 0) -> None:
        """A phone begins a session; waits until the node has it."""
        self._sessions[acct_id] = (serial, mac, self._village.clock.at)
        self._wait(START, acct_id)
        if octets:
            self._wait(INTERIM, acct_id, octets=octets)

    def interim(self, acct_id: str, octets: int) -> None:
        """What it has used until now."""
        self._wait(INTERIM, acct_id, octets=octets)

    def end(self, acct_id: str, *, octets: int = 0, cause: int = 1) -> None:
        """The session's end."""
        self._wait(STOP, acct_id, octets=octets, cause=cause)

    def _wait(self, status: int, acct_id: str, **more: int) -> None:
        async def sent() -> None:
            identifier = self._send(status, acct_id, **more)
            reply = asyncio.get_running_loop().create_future()
            self._replies[identifier] = reply
            await asyncio.wait_for(reply, 60)

        self._village.do(sent())

    def _send(self, status: int, acct_id: str, *, octets: int = 0, cause: int | None = None) -> int:
        serial, mac, began_at = self._sessions[acct_id]
        body = integer_attribute(ACCT_STATUS_TYPE, status)
        body += attribute(USER_NAME, serial.encode()) + attribute(ACCT_SESSION_ID, acct_id.encode())
        body += attribute(CALLING_STATION_ID, mac.encode())
        body += attribute(NAS_IDENTIFIER, self.name.encode())
        if status != START:
            body += integer_attribute(ACCT_SESSION_TIME, int(self._village.clock.at - began_at))
            body += integer_attribute(ACCT_INPUT_OCTETS, 0)
            body += integer_attribute(ACCT_OUTPUT_OCTETS, octets)
        if cause is not None:
            body += integer_attribute(ACCT_TERMINATE_CAUSE, cause)
        identifier = next(self._identifiers) % 256
        datagram = sign_request(ACCOUNTING_REQUEST, identifier, body, SECRET.encode())
        host, port = self._village.service.radius.acct_addresses[0][:2]
        self._transport.sendto(datagram, (host, port))
        return identifier


def reply_to(request: bytes, code: int, body: bytes) -> bytes:
    """An answer with a fitting Response Authenticator (RFC 5176 2.3)."""
    head = struct.pack("!BBH", code, request[1], 20 + len(body))
    digest = hashlib.md5(head + request[4:20] + body + SECRET.encode()).digest()
    return head + digest + body

"""The power is cut fifty times in the middle of the evening; no octet is lost or counted twice.

Seventy phones use a node over real sockets while it is killed with SIGKILL and started again. What
was answered must be there after each start, what was not is sent again with the same octets or a
new Identifier, and at the end every counter equals the model's, in the running node and on disk.
"""

import os
import random
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from radius.packet import (
    ACCESS_ACCEPT,
    ACCESS_REQUEST,
    ACCOUNTING_REQUEST,
    ACCOUNTING_RESPONSE,
    ACCT_DELAY_TIME,
    CLASS,
    PacketError,
    integer_attribute,
    sign_request,
    verify_response,
)
from tests.e2e.command import INTERIM, START, STOP
from tests.e2e.node_process import (
    SECRET,
    Address,
    Warm,
    add_gateway,
    addresses,
    issue,
    login_body,
    make,
    report_body,
    run,
    sessions,
    used,
)

KILLS = 50
KILLED_WHILE_STARTING = 10
PHONES, PHONES_A_CARD = 70, 2
ANSWERS_A_LIFE = 120
QUOTA_OCTETS = 10**15
UNANSWERED_A_PHONE = 3
RESENT_AFTER_S = 0.4
RESENT_WHEN_YOUNGER_S = 20.0
Usage = tuple[int, int, int]
"""Octets from the phone, octets to it, seconds."""
NOTHING: Usage = (0, 0, 0)


@dataclass
class Session:
    """What the gateway sent of a session, and what of that was answered."""

    acct_session_id: str
    serial: str
    class_value: bytes | None
    reports_left: int
    now: Usage = NOTHING
    sent: Usage = NOTHING
    answered: Usage = NOTHING
    is_stopped: bool = False


@dataclass(eq=False)
class Request:
    """One packet of a gateway until it is answered."""

    code: int
    body: bytes
    authenticator: bytes | None
    made_at: float
    session: Session | None = None
    usage: Usage = NOTHING
    sent_at: float = 0.0
    slots: list[int] = field(default_factory=list)
    datagram: bytes = b""


class Phone:
    """A phone that logs in, is reported for a while, and begins again."""

    def __init__(self, number: int, serial: str, code: str, *, returns_class: bool) -> None:
        self.number = number
        self.serial, self.code = serial, code
        self.returns_class = returns_class
        self.mac = f"02-5A-00-00-00-{number:02X}"
        self.ip = f"10.1.0.{number + 1}"
        self.count = 0
        self.session: Session | None = None
        self.unanswered: list[Request] = []


class Gateways:
    """The gateways of all phones: sends, repeats, and keeps the model of what must be counted."""

    def __init__(self, phones: list[Phone], chance: random.Random) -> None:
        self.phones = phones
        self.chance = chance
        self.sessions: list[Session] = []
        self.answers = 0
        self.is_ending = False
        self._old: deque[Request] = deque(maxlen=200)
        # Gateways that return Class and gateways that do not: two addresses, two ports each.
        self._sockets = []
        for source in ("127.0.0.1", "127.0.0.2"):
            for _ in range(2):
                opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                opened.setblocking(False)
                opened.bind((source, 0))
                self._sockets.append(opened)
        self._slots: dict[int, tuple[Phone, Request, bytes]] = {}
        self._next_slot = [0] * len(self._sockets)
        self._auth: Address = ("127.0.0.1", 9)
        self._acct: Address = ("127.0.0.1", 9)

    def close(self) -> None:
        """Close the sockets."""
        for opened in self._sockets:
            opened.close()

    def find(self, ready: str) -> None:
        """The node is back at new ports."""
        self._auth, self._acct = addresses(ready, "auth")[0], addresses(ready, "acct")[0]

    # -- sending ---------------------------------------------------------------------------

    def _free_slot(self, phone: Phone) -> int:
        """Socket and Identifier in one number, of those that wait for no answer."""
        which = (0 if phone.returns_class else 2) + phone.number % 2
        while True:
            slot = which << 8 | self._next_slot[which]
            self._next_slot[which] = (self._next_slot[which] + 1) % 256
            if slot not in self._slots:
                return slot

    def _send(self, phone: Phone, request: Request) -> None:
        """Send a request under a new Identifier."""
        slot = self._free_slot(phone)
        body = request.body
        delay_s = int(time.monotonic() - request.made_at)
        if request.session is not None and delay_s:
            # RFC 2866 5.2: a retransmission says how long it has been tried.
            body += integer_attribute(ACCT_DELAY_TIME, delay_s)
        request.datagram = sign_request(
            request.code,
            slot & 0xFF,
            body,
            SECRET.encode(),
            message_authenticator=request.code == ACCESS_REQUEST,
            authenticator=request.authenticator,
        )
        request.slots.append(slot)
        self._slots[slot] = (phone, request, request.datagram[4:20])
        self._put(slot >> 8, request)

    def _put(self, which: int, request: Request) -> None:
        request.sent_at = time.monotonic()
        to = self._auth if request.code == ACCESS_REQUEST else self._acct
        self._sockets[which].sendto(request.datagram, to)

    def _repeat(self, phone: Phone, request: Request) -> None:
        """The same octets, or the same report under a new Identifier."""
        if self.chance.random() < 0.5:
            self._put(request.slots[-1] >> 8, request)
        else:
            self._send(phone, request)

    def repeat_all(self) -> None:
        """What the dead node left unanswered, in any order, and some of what it had answered."""
        waiting = [(phone, request) for phone in self.phones for request in phone.unanswered]
        self.chance.shuffle(waiting)
        for phone, request in waiting:
            self._repeat(phone, request)
        for request in self.chance.sample(list(self._old), min(len(self._old), 10)):
            if time.monotonic() - request.made_at < RESENT_WHEN_YOUNGER_S:
                self._put(request.slots[-1] >> 8, request)

    def _ask(self, phone: Phone, request: Request) -> None:
        phone.unanswered.append(request)
        self._send(phone, request)

    def _go_on(self, phone: Phone) -> None:
        """Whatever the phone's gateway has to say next."""
        if phone.session is None:
            if not phone.unanswered and not self.is_ending:
                authenticator = self.chance.randbytes(16)
                body = login_body(phone.code, phone.mac, authenticator, SECRET.encode())
                self._ask(
                    phone, Request(ACCESS_REQUEST, body, authenticator, time.monotonic())
                )
            return
        session = phone.session
        if len(phone.unanswered) >= UNANSWERED_A_PHONE:
            return
        up, down, seconds = session.now
        if session.reports_left == 0 or self.is_ending:
            status = STOP
            phone.session = None
        else:
            status = INTERIM if session.now != NOTHING or session.sent != NOTHING else START
        session.reports_left -= 1
        self._report(phone, session, status)
        if session.reports_left >= 0:
            session.now = (
                up + self.chance.randrange(1, 3_000_000_000),
                down + self.chance.randrange(1, 3_000_000_000),
                seconds + self.chance.randrange(1, 60),
            )

    def _report(self, phone: Phone, session: Session, status: int) -> None:
        usage = NOTHING if status == START else session.now
        body = report_body(
            *(status, session.acct_session_id),
            mac=phone.mac,
            ip=phone.ip,
            octets=usage[:2],
            seconds=usage[2],
            class_value=session.class_value,
            user=session.serial,
        )
        session.sent = max(session.sent, usage)
        session.is_stopped = status == STOP
        self._ask(
            phone, Request(ACCOUNTING_REQUEST, body, None, time.monotonic(), session, usage)
        )

    def _begin(self, phone: Phone, class_value: bytes) -> None:
        phone.count += 1
        phone.session = Session(
            f"{phone.number:02d}-{phone.count:04d}",
            phone.serial,
            class_value if phone.returns_class else None,
            self.chance.randrange(1, 7),
        )
        self.sessions.append(phone.session)

    # -- receiving -------------------------------------------------------------------------

    def collect(self, within_s: float) -> None:
        """Take every answer that is there, waiting for the first."""
        for opened in select.select(self._sockets, [], [], within_s)[0]:
            which = self._sockets.index(opened)
            while True:
                try:
                    datagram = opened.recv(4096)
                except BlockingIOError:
                    break
                self._take(which << 8 | datagram[1], datagram)

    def _take(self, slot: int, datagram: bytes) -> None:
        if slot not in self._slots:
            return
        phone, request, authenticator = self._slots[slot]
        try:
            answer = verify_response(authenticator, datagram, SECRET.encode())
        except PacketError:
            return  # an answer to what had this Identifier before
        for taken in request.slots:
            del self._slots[taken]
        phone.unanswered.remove(request)
        self.answers += 1
        if request.session is None:
            assert answer.code == ACCESS_ACCEPT, "a paid card was refused"
            self._begin(phone, answer.first[CLASS])
            return
        assert answer.code == ACCOUNTING_RESPONSE
        request.session.answered = max(request.session.answered, request.usage)
        self._old.append(request)

    def work(self) -> None:
        """One turn of all gateways."""
        for phone in self.phones:
            self._go_on(phone)
        self.collect(0.01)
        now = time.monotonic()
        for phone in self.phones:
            for request in phone.unanswered:
                if now - request.sent_at > RESENT_AFTER_S:
                    self._repeat(phone, request)

    @property
    def unanswered(self) -> int:
        """How many requests wait for an answer."""
        return sum(len(phone.unanswered) for phone in self.phones)

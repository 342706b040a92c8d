"""Phones and their gateways on an evening: they log in, are reported and log in again, over real
sockets, and remember what they sent and what was answered. What a node must know follows from that.
"""

import random
import select
import socket
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from radius.packet import (
    ACCESS_ACCEPT,
    ACCESS_REQUEST,
    ACCOUNTING_REQUEST,
    ACCOUNTING_RESPONSE,
    ACCT_DELAY_TIME,
    ACCT_SESSION_ID,
    CLASS,
    PacketError,
    attribute,
    integer_attribute,
    sign_request,
    verify_response,
)
from tests.e2e.command import INTERIM, START, STOP
from tests.e2e.node_process import (
    SECRET,
    Address,
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

QUOTA_OCTETS = 10**15
UNANSWERED_A_PHONE = 3
REPORTS_A_SESSION = (2, 8)
ENDLESS = 1_000_000
RESENT_AFTER_S = 0.4
RESENT_WHEN_YOUNGER_S = 20.0
"""A Start without a time of its own that comes 30 s after the Stop is a new session."""
GIVE_UP_AFTER_S = 120
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
    sent: list[Usage] = field(default_factory=list)
    """The counters of each report, growing."""
    answered: int = 0
    """So many of `sent` are known to be counted."""


@dataclass(eq=False)
class Request:
    """One packet of a gateway until it is answered."""

    code: int
    body: bytes
    authenticator: bytes | None
    made_at: float
    session: Session | None = None
    number: int = 0
    """Of the report within its session, from 1."""
    sent_at: float = 0.0
    slots: list[int] = field(default_factory=list)
    datagram: bytes = b""


class Phone:
    """A phone that logs in, is reported for a while, and begins again."""

    def __init__(self, number: int, serial: str, code: str, *, returns_class: bool) -> None:
        self.number = number
        self.serial, self.code = serial, code
        self.returns_class = returns_class
        self.mac = f"02-5A-00-00-{number >> 8:02X}-{number & 0xFF:02X}"
        self.ip = f"10.1.{1 + (number >> 8)}.{number & 0xFF}"
        self.count = 0
        self.session: Session | None = None
        self.unanswered: list[Request] = []

    @property
    def acct_session_id(self) -> str:
        """The name its gateway gives to its present session."""
        return f"{self.number:02d}-{self.count:04d}"


class Gateways:
    """The gateways of all phones: sends, repeats, and keeps the model of what must be counted."""

    def __init__(self, phones: list[Phone], chance: random.Random) -> None:
        self.phones = phones
        self.chance = chance
        self.sessions: list[Session] = []
        self.answers = 0
        self.is_ending = False
        self.is_staying = False
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
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
        session = phone.session
        if session is None:
            if not self.is_ending and not any(r.session is None for r in phone.unanswered):
                self._log_in(phone)
        elif len(phone.unanswered) < UNANSWERED_A_PHONE:
            is_last = session.reports_left == 0 or (self.is_ending and bool(session.sent))
            session.reports_left -= 1
            if not session.sent:
                self._report(phone, session, START)
            elif not is_last:
                self._report(phone, session, INTERIM)
            else:
                self._report(phone, session, STOP)
                phone.session = None

    def _log_in(self, phone: Phone) -> None:
        phone.count += 1
        authenticator = self.chance.randbytes(16)
        body = login_body(phone.code, phone.mac, authenticator, SECRET.encode())
        body += attribute(ACCT_SESSION_ID, phone.acct_session_id.encode())
        self._ask(phone, Request(ACCESS_REQUEST, body, authenticator, time.monotonic()))

    def _report(self, phone: Phone, session: Session, status: int) -> None:
        usage = NOTHING
        if session.sent:
            up, down, seconds = session.sent[-1]
            usage = (
                up + self.chance.randrange(3_000_000_000),
                down + self.chance.randrange(3_000_000_000),
                seconds + self.chance.randrange(1, 60),
            )
        session.sent.append(usage)
        body = report_body(
            *(status, session.acct_session_id),
            mac=phone.mac,
            ip=phone.ip,
            octets=usage[:2],
            seconds=usage[2],
            class_value=session.class_value,
            user=session.serial,
        )
        now = time.monotonic()
        self._ask(phone, Request(ACCOUNTING_REQUEST, body, None, now, session, len(session.sent)))

    def _begin(self, phone: Phone, class_value: bytes) -> None:
        phone.session = Session(
            phone.acct_session_id,
            phone.serial,
            class_value if phone.returns_class else None,
            ENDLESS if self.is_staying else self.chance.randrange(*REPORTS_A_SESSION),
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
        request.session.answered = max(request.session.answered, request.number)
        self._old.append(request)

    def work(self, answers: int) -> None:
        """Go on until there were so many answers more."""
        enough = self.answers + answers
        deadline = time.monotonic() + GIVE_UP_AFTER_S
        while self.answers < enough:
            assert time.monotonic() < deadline, f"{self.unanswered} requests stay unanswered"
            self.turn()

    def burst(self, phones: int) -> None:
        """Let so many phones report without looking for answers."""
        for phone in self.chance.choices(self.phones, k=phones):
            self._go_on(phone)

    def stay_online(self) -> None:
        """Go on until every phone has a session that was reported; none of these ends."""
        self.is_staying = True
        deadline = time.monotonic() + GIVE_UP_AFTER_S
        while not all(p.session is not None and p.session.answered > 1 for p in self.phones):
            assert time.monotonic() < deadline, f"{self.unanswered} requests stay unanswered"
            self.turn()

    def finish(self) -> None:
        """End every session and wait for the last answer."""
        self.is_ending = True
        deadline = time.monotonic() + GIVE_UP_AFTER_S
        while self.unanswered or any(phone.session for phone in self.phones):
            assert time.monotonic() < deadline, f"{self.unanswered} requests stay unanswered"
            self.turn()

    def turn(self) -> None:
        """Send what there is to say, take the answers, repeat what has waited too long."""
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


# --- what the node must know


def counters(row: dict[str, Any]) -> Usage:
    """Of a session as the node lists it."""
    return row["input_octets"], row["output_octets"], row["session_time_s"]


def check_stored(directory: Path, gateways: Gateways, serial: str) -> int:
    """What the node knows after a start: all that was answered, nothing that was never sent, and
    the card `serial` has used what its sessions have. How many reports were stored unanswered."""
    listed = sessions(directory)
    unanswered = 0
    for session in gateways.sessions:
        row = listed.get(session.acct_session_id)
        if row is None:
            assert not session.answered, f"{session} was answered and is lost"
            continue
        assert counters(row) in session.sent, f"{row} was never reported: {session}"
        known = session.sent.index(counters(row)) + 1
        assert known >= session.answered, f"{row} is less than was answered: {session}"
        unanswered += known - session.answered
    rows = [counters(row) for row in listed.values() if row["serial"] == serial]
    octets = sum(up + down for up, down, _ in rows)
    assert used(directory, serial) == (octets, sum(seconds for _, _, seconds in rows))
    return unanswered


def check_end(directory: Path, gateways: Gateways) -> None:
    """Every session is there once with its last counters, and every card has used their sum."""
    listed = sessions(directory)
    assert set(listed) == {session.acct_session_id for session in gateways.sessions}
    of_cards: dict[str, list[Usage]] = {phone.serial: [] for phone in gateways.phones}
    for session in gateways.sessions:
        row = listed[session.acct_session_id]
        assert counters(row) == session.sent[-1]
        assert row["serial"] == session.serial
        assert row["ended_at"] is not None and row["end_cause"] == "Lost-Carrier"
        of_cards[session.serial].append(session.sent[-1])
    for serial, usages in of_cards.items():
        shown = run(directory, "voucher", "show", serial)
        octets = sum(up + down for up, down, _ in usages)
        assert (shown["octets_used"], shown["seconds_used"]) == (
            octets,
            sum(seconds for _, _, seconds in usages),
        )
        assert shown["open_sessions"] == 0 and shown["state"] == "active"
        assert shown["octets_left"] in (None, QUOTA_OCTETS - octets)


# --- beginning


def make_directory(directory: Path) -> Path:
    """A node's directory for `crowd`: two gateways, a profile with a quota, one for two phones."""
    make(directory, satu={"data-total": f"{QUOTA_OCTETS}"}, keluarga={"devices": "2"})
    add_gateway(directory, "pos-2", "127.0.0.2")
    return directory


def crowd(directory: Path, chance: random.Random, *, singles: int, pairs: int) -> Gateways:
    """One phone for each of `singles` cards with a quota, two for each of `pairs` without; half of
    them behind a gateway that returns Class."""
    cards = issue(directory, "satu", singles)
    cards += [card for card in issue(directory, "keluarga", pairs) for _ in range(2)]
    phones = [
        Phone(number, serial, code, returns_class=number % 4 < 2)
        for number, (serial, code) in enumerate(cards)
    ]
    return Gateways(phones, chance)

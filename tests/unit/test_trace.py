"""Trace: what happens is told in full to who watches, without a code or secret, and costs nothing
when nobody does. Real UDP sockets and the practice gateway."""

import json
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from portal.cli.watch import DROPS, REASONS, sentence
from portal.domain.quota import Reason
from portal.trace import Event
from radius.packet import (
    ACCESS_REQUEST,
    ACCOUNTING_REQUEST,
    ACCT_SESSION_ID,
    ACCT_STATUS_TYPE,
    CALLING_STATION_ID,
    NAS_IDENTIFIER,
    STATUS_SERVER,
    USER_NAME,
    USER_PASSWORD,
    attribute,
    integer_attribute,
    sign_request,
)
from radius.password import hide
from radius.server import STATS
from tests.unit.web.village import (
    SECRET,
    UAM_SECRET,
    Browser,
    Village,
    open_internet,
    village,
)


@pytest.fixture
def v(tmp_path: Path) -> Iterator[Village]:
    with village(tmp_path) as found:
        yield found


class Watching:
    """A subscriber that keeps everything."""

    def __init__(self, place: Village) -> None:
        self.events: list[Event] = []
        self._place = place
        self.leave = place.call(lambda: place.node.trace.subscribe(self.events.append))

    def stop(self) -> None:
        self._place.call(self.leave)

    def of(self, kind: str, verdict: str | None = None) -> list[Event]:
        return [
            event
            for event in self.events
            if event.kind == kind and verdict in (None, event.verdict)
        ]

    def wait(self, kind: str, verdict: str | None = None) -> Event:
        """The newest event of this kind, as soon as there is one."""
        give_up_s = monotonic() + 30
        while not (found := self.of(kind, verdict)):
            assert monotonic() < give_up_s, [(e.kind, e.verdict) for e in self.events]
            sleep(0.01)
        return found[-1]

    def sentences(self) -> list[str]:
        return [sentence(json.loads(json.dumps(event.told()))) for event in self.events]


def send(
    place: Village,
    code: int,
    body: bytes,
    *,
    secret: str = SECRET,
    source: str = "127.0.0.1",
    is_signed: bool = True,
    again: int = 0,
) -> None:
    """A datagram as a gateway sends it, to the right port, `again` more times."""
    radius = place.service.radius
    is_accounting = code == ACCOUNTING_REQUEST
    to = (radius.acct_addresses if is_accounting else radius.auth_addresses)[0]
    datagram = sign_request(
        code,
        7,
        body,
        secret.encode(),
        message_authenticator=is_signed and not is_accounting,
        authenticator=None if is_accounting else bytes(range(16)),
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.bind((source, 0))
        out.settimeout(30)
        for _ in range(1 + again):
            out.sendto(datagram, to)
            if again:
                out.recv(4096)


def log_in(place: Village, code: str) -> Any:
    """A phone behind a new gateway types a code at the portal."""
    gateway = place.add_gateway()
    phone = gateway.phones[0]
    browser = Browser()
    page = open_internet(browser, gateway, phone)
    browser.submit(page, kode=code)
    return gateway, phone


def add_plain_gateway(place: Village, **more: Any) -> None:
    place.do(
        place.node.admin.add_gateway(
            "polos", family="generic", address="127.0.0.1", secret=SECRET, **more
        )
    )


def hooks(place: Village) -> tuple[bool, ...]:
    """Which of the hooks are in: the trace's own word, exchanges, drops, repeats, Status-Server."""
    server = place.service.radius
    return (
        place.node.trace.is_on,
        server.make_exchange is not None,
        server.dropped.on_drop is not None,
        server.on_repeated is not None,
        server.on_status is not None,
    )


def test_nothing_is_hooked_in_while_nobody_watches(v: Village) -> None:
    assert hooks(v) == (False, False, False, False, False)
    first, second = Watching(v), Watching(v)
    assert hooks(v) == (True, True, True, True, True)
    first.stop()
    assert hooks(v) == (True, True, True, True, True)
    second.stop()
    assert hooks(v) == (False, False, False, False, False)
    second.stop()
    log_in(v, v.issue()[0])
    assert first.events == second.events == []


def test_a_phones_way_from_redirect_to_stop_is_told(v: Village) -> None:
    watching = Watching(v)
    code, serial = v.issue()
    gateway, phone = log_in(v, code)
    v.do(gateway.download(phone, 10_000_000))
    v.do(gateway.interim(phone))
    v.do(gateway.logoff(phone))
    v.do(gateway.settled())

    arrival = watching.wait("arrival")
    assert arrival.facts["is_signed"] and arrival.mac == phone.mac
    assert arrival.gateway.startswith("pos-")
    accept = watching.wait("access", "accept")
    assert (accept.serial, accept.facts["how"], accept.mac) == (serial, "serial", phone.mac)
    assert accept.facts["granted_octets"] == 500_000_000
    assert accept.ms is not None and accept.ms < 5_000
    statuses = [event.facts["status"] for event in watching.of("accounting", "answered")]
    assert statuses == ["on", "start", "interim", "stop"]
    stop = watching.of("accounting")[-1]
    assert (stop.serial, stop.facts["output_octets"]) == (serial, 10_000_000)
    assert stop.facts["cause"] == "User-Request"
    said = watching.sentences()
    assert any(
        f"Stop of {serial}" in line and "10.0 MB down, User-Request" in line for line in said
    )
    assert any("Accept: 500 MB" in line and serial in line for line in said)


def test_no_code_password_or_secret_is_told(v: Village) -> None:
    watching = Watching(v)
    code, serial = v.issue()
    gateway, _ = log_in(v, code)
    add_plain_gateway(v, nas_id="polos")
    wrong = "1234 5678 90"
    for typed in (code, wrong, f"{code[:4]} {code[4:8]} {code[8:]}"):
        name = attribute(USER_NAME, typed.encode())
        hidden = attribute(USER_PASSWORD, hide(typed.encode(), bytes(range(16)), SECRET.encode()))
        nas_id = attribute(NAS_IDENTIFIER, b"polos")
        mac = attribute(CALLING_STATION_ID, secrets.token_hex(6).encode())
        send(v, ACCESS_REQUEST, name + hidden + nas_id + mac)
        sleep(0.05)
    Browser().request("GET", f"{v.url}/{code}", headers={"host": "contoh.example"})
    watching.wait("probe")
    give_up_s = monotonic() + 30
    while len(watching.of("access")) < 4 and monotonic() < give_up_s:
        sleep(0.02)
    told = json.dumps([event.told() for event in watching.events]) + str(watching.sentences())
    assert serial in told and code[-4:] in told
    for hidden_word in (code, f"{code[:4]} {code[4:8]}", wrong, SECRET, UAM_SECRET):
        assert hidden_word not in told, hidden_word
    tickets = [event for event in watching.of("access") if event.facts["how"] == "serial"]
    assert tickets and gateway is not None


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("4829 1730 5516", "Access-Request: no code: 12 digits, at least one of them wrong at "),
        ("0812-3456-789", "Access-Request: no code: 11 digits, a code has 12 at "),
        ("Rahasia#Desa", "Access-Request: no code: a name of 12 characters at "),
    ],
)
def test_what_is_no_code_is_told_by_its_kind_alone(v: Village, typed: str, said: str) -> None:
    watching = Watching(v)
    add_plain_gateway(v)
    name = attribute(USER_NAME, typed.encode())
    hidden = attribute(USER_PASSWORD, hide(typed.encode(), bytes(range(16)), SECRET.encode()))
    mac = attribute(CALLING_STATION_ID, secrets.token_hex(6).encode())
    send(v, ACCESS_REQUEST, name + hidden + mac)
    watching.wait("access", "reject")
    [line] = watching.sentences()
    assert line.startswith(said) and " -> Reject: " in line
    assert typed[-4:] not in line


def test_a_refusal_says_why(v: Village) -> None:
    watching = Watching(v)
    code, serial = v.issue()
    v.do(v.node.vouchers.revoke([serial], "hilang"))
    add_plain_gateway(v)
    name = attribute(USER_NAME, code.encode())
    hidden = attribute(USER_PASSWORD, hide(code.encode(), bytes(range(16)), SECRET.encode()))
    send(v, ACCESS_REQUEST, name + hidden, is_signed=False)
    event = watching.wait("access", "reject")
    assert (event.reason, event.serial) == ("revoked", serial)
    assert event.facts["is_signed"] is False
    (said,) = watching.sentences()
    assert "not signed -> Reject: the card is revoked" in said


def test_dropped_packets_say_why_also_to_who_comes_later(v: Village) -> None:
    add_plain_gateway(v, nas_id="polos")
    start = integer_attribute(ACCT_STATUS_TYPE, 1) + attribute(ACCT_SESSION_ID, b"1")
    watching = Watching(v)
    send(v, ACCOUNTING_REQUEST, start, source="127.0.0.9")
    send(v, ACCOUNTING_REQUEST, start, secret="salah")
    send(v, ACCOUNTING_REQUEST, start + attribute(NAS_IDENTIFIER, b"lain"))
    reasons = ["unknown_client", "wrong_authenticator"]
    give_up_s = monotonic() + 30
    while len(watching.of("dropped")) < 2 and monotonic() < give_up_s:
        sleep(0.01)
    assert [event.reason for event in watching.of("dropped")][:2] == reasons
    said = watching.sentences()
    assert "Packet from 127.0.0.9 dropped: no gateway has this address" in said[0]
    assert "signed with another secret (pesisir gateway show polos --secret)" in said[1]
    late = v.call(v.node.trace.drops)
    assert [drop.reason for _, drop in late][:2] == reasons
    assert all(ago_s < 60 for ago_s, _ in late)


def test_retransmissions_and_status_server_are_told(v: Village) -> None:
    add_plain_gateway(v)
    watching = Watching(v)
    start = integer_attribute(ACCT_STATUS_TYPE, 1) + attribute(ACCT_SESSION_ID, b"1")
    send(v, ACCOUNTING_REQUEST, start, again=1)
    again = watching.wait("accounting", "again")
    assert again.facts["is_sent"] is True
    send(v, STATUS_SERVER, b"")
    assert watching.wait("status").verdict == "answered"
    assert "Accounting-Request again -> the same answer again" in watching.sentences()


def test_an_asked_gateway_and_its_answer_are_told(v: Village) -> None:
    code, serial = v.issue()
    log_in(v, code)
    watching = Watching(v)
    live = v.call(lambda: next(v.node.sessions.open_sessions()))
    v.do(v.node.online.disconnect(live.session.id))
    event = watching.wait("disconnect")
    assert (event.verdict, event.serial) == ("ack", serial)
    assert any(
        f"Disconnect-Request for {serial}" in line and "-> yes" in line
        for line in watching.sentences()
    )


def test_a_watchers_fault_costs_nobody_an_answer(v: Village) -> None:
    def broken(event: Event) -> None:
        raise ZeroDivisionError

    v.call(lambda: v.node.trace.subscribe(broken))
    code, _ = v.issue()
    _, phone = log_in(v, code)
    assert phone.is_online


def test_every_reason_and_drop_has_its_words() -> None:
    assert {reason.value for reason in Reason} == set(REASONS)
    counted_only = {
        *("access_requests", "accounting_requests", "status_requests", "answers", "duplicate"),
        *("duplicate_in_progress", "status_limited", "unhealthy", "handler_failed", "large_reply"),
        *("reply_too_large", "send_failed"),
    }
    assert set(DROPS) == set(STATS) - counted_only

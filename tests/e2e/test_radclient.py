"""FreeRADIUS's own client asks a running node: what it prints is what a gateway understands."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.command import RunningNode
from tests.e2e.node_process import (
    SECRET,
    Address,
    add_gateway,
    addresses,
    issue,
    make,
    run,
    sessions,
    used,
)

SIGNED = "Message-Authenticator=0x00"
"""radclient fills it in; without it a request is not signed."""
WRONG = "Kode salah. Cocokkan lagi dengan kartu."
MAC = "Calling-Station-Id=02-5A-00-00-00-01"


@pytest.fixture(scope="module", autouse=True)
def radclient() -> None:
    """Without radclient nothing here can be tested."""
    if shutil.which("radclient") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("radclient is missing; install freeradius-utils")
        pytest.skip("radclient is missing (Debian package freeradius-utils)")


@dataclass(frozen=True)
class Answer:
    """What radclient understood: the kind of packet, None for no answer, and its attributes."""

    kind: str | None
    attributes: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    def all(self, name: str) -> list[str]:
        """The values of an attribute in the order they came."""
        return [value for known, value in self.attributes if known == name]

    def __getitem__(self, name: str) -> str:
        (value,) = self.all(name)
        return value


class Question:
    """One packet under way: `radclient` sends it once and waits so many seconds."""

    def __init__(
        self,
        to: Address,
        kind: str,
        *attributes: str,
        secret: str = SECRET,
        source: str | None = None,
        within_s: int = 3,
    ) -> None:
        host, port = to
        if source is not None:
            attributes = (*attributes, f"Packet-Src-IP-Address={source}")
        self._begun_at = time.monotonic()
        self._process = subprocess.Popen(
            ["radclient", "-x", "-r", "1", "-t", str(within_s)]
            + [f"[{host}]:{port}" if ":" in host else f"{host}:{port}", kind, secret],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(",".join(attributes))
        self._process.stdin.close()
        self._process.stdin = None

    def answer(self) -> Answer:
        """Wait for it."""
        out, errors = self._process.communicate(timeout=60)
        seconds = time.monotonic() - self._begun_at
        _, received, text = out.partition("\nReceived ")
        if not received:
            assert "No reply from server" in out + errors, out + errors
            return Answer(None, [], seconds)
        lines = re.findall(r"^\t(\S+) = (.*)$", text, re.MULTILINE)
        return Answer(text.split()[0], [(name, value.strip('"')) for name, value in lines], seconds)


def ask(
    to: Address, kind: str, *attributes: str, secret: str = SECRET, source: str | None = None
) -> Answer:
    """Ask and wait."""
    return Question(to, kind, *attributes, secret=secret, source=source).answer()


def silent(
    to: Address, kind: str, *attributes: str, secret: str = SECRET, source: str | None = None
) -> Question:
    """A packet that gets no answer; waited for longer than a rejection takes."""
    return Question(to, kind, *attributes, secret=secret, source=source, within_s=1)


def unanswered(*questions: Question) -> None:
    """All of these get no answer; they wait together."""
    assert [question.answer().kind for question in questions] == [None] * len(questions)


def login(code: str, password: str | None = None) -> tuple[str, ...]:
    """Attributes of a card's login at a gateway's own page."""
    return (f"User-Name={code}", f"User-Password={password or code}", MAC)


def report(status: str, acct_session_id: str, *more: str) -> tuple[str, ...]:
    """Attributes of an Accounting-Request."""
    return (f"Acct-Status-Type={status}", f"Acct-Session-Id={acct_session_id}", MAC, *more)


@dataclass(frozen=True)
class Place:
    """A running node, its listeners and unused cards."""

    directory: Path
    node: RunningNode
    auth: list[Address]
    acct: list[Address]
    cards: list[tuple[str, str]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A node that listens on one IPv4 address, on the IPv6 loopback and on all IPv4 addresses."""
    directory = make(
        tmp_path_factory.mktemp("radclient") / "node",
        harian={"data-day": "500MB", "rate-down": "2M"},
    )
    add_gateway(directory, "six", "::1")
    cards = issue(directory, "harian", 20)
    listen = "127.0.0.1:0,[::1]:0,0.0.0.0:0"
    with RunningNode(directory, PESISIR_RADIUS_AUTH=listen, PESISIR_RADIUS_ACCT=listen) as node:
        auth, acct = addresses(node.ready, "auth"), addresses(node.ready, "acct")
        assert [host for host, _ in auth] == ["127.0.0.1", "::1", "0.0.0.0"]
        yield Place(directory, node, auth, acct, cards)
        assert node.stop(signal.SIGTERM) == 0
    log = (directory / "node.log").read_text()
    assert "Traceback" not in log, log
    for _, code in cards:
        assert code not in log


@pytest.fixture
def auth(place: Place) -> Address:
    """The first authentication port."""
    return place.auth[0]


@pytest.fixture
def acct(place: Place) -> Address:
    """The first accounting port."""
    return place.acct[0]


# --- cards


def test_a_card_is_accepted_with_its_limits(place: Place, auth: Address) -> None:
    serial, code = place.cards[0]
    answer = ask(auth, "auth", *login(code), SIGNED)
    assert answer.kind == "Access-Accept"
    assert answer.attributes[0][0] == "Message-Authenticator"
    assert answer["User-Name"] == serial
    assert answer["Idle-Timeout"] == "900"
    assert 300 <= int(answer["Acct-Interim-Interval"]) <= 330
    assert 0 < int(answer["Session-Timeout"]) <= 86_400
    assert 3 <= len(answer["Class"]) - 2 <= 128 and answer["Class"].startswith("0x")
    # FreeRADIUS calls the vendor ChilliSpot in one version and CoovaChilli in the next.
    octets = [value for name, value in answer.attributes if name.endswith("Max-Total-Octets")]
    assert octets == ["500000000"]
    assert answer["WISPr-Bandwidth-Max-Down"] == "2000000"


def test_an_unknown_code_and_a_wrong_password_are_told_the_same_a_little_later(
    place: Place, auth: Address
) -> None:
    _, code = place.cards[1]
    other = place.cards[2][1]
    asked = [
        Question(auth, "auth", *login(code, other), SIGNED),
        Question(auth, "auth", *login("482917305515"), SIGNED),
        Question(auth, "auth", f"User-Name={code}", f"User-Password={code[:-1]}", SIGNED),
        Question(auth, "auth", "User-Name=siti", "User-Password=rahasia", SIGNED),
    ]
    for answer in [question.answer() for question in asked]:
        assert answer.kind == "Access-Reject"
        assert [name for name, _ in answer.attributes] == ["Message-Authenticator", "Reply-Message"]
        assert answer["Reply-Message"] == WRONG
        assert answer.seconds >= 0.5
    # A slip of the hand costs the card nothing.
    assert ask(auth, "auth", *login(code), SIGNED).kind == "Access-Accept"


def test_a_code_by_chap_is_rejected_since_codes_are_stored_hashed(
    place: Place, auth: Address
) -> None:
    _, code = place.cards[3]
    by_chap = (f"User-Name={code}", f"CHAP-Password={code}", SIGNED)
    challenge = "CHAP-Challenge=0x00112233445566778899aabbccddeeff"
    both = (*login(code), f"CHAP-Password={code}", SIGNED)
    for question in [
        Question(auth, "auth", *by_chap),
        Question(auth, "auth", *by_chap, challenge),
        Question(auth, "auth", *both),
    ]:
        assert question.answer().kind == "Access-Reject"


# --- accounting


def test_a_session_is_counted_once_however_often_it_is_reported(
    place: Place, auth: Address, acct: Address
) -> None:
    serial, code = place.cards[4]
    accepted = ask(auth, "auth", *login(code), SIGNED)
    class_value = f"Class={accepted['Class']}"
    interim = ("Acct-Input-Octets=1000", "Acct-Output-Octets=2000", "Acct-Session-Time=60")
    stop = (
        *("Acct-Input-Octets=5000", "Acct-Output-Octets=6000", "Acct-Output-Gigawords=1"),
        *("Acct-Session-Time=120", "Acct-Terminate-Cause=Idle-Timeout"),
    )
    packets = [
        report("Start", "s-1", class_value),
        report("Interim-Update", "s-1", class_value, *interim),
        report("Interim-Update", "s-1", class_value, *interim),
        report("Stop", "s-1", class_value, *stop),
        report("Stop", "s-1", class_value, *stop, "Acct-Delay-Time=1"),
        report("Interim-Update", "s-1", class_value, *interim, "Acct-Delay-Time=2"),
        report("Start", "s-1", class_value, "Acct-Delay-Time=3"),
    ]
    for packet in packets:
        answer = ask(acct, "acct", *packet)
        assert (answer.kind, answer.attributes) == ("Accounting-Response", [])
    assert used(place.directory, serial) == (11_000 + 2**32, 120)
    row = sessions(place.directory, "--serial", serial)["s-1"]
    assert row["end_cause"] == "Idle-Timeout" and row["calling_station_id"] == "025a00000001"
    assert (row["input_octets"], row["output_octets"]) == (5000, 6000 + 2**32)


def test_what_is_ignored_on_purpose_is_answered_all_the_same(place: Place, acct: Address) -> None:
    for packet in (
        ("Acct-Status-Type=Tunnel-Start", "Acct-Session-Id=t-1"),
        ("Acct-Status-Type=Start", MAC),
        ("Acct-Status-Type=Accounting-On",),
    ):
        assert ask(acct, "acct", *packet).kind == "Accounting-Response"
    assert "t-1" not in sessions(place.directory)


# --- Status-Server, signatures, Proxy-State


def test_status_server_is_answered_on_every_port_when_it_is_signed(place: Place) -> None:
    for number, (auth, acct) in enumerate(zip(place.auth, place.acct, strict=True)):
        to = "127.0.0.1" if number == 2 else auth[0]
        alive = ask((to, auth[1]), "status", SIGNED)
        assert alive.kind == "Access-Accept"
        assert [name for name, _ in alive.attributes] == ["Message-Authenticator"]
        assert ask((to, acct[1]), "status", SIGNED).kind == "Accounting-Response"
    unanswered(
        silent(place.auth[0], "status", "User-Name=x"),
        silent(place.acct[0], "status", "User-Name=x"),
        silent(place.auth[0], "status", SIGNED, secret="wrong-secret-0123456789"),
        silent(place.acct[0], "status", SIGNED, secret="wrong-secret-0123456789"),
    )


def test_a_wrong_secret_gets_no_answer(place: Place, auth: Address, acct: Address) -> None:
    serial, code = place.cards[5]
    wrong = "wrong-secret-0123456789"
    unanswered(
        silent(auth, "auth", *login(code), SIGNED, secret=wrong),
        silent(acct, "acct", *report("Start", "w-1"), secret=wrong),
        silent(acct, "auth", *login(code), SIGNED),
        silent(auth, "acct", *report("Start", "w-1")),
    )
    assert "w-1" not in sessions(place.directory)
    assert run(place.directory, "voucher", "show", serial)["state"] == "unused"


def test_proxy_states_come_back_in_order(place: Place, auth: Address, acct: Address) -> None:
    states = ("Proxy-State=0x02", "Proxy-State=0x01", "Proxy-State=0x0102030405")
    expected = ["0x02", "0x01", "0x0102030405"]
    _, code = place.cards[6]
    accepted = ask(auth, "auth", *login(code), *states, SIGNED)
    rejected = ask(auth, "auth", *login(code, "x"), *states, SIGNED)
    counted = ask(acct, "acct", *report("Start", "p-1"), *states)
    assert [answer.kind for answer in (accepted, rejected, counted)] == [
        "Access-Accept",
        "Access-Reject",
        "Accounting-Response",
    ]
    for answer in (accepted, rejected, counted):
        assert answer.all("Proxy-State") == expected


def test_an_address_that_once_signed_must_sign_for_ever(place: Place) -> None:
    add_gateway(place.directory, "old", "127.0.0.30")
    (_, one), (_, two) = place.cards[7:9]
    auth = place.auth[0]
    asked = {"source": "127.0.0.30"}
    unsigned = ask(auth, "auth", *login(one), **asked)
    assert unsigned.kind == "Access-Accept"
    assert unsigned.attributes[0][0] == "Message-Authenticator"
    unanswered(silent(auth, "auth", *login(one), "Proxy-State=0x01", **asked))
    assert ask(auth, "auth", *login(two), SIGNED, **asked).kind == "Access-Accept"
    unanswered(silent(auth, "auth", *login(two), **asked))


# --- gateways


def test_gateways_come_change_and_go_while_the_node_runs(place: Place) -> None:
    auth, acct = place.auth[0], place.acct[0]
    here = {"source": "127.0.0.20"}
    alive = ("status", SIGNED)
    unanswered(silent(auth, *alive, **here), silent(acct, *alive, **here))
    add_gateway(place.directory, "pos-20", "127.0.0.20")
    assert ask(auth, *alive, **here).kind == "Access-Accept"
    assert ask(acct, "acct", *report("Start", "g-1"), **here).kind == "Accounting-Response"
    assert sessions(place.directory)["g-1"]["gateway"] == "pos-20"

    new = "rahasia-baru-0123456789"
    run(place.directory, "gateway", "set", "pos-20", "--secret", new)
    stop = ("acct", *report("Stop", "g-1"))
    unanswered(silent(auth, *alive, **here), silent(acct, *stop, **here))
    assert ask(auth, *alive, secret=new, **here).kind == "Access-Accept"

    run(place.directory, "gateway", "set", "pos-20", "--address", "127.0.0.21")
    moved = {"source": "127.0.0.21", "secret": new}
    interim = ("acct", *report("Interim-Update", "g-1"))
    assert ask(acct, *interim, **moved).kind == "Accounting-Response"
    unanswered(silent(auth, *alive, secret=new, **here))

    run(place.directory, "gateway", "remove", "pos-20")
    unanswered(silent(auth, *alive, **moved), silent(acct, *stop, **moved))
    # What is added later is another gateway: it inherits nothing, not even the sessions' name.
    add_gateway(place.directory, "pos-22", "127.0.0.22")
    start = ("acct", *report("Start", "g-2"))
    assert ask(acct, *start, source="127.0.0.22").kind == "Accounting-Response"
    listed = sessions(place.directory)
    assert listed["g-1"]["gateway"] == "pos-20" and listed["g-2"]["gateway"] == "pos-22"


def test_gateways_at_one_address_are_told_apart_by_nas_identifier(place: Place) -> None:
    auth, acct = place.auth[0], place.acct[0]
    for name in ("utara", "selatan"):
        add_gateway(place.directory, name, "127.0.0.40", "--nas-id", f"nas-{name}")
    here = {"source": "127.0.0.40"}
    for name, card in (("utara", place.cards[9]), ("selatan", place.cards[10])):
        named = f"NAS-Identifier=nas-{name}"
        assert ask(auth, "auth", *login(card[1]), named, SIGNED, **here).kind == "Access-Accept"
        assert ask(acct, "acct", *report("Start", f"n-{name}"), named, **here).kind is not None
        assert sessions(place.directory)[f"n-{name}"]["gateway"] == name
    code = place.cards[11][1]
    unanswered(
        silent(auth, "auth", *login(code), SIGNED, **here),
        silent(auth, "auth", *login(code), "NAS-Identifier=nas-barat", SIGNED, **here),
        silent(acct, "acct", *report("Start", "n-x"), "NAS-Identifier=nas-barat", **here),
    )
    # One that stands alone at its address takes any name.
    answer = ask(auth, "auth", *login(code), "NAS-Identifier=nas-barat", SIGNED)
    assert answer.kind == "Access-Accept"


def test_the_longest_prefix_is_the_gateway(place: Place) -> None:
    acct = place.acct[0]
    for name, network in (
        ("luas", "127.1.0.0/16"),
        ("sempit", "127.1.2.0/24"),
        ("satu", "127.1.2.3"),
    ):
        add_gateway(place.directory, name, network)
    for source, name in (("127.1.9.9", "luas"), ("127.1.2.9", "sempit"), ("127.1.2.3", "satu")):
        answer = ask(acct, "acct", *report("Start", f"c-{name}"), source=source)
        assert answer.kind == "Accounting-Response"
        assert sessions(place.directory)[f"c-{name}"]["gateway"] == name


def test_ipv6_and_the_wildcard_answer_from_the_address_that_was_asked(place: Place) -> None:
    code = place.cards[12][1]
    to_ipv6 = place.auth[1]
    accepted = ask(to_ipv6, "auth", *login(code), SIGNED)
    assert accepted.kind == "Access-Accept"
    counted = ask(place.acct[1], "acct", *report("Start", "six", f"Class={accepted['Class']}"))
    assert counted.kind == "Accounting-Response"
    assert sessions(place.directory)["six"]["gateway"] == "six"
    # radclient takes no answer from another address than it asked.
    for host in ("127.0.0.1", "127.0.0.77"):
        assert ask((host, place.auth[2][1]), "status", SIGNED).kind == "Access-Accept"
        assert ask((host, place.acct[2][1]), "status", SIGNED).kind == "Accounting-Response"

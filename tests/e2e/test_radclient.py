"""FreeRADIUS's own client against a running node: a second opinion on every octet on the wire.

Needs the Debian package freeradius-utils. Where it is missing the tests are skipped in plain sight;
with CI=true they fail.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.command import SETTINGS, RunningNode, pesisir

RADCLIENT = shutil.which("radclient")
SECRET = "a secret of 27 characters.."

pytestmark = pytest.mark.skipif(
    RADCLIENT is None and os.environ.get("CI") != "true",
    reason="radclient is not installed (Debian package: freeradius-utils)",
)


@dataclass(frozen=True)
class Place:
    """A running node that knows this machine as a gateway."""

    directory: Path
    node: RunningNode

    def radclient(
        self, command: str, *pairs: str, secret: str = SECRET, is_signed: bool = True
    ) -> str:
        """Send one request of the kind `command`; what radclient says, "" when nobody answers."""
        if is_signed and command != "acct":
            pairs = (*pairs, "Message-Authenticator=0x00")
        assert RADCLIENT is not None, "CI=true and no radclient: install freeradius-utils"
        host, port = self.node.address("acct" if command == "acct" else "auth")
        done = subprocess.run(
            [RADCLIENT, "-x", "-r", "1", "-t", "1", f"{host}:{port}", command, secret],
            input=",".join(pairs),
            capture_output=True,
            text=True,
            timeout=30,
        )
        # Answers whose authenticators do not fit are not taken for answers.
        return done.stdout if "\nReceived " in done.stdout else ""

    def card(self) -> str:
        """A fresh card's code."""
        issued = pesisir("voucher", "issue", "--profile", "a", "--dir", self.directory, "--json")
        code: str = issued.json["vouchers"][0]["code"]
        return code


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("node")
    (directory / "pesisir.toml").write_text(SETTINGS, encoding="utf-8")
    limits = ("--data-day", "500MB", "--time-day", "2h", "--rate-down", "2M")
    for words in (
        ("init",),
        ("gateway", "add", "g", "--family", "coova", "--address", "127.0.0.1", "--secret", SECRET),
        ("profile", "set", "a", *limits),
    ):
        assert pesisir(*words, "--dir", directory).status == 0
    with RunningNode(directory) as node:
        yield Place(directory, node)


def test_a_right_code_is_accepted_with_its_limits(place: Place) -> None:
    code = place.card()
    said = place.radclient("auth", f'User-Name="{code}"', f'User-Password="{code}"')
    received = said.partition("Received ")[2]
    assert received.startswith("Access-Accept")
    assert "Message-Authenticator = 0x" in received and "Class = 0x" in received
    assert "Session-Timeout = 7200" in received and "Acct-Interim-Interval = 300" in received
    assert "ChilliSpot-Max-Total-Octets = 500000000" in received
    assert "WISPr-Bandwidth-Max-Down = 2000000" in received


def test_a_wrong_code_is_rejected_in_plain_words(place: Place) -> None:
    said = place.radclient("auth", 'User-Name="123456789012"', 'User-Password="123456789012"')
    received = said.partition("Received ")[2]
    assert received.startswith("Access-Reject")
    assert 'Reply-Message = "Kode salah.' in received


def test_accounting_is_answered_and_counted(place: Place) -> None:
    code = place.card()
    said = place.radclient("auth", f'User-Name="{code}"', f'User-Password="{code}"')
    (class_value,) = re.findall(r"Class = (0x[0-9a-f]+)", said)
    for status, time_s, up, down in (
        ("Start", 0, 0, 0),
        ("Interim-Update", 300, 100, 5_000_000_000),
        ("Stop", 400, 200, 6_000_000_000),
    ):
        answer = place.radclient(
            "acct",
            f"Acct-Status-Type={status}",
            'Acct-Session-Id="r1"',
            f"Class={class_value}",
            f"Acct-Session-Time={time_s}",
            f"Acct-Input-Octets={up}",
            f"Acct-Output-Octets={down % 2**32}",
            f"Acct-Output-Gigawords={down // 2**32}",
        )
        assert "Received Accounting-Response" in answer
    shown = pesisir("voucher", "show", code, "--dir", place.directory, "--json").json
    assert shown["octets_used"] == 6_000_000_200
    assert (shown["octets_left"], shown["open_sessions"]) == (0, 0)


def test_status_server_is_answered(place: Place) -> None:
    assert "Received Access-Accept" in place.radclient("status")


def test_a_wrong_secret_or_a_missing_signature_gets_no_answer(place: Place) -> None:
    code = place.card()
    login = [f'{name}="{code}"' for name in ("User-Name", "User-Password")]
    assert place.radclient("auth", *login) != ""  # from now on this address must sign
    assert place.radclient("auth", *login, is_signed=False) == ""
    assert place.radclient("auth", *login, secret="another") == ""
    assert place.radclient("acct", "Acct-Status-Type=Start", secret="another") == ""

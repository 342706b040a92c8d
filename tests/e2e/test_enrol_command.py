"""A box from its token to its revocation, by the commands of people, on a running hub and node."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command import SETTINGS, RunningNode, pesisir
from tests.e2e.hub_process import RunningHub

AUDITOR = Path(__file__).resolve().parents[2] / "docs" / "verify-ledger.py"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Path]:
    """The directory of a running hub with the site TJL, whose file lies in it."""
    directory = tmp_path / "hub"
    with RunningHub(directory):
        added = pesisir("site", "add", "TJL", "Desa Tanjung", "--zone", "WITA", "--dir", directory)
        assert added.status == 0, added.err
        yield directory


def answer(*words: Any) -> Any:
    """What a command says as JSON."""
    found = pesisir(*words, "--json")
    assert found.status == 0, found.err
    return json.loads(found.out)


def test_a_blank_box_reports_changes_its_key_and_is_revoked(hub: Path, tmp_path: Path) -> None:
    box = tmp_path / "box"
    file = hub / "pesisir-TJL.enrol"
    assert file.stat().st_mode & 0o077 == 0
    enrolled = answer("enrol", file, "--dir", box)
    assert (enrolled["state"], enrolled["site"]) == ("pending", "TJL")
    wrong = pesisir("approve", "TJL", "--words", "abad abang acara adik agung ahli", "--dir", hub)
    assert wrong.status == 1 and "not this box's" in wrong.err
    words = " ".join(enrolled["words"])
    assert answer("approve", "TJL", "--words", words, "--dir", hub)["node"] == enrolled["node"]
    assert answer("enrol", file, "--dir", box)["state"] == "active"
    (box / "pesisir.toml").write_text(SETTINGS, encoding="utf-8")
    with RunningNode(box):
        assert pesisir("sync", "--dir", box).status == 0
        assert answer("enrol", "--new-key", "--dir", box)["node"] == enrolled["node"]
        assert pesisir("sync", "--dir", box).status == 0
        (site,) = answer("site", "list", "--dir", hub)
        assert (site["state"], site["node"]) == ("up", enrolled["node"])
        status = answer("ledger", "status", "--dir", box)
        # The record of the new key is written with the next commit.
        assert status["size"] - 1 <= site["verified_records"] <= status["size"]
        # What was signed with the old key and with the new one is one log, for either verifier.
        file, keys = tmp_path / "log.ledger", tmp_path / "log.keys"
        answer("ledger", "export", file, "--dir", box)
        keys.write_text("\n".join(status["keys"]), encoding="ascii")
        assert len(status["keys"]) == 3
        for more in ((), ("--key", keys)):
            found = pesisir("ledger", "verify", file, *more)
            assert (found.status, "GOOD" in found.out) == (0, True), found.err
        other = subprocess.run(
            [sys.executable, str(AUDITOR), str(file), str(keys)], capture_output=True, check=False
        )
        assert other.returncode == 0, other.stdout
        revoked = ("box", "revoke", enrolled["node"], "--reason", "kotak dicuri", "--dir", hub)
        assert pesisir(*revoked).status == 0
        refused = pesisir("sync", "--dir", box)
        assert refused.status == 1 and "right to report. Residents are served" in refused.err
        assert refused.err.count("..") == 0
        (looked,) = [one for one in answer("check", "--dir", box)["checks"] if one["name"] == "hub"]
        assert looked["status"] == "warning" and "right to report; residents" in looked["message"]
    (site,) = answer("site", "list", "--dir", hub)
    assert (site["state"], site["node"]) == ("none", None)


def test_people_of_a_hub_come_and_go_by_the_same_commands(hub: Path) -> None:
    made = answer("operator", "add", "budi", "--role", "reviewer", "--dir", hub)
    assert made["role"] == "reviewer" and len(made["password"]) == 19
    assert pesisir("operator", "add", "x", "--role", "operator", "--dir", hub).status == 1
    names = [one["name"] for one in answer("operator", "list", "--dir", hub)]
    assert names == ["admin", "budi"]
    assert answer("operator", "password", "budi", "--dir", hub)["password"] != made["password"]
    assert pesisir("operator", "remove", "budi", "--dir", hub).status == 0
    assert pesisir("operator", "remove", "admin", "--dir", hub).status == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("enrol", "/nowhere/x.enrol"), "There is no file"),
        (("enrol", "https://127.0.0.1:9", "abc"), "3 signs; expected 48"),
        (("approve", "TJL"), "no hub's directory"),
    ],
)
def test_what_cannot_be_is_one_plain_sentence(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    done = pesisir(*words, "--dir", tmp_path / "blank")
    assert done.status == 1
    assert said in done.err and len(done.err.splitlines()) == 1

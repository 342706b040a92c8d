"""Commands of the counter: top-ups, extensions, ranges, blocked phones, devices without a card."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command import pesisir

REASON = ("--reason", "rapat desa")
ADDRESS = "02:5a:11:22:33:44"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory without a running node, with a profile."""
    directory = tmp_path / "node"
    assert pesisir("init", "--site", "KMAL", "--dir", directory).status == 0
    limits = ("--data-total", "10MB", "--time-total", "2h", "--valid", "7d")
    assert pesisir("profile", "set", "p", *limits, "--dir", directory).status == 0
    yield directory


def cards(place: Path, count: int) -> list[dict[str, Any]]:
    issued = pesisir(
        *("voucher", "issue", "--profile", "p", "--count", str(count), "--json", "--dir", place)
    )
    found: list[dict[str, Any]] = issued.json["vouchers"]
    return found


def test_a_card_is_topped_up_and_extended_with_a_reason(place: Path) -> None:
    [card] = cards(place, 1)
    words = ("voucher", "top-up", card["serial"], "--dir", place)
    shown = pesisir(*words, "--data", "1.5MB", "--time", "30m", *REASON, "--json").json
    assert (shown["octets_left"], shown["seconds_left"]) == (11_500_000, 9_000)
    assert shown["octets_used"] == 0
    shown = pesisir(
        *("voucher", "extend", card["code"], "--for", "2d", *REASON, "--json", "--dir", place)
    ).json
    assert shown["extra_valid_s"] == 2 * 86_400
    shown = pesisir("voucher", "show", card["serial"], "--json", "--dir", place).json
    assert [(one["action"], one["reason"], one["details"]) for one in shown["history"]] == [
        ("voucher.extend", "rapat desa", "+2d"),
        ("voucher.top_up", "rapat desa", "+1.5MB, +30m"),
        ("voucher.issue", "", "1 x p"),
    ]
    assert {one["operator"] for one in shown["history"]} == {"command line"}
    text = pesisir("voucher", "show", card["serial"], "--dir", place).out
    assert "voucher.top_up" in text and "11.5 MB" in text
    assert card["code"] not in json.dumps(shown)
    for more, status, part in (
        (("--data", "1MB"), 2, "--reason"),
        (REASON, 2, "--data"),
        (("--data", "banyak", *REASON), 1, "banyak"),
        (("--time", "30", *REASON), 1, "30"),
        (("--data", "1MB", "--reason", " "), 1, "reason"),
    ):
        assert part in pesisir(*words, *more).sentence(status)
    extend = ("voucher", "extend", card["serial"], "--dir", place)
    assert "--for" in pesisir(*extend, *REASON).sentence(2)
    assert "lama" in pesisir(*extend, "--for", "lama", *REASON).sentence(1)


def test_a_range_is_replaced(place: Path) -> None:
    made = cards(place, 4)
    first, last = made[1]["serial"], made[3]["serial"]
    pesisir("voucher", "revoke", made[2]["serial"], *REASON, "--dir", place)
    words = ("voucher", "replace", f"{first}..{last}", *REASON, "--dir", place)
    issued = pesisir(*words, "--json").json
    assert [one["replaces"] for one in issued["vouchers"]] == [first, last]
    assert issued["left_out"] == [{"serial": made[2]["serial"], "why": "ended"}]
    assert "A001-02" in pesisir(*words).sentence(1)
    more = ("voucher", "replace", f"{made[0]['serial']}..{last}", *REASON, "--dir", place)
    assert f"Left out: {first} (ended)" in pesisir(*more).out


def test_phones_are_blocked_and_let_in_again(place: Path) -> None:
    block = ("device", "block", ADDRESS, "--dir", place)
    done = pesisir(*block, *REASON, "--json").json
    assert (done["mac"], done["site"], done["reason"]) == ("025a11223344", "KMAL", "rapat desa")
    assert "blocked already" in pesisir(*block, *REASON).sentence(1)
    listed = ("device", "list", "--blocked", "--dir", place)
    [found] = pesisir(*listed, "--json").json
    assert (found["mac"], found["blocked_by"]) == ("025a11223344", "command line")
    assert ADDRESS in pesisir(*listed).out
    unblock = ("device", "unblock", "025A-1122-3344", "--dir", place)
    assert pesisir(*unblock, "--json").json["blocked"] is False
    assert "not blocked" in pesisir(*unblock).sentence(1)
    assert pesisir(*listed, "--json").json == []
    assert "MAC" in pesisir("device", "block", "hp-itu", *REASON, "--dir", place).sentence(1)


def test_devices_without_a_card(place: Path) -> None:
    add = ("device", "add", "Mesin absen", "--mac", ADDRESS, "--profile", "p", "--dir", place)
    added = pesisir(*add, "--kind", "attendance", "--alarm-after", "2h", "--json").json
    assert (added["kind"], added["alarm_after_s"], added["site"]) == ("attendance", 7200, "KMAL")
    listed = ("device", "list", "--dir", place)
    [found] = pesisir(*listed, "--json").json
    assert found["name"] == "Mesin absen" and found["last_heard_at"] is None
    assert "Mesin absen" in pesisir(*listed, "--site", "KMAL").out
    assert pesisir("voucher", "list", "--json", "--dir", place).json == []
    for more, part in (
        ((), "known already"),
        (("--alarm-after", "1s"), "5 minutes"),
        (("--profile", "q"), "q"),
    ):
        assert part in pesisir(*add, *more).sentence(1)
    assert "kulkas" in pesisir(*add, "--kind", "kulkas").sentence(2)
    remove = ("device", "remove", "mesin absen", "--dir", place)
    assert "--reason" in pesisir(*remove).sentence(2)
    assert pesisir(*remove, *REASON, "--json").json["removed"] is True
    assert "no known device" in pesisir(*remove, *REASON).sentence(1)

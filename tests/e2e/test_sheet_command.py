"""`pesisir voucher issue --sheet`: the cards in a file of the person who asked."""

import stat
from pathlib import Path

import pytest

from portal.domain.voucher import show
from portal.printing import LAYOUTS
from portal.sheets.layouts import LAYOUT_NAMES
from tests.e2e.command import RunningNode, pesisir
from tests.unit import print_samples as samples


@pytest.fixture
def place(tmp_path: Path) -> Path:
    directory = tmp_path / "node"
    made = pesisir("init", "--name", "WiFi Desa Tanjung", "--zone", "WITA", "--dir", directory)
    assert made.status == 0, made.err
    done = pesisir(
        *("profile", "set", "harian", "--data-total", "2GB", "--valid", "7d"),
        *("--dir", directory),
    )
    assert done.status == 0, done.err
    (directory / "pesisir.toml").write_text(
        '[http]\nlisten = "127.0.0.1:0"\n[radius]\nauth = "127.0.0.1:0"\nacct = "127.0.0.1:0"\n'
    )
    return directory


def test_the_command_and_the_printer_know_the_same_layouts() -> None:
    assert tuple(LAYOUTS) == LAYOUT_NAMES


@pytest.mark.parametrize("layout", LAYOUT_NAMES)
def test_the_sheet_holds_the_cards_that_were_issued(place: Path, layout: str) -> None:
    file = place.parent / "kartu.pdf"
    done = pesisir(
        *("voucher", "issue", "--profile", "harian", "--count", "3", "--note", "Posyandu"),
        *("--use-before", "2098-12-31", "--sheet", file, "--layout", layout, "--json"),
        *("--dir", place),
    ).json
    assert done["sheet"] == str(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = [
        url for page in samples.rendered(file.read_bytes(), 203) for url in samples.decoded(page)
    ]
    assert sorted(found) == sorted(card["url"] for card in done["vouchers"])
    words = samples.words_of(file.read_bytes())
    for card in done["vouchers"]:
        assert show(card["code"]) in words and card["serial"] in words
    assert "2 GB" in words and "2098" in words and "GRATIS" in words


def test_without_json_the_codes_are_in_the_file_only(place: Path) -> None:
    file = place.parent / "kartu.pdf"
    done = pesisir(
        *("voucher", "issue", "--profile", "harian", "--count", "2", "--sheet", file),
        *("--dir", place),
    )
    assert (done.status, done.out) == (0, f"Batch A001: 2 cards in {file}\n")
    assert len(samples.decoded(samples.rendered(file.read_bytes(), 203)[0])) == 2


def test_a_running_node_issues_and_the_command_draws(place: Path) -> None:
    file = place.parent / "kartu.pdf"
    with RunningNode(place):
        done = pesisir(
            *("voucher", "issue", "--profile", "harian", "--sheet", file, "--json"),
            *("--dir", place),
        ).json
    assert samples.decoded(samples.rendered(file.read_bytes(), 203)[0]) == [
        done["vouchers"][0]["url"]
    ]


def test_nothing_is_issued_for_a_file_that_cannot_be(place: Path) -> None:
    there = place.parent / "kartu.pdf"
    there.write_text("mine")
    for file, words in (
        (there, "exists already"),
        (place.parent / "no" / "kartu.pdf", "There is no directory"),
        (place.parent, "exists already"),
    ):
        refused = pesisir(
            "voucher", "issue", "--profile", "harian", "--sheet", file, "--dir", place
        )
        assert words in refused.sentence()
    assert there.read_text() == "mine"
    assert pesisir("voucher", "list", "--json", "--dir", place).json == []


def test_a_layout_needs_a_file_and_must_be_known(place: Path) -> None:
    alone = pesisir("voucher", "issue", "--profile", "harian", "--layout", "58mm", "--dir", place)
    assert alone.status == 2 and "--sheet" in alone.err
    unknown = pesisir(
        *("voucher", "issue", "--profile", "harian", "--sheet", place.parent / "x.pdf"),
        *("--layout", "a5", "--dir", place),
    )
    assert unknown.status == 2 and "a4-40" in unknown.err
    assert pesisir("voucher", "list", "--json", "--dir", place).json == []

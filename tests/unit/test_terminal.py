"""Terminal: how numbers and tables read, and which directory a command is about."""

import io
import os
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from portal.cli import terminal
from portal.cli.terminal import Command, Group, details, duration, mac, octets, plural, table, when
from portal.errors import UserError


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9_994, "9.99 kB"),
        (9_996, "10.0 kB"),
        (99_960, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (500_000_000, "500 MB"),
        (1_234_567_890, "1.23 GB"),
        (5 * 10**15, "5000 TB"),
        (None, "unlimited"),
    ],
)
def test_octets_keep_three_digits(count: int | None, text: str) -> None:
    assert octets(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59, "59s"),
        (60, "1m 00s"),
        (3599, "59m 59s"),
        (7500, "2h 05m"),
        (90_000, "1d 01h"),
        (None, "unlimited"),
    ],
)
def test_durations_keep_two_units(seconds: int | None, text: str) -> None:
    assert duration(seconds) == text


def test_instants_are_local_to_the_zone() -> None:
    assert when(1_800_000_000, "Asia/Makassar") == "2027-01-15 16:00"
    assert when(1_800_000_000, "Asia/Jayapura") == "2027-01-15 17:00"
    assert when(None) == "-"
    assert len(when(1_800_000_000, "No/Where")) == len("2027-01-15 16:00")


def test_macs_read_as_people_write_them() -> None:
    assert mac("025a00112233") == "02:5a:00:11:22:33"
    assert mac("02-5A-00-11-22-33") == "02-5A-00-11-22-33"
    assert mac(None) == "-"


def test_plurals() -> None:
    assert plural(1, "card") == "1 card"
    assert plural(12_345, "card") == "12 345 cards"


def test_tables_are_aligned_and_numbers_stand_at_the_right() -> None:
    lines = click.unstyle(table(["A", "USED"], [["x", "1 B"], ["long", "12 kB"]], right="USED"))
    assert lines.splitlines() == ["A      USED", "x       1 B", "long  12 kB"]
    assert click.unstyle(table(["A", "B"], [])) == "A  B"
    assert details([("Name", "x"), ("Longer", "")]) == "Name:   x\nLonger:"


def make() -> click.Group:
    @click.group(cls=Group, is_root=True)
    def root() -> None:
        pass

    @root.group("inner")
    def inner() -> None:
        pass

    @inner.command("where")
    def where() -> None:
        click.echo(str(terminal.directory()))

    assert isinstance(where, Command) and isinstance(inner, Group)
    return root


@pytest.mark.parametrize(
    "words",
    [
        ["--dir", "/d", "inner", "where"],
        ["inner", "--dir", "/d", "where"],
        ["inner", "where", "--dir", "/d"],
        ["--dir", "/x", "inner", "where", "--dir", "/d"],
    ],
)
def test_dir_may_stand_anywhere_and_the_last_counts(words: list[str]) -> None:
    result = CliRunner().invoke(make(), words, env={"PESISIR_DIR": "/from-environment"})
    assert result.output == "/d\n"


def test_without_dir_the_environment_counts_then_the_current_directory(tmp_path: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(make(), ["inner", "where"], env={"PESISIR_DIR": "/e"}).output == "/e\n"
    old = Path.cwd()
    os.chdir(tmp_path)
    try:
        for value in (None, ""):
            result = runner.invoke(make(), ["inner", "where"], env={"PESISIR_DIR": value})
            assert result.output == f"{tmp_path}\n"
    finally:
        os.chdir(old)


class Screen(io.StringIO):
    """A terminal on stderr."""

    def isatty(self) -> bool:
        return True


def test_long_work_shows_a_bar_to_people_only(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 0.1, 1.0, 1.1, 1.2])
    for screen, is_shown in ((Screen(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setattr("portal.cli.terminal.time.monotonic", lambda: next(moments))
        with terminal.progress("Issuing cards") as report:
            for done in (100, 200, 300):
                report(done, 1000)
        monkeypatch.undo()
        assert ("Issuing cards" in screen.getvalue()) == is_shown
        assert ("100%" in screen.getvalue()) == is_shown


def test_a_bar_of_work_that_is_stopped_stays_where_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 1.0, 1.1, 1.2, 1.3])
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr("portal.cli.terminal.time.monotonic", lambda: next(moments))
    with pytest.raises(UserError), terminal.progress("Replacing cards") as report:
        report(200, 1000)
        report(300, 1000)
        raise UserError("The disk is full.")
    monkeypatch.undo()
    assert "30%" in screen.getvalue() and "100%" not in screen.getvalue()


def test_short_work_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    with terminal.progress("Issuing cards") as report:
        report(1, 2)
        report(2, 2)
    assert screen.getvalue() == ""

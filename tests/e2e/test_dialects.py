"""The dialect suite: every family's habits against a real node, and that the suite can fail."""

import asyncio
import json
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from portal.cards.finding import CardFinding
from portal.errors import UserError
from portal.practice import suite as practice_suite
from portal.practice.cases import CASES
from portal.practice.dialects import DIALECTS, Dialect
from portal.practice.suite import Outcome
from radius.nas import family_names
from tests.e2e.village import PESISIR, environment


def outcomes(*families: str, cases: tuple[str, ...] = ()) -> list[Outcome]:
    return asyncio.run(practice_suite.run(families, cases))


def outcome(family: str, case: str) -> Outcome:
    (found,) = outcomes(family, cases=(case,))
    return found


@pytest.fixture(scope="module")
def everything() -> dict[tuple[str, str], Outcome]:
    return {(one.case, one.family): one for one in outcomes()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.key)
@pytest.mark.parametrize("family", DIALECTS)
def test_every_habit_is_taken_right(
    everything: dict[tuple[str, str], Outcome], case: Any, family: str
) -> None:
    found = everything[case.title, family]
    assert found.outcome == ("none" if family in case.left_out else "pass"), found.detail
    assert found.detail == case.left_out.get(family, "")


def test_the_suite_has_every_family() -> None:
    assert tuple(DIALECTS) == family_names()
    assert len({case.key for case in CASES}) == len(CASES) >= 20


# --- that it can fail


def dialect(monkeypatch: pytest.MonkeyPatch, family: str, **habits: Any) -> None:
    changed: Dialect = replace(DIALECTS[family], **habits)
    monkeypatch.setitem(DIALECTS, family, changed)


def test_a_gateway_that_swaps_without_a_word_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    dialect(monkeypatch, "mikrotik", swaps=True)
    found = outcome("mikrotik", "directions")
    assert found.outcome == "fail"
    assert found.detail == (
        "expected input_octets 100003, output_octets 9000011,"
        " seen input_octets 9000011, output_octets 100003"
    )


def test_a_gateway_that_cuts_a_password_shorter_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    dialect(monkeypatch, "uspot", password_octets=15)
    found = outcome("uspot", "hand-off")
    assert found.outcome == "fail" and found.detail.startswith("refused: 'Kode salah.")


def test_a_node_that_counts_twice_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = CardFinding.show

    def twice(cards: CardFinding, key: str) -> dict[str, Any]:
        shown = right(cards, key)
        return {**shown, "octets_used": 2 * shown["octets_used"]}

    # What a packet passes may be compiled, and then nothing in it can be exchanged.
    monkeypatch.setattr(CardFinding, "show", twice)
    assert outcome("coova", "lost-stop").outcome == "fail"


@pytest.mark.parametrize("name", ["cisco", ""])
def test_an_unknown_family_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="expected one of coova, generic, mikrotik"):
        outcomes(name)


# --- the command


def command(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*PESISIR, "gateway", "suite", *words],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_command_prints_the_table() -> None:
    done = command("--family", "uspot", "--family", "generic")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["HABIT", "GENERIC", "USPOT"]
    assert lines[-1].endswith(" passed, 0 failed; -: no habit of that make.")
    (row,) = [line.split() for line in lines if line.startswith("counters fall")]
    assert row[-2:] == ["pass", "-"]


def test_the_command_prints_json() -> None:
    done = command("--family", "generic", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["failed"], found["passed"] + found["failed"]) == (
        0,
        sum(case["outcome"] != "none" for case in found["cases"]),
    )
    assert {"case", "family", "outcome", "detail"} == set(found["cases"][0])


def test_a_failure_is_told_and_sets_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from portal.cli.gateways import suite

    async def failing(families: tuple[str, ...]) -> list[Outcome]:
        return [
            Outcome("Stop lost", "coova", "pass"),
            Outcome("Stop lost", "uspot", "fail", "expected seconds_used 350, seen 700"),
        ]

    run: Callable[[tuple[str, ...]], Awaitable[list[Outcome]]] = failing
    monkeypatch.setattr(practice_suite, "run", run)
    with pytest.raises(SystemExit) as left:
        suite.main([], standalone_mode=False)
    assert left.value.code == 1
    shown = capsys.readouterr().out
    assert "FAIL" in shown and "Stop lost, uspot: expected seconds_used 350, seen 700" in shown
    assert shown.endswith("1 passed, 1 failed; -: no habit of that make.\n")

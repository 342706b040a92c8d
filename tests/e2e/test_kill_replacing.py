"""The power is cut while many cards are replaced: each is replaced whole or not at all."""

import random
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

from portal.store.db import FILE_NAME
from tests.e2e.command import PROGRAM, pesisir

CARDS = 1_000
KILLS = 6
PIECE = 50
REASON = ("--reason", "sheet was stolen")


def rows(place: Path, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(place / FILE_NAME)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def replaced(place: Path) -> int:
    """How many cards are replaced, after a look at all of them."""
    ended = rows(
        place, "SELECT account_id FROM voucher WHERE replaced_at IS NOT NULL ORDER BY account_id"
    )
    new = rows(place, "SELECT account_id FROM voucher WHERE serial NOT LIKE 'A001-%'")
    assert sorted(new) == ended, "an old card ended without a new one, or a new one has no old one"
    living = rows(
        place,
        "SELECT account_id, COUNT(*) FROM voucher WHERE replaced_at IS NULL GROUP BY account_id",
    )
    assert len(living) == CARDS and {n for _, n in living} == {1}
    assert len(rows(place, "SELECT 1 FROM audit WHERE action = 'voucher.replace'")) == len(ended)
    for batch, first, last, note in rows(
        place,
        "SELECT b.id, MIN(v.serial), COUNT(*), b.note FROM batch b JOIN voucher v"
        " ON v.batch_id = b.id WHERE b.note <> '' GROUP BY b.id",
    ):
        olds = rows(
            place,
            "SELECT o.serial FROM voucher v JOIN voucher o ON o.account_id = v.account_id"
            f" AND o.id < v.id WHERE v.batch_id = {batch} ORDER BY v.id",
        )
        assert len(olds) == last and str(first).endswith("-01")
        assert note == f"replaces {olds[0][0]} to {olds[-1][0]}"
    return len(ended)


def test_a_power_cut_while_replacing_leaves_each_card_whole(tmp_path: Path) -> None:
    place = tmp_path / "node"
    pesisir("init", "--site", "KMAL", "--dir", place)
    pesisir("profile", "set", "p", "--data-total", "10MB", "--dir", place)
    issue = ("voucher", "issue", "--profile", "p", "--count", str(CARDS), "--json")
    serials = [one["serial"] for one in pesisir(*issue, "--dir", place).json["vouchers"]]
    words = ["voucher", "replace", f"{serials[0]}..{serials[-1]}", *REASON, "--dir", str(place)]
    chance = random.Random(20261201)
    stops = []
    for _ in range(KILLS):
        before = replaced(place)
        process = subprocess.Popen(
            [*PROGRAM, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        give_up_s = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < give_up_s:
            if len(rows(place, "SELECT 1 FROM voucher WHERE replaced_at IS NOT NULL")) > before:
                break
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        process.wait()
        stops.append(replaced(place))
    assert stops == sorted(stops)
    # Else it was never stopped on the way, and the test has shown nothing.
    on_the_way = [n for n in stops if 0 < n < CARDS]
    assert on_the_way and all(n % PIECE == 0 for n in on_the_way), stops
    if stops[-1] < CARDS:
        done = pesisir(*words, "--json").json
        assert len(done["vouchers"]) + stops[-1] == CARDS
        assert {one["why"] for one in done["left_out"]} == {"ended"}
    assert replaced(place) == CARDS

"""Replacing many cards: in pieces, each card whole or not at all, and told how far it came."""

import asyncio
from pathlib import Path
from typing import Any

from tests.unit.aaa.cards_stage import PHONE_A, PHONE_B, deeds, is_let_in, refusal, run, use
from tests.unit.aaa.rig import NodeRig

CARDS = 170


def count(rig: NodeRig, sql: str) -> int:
    found: int = rig.node.store.database.all(sql)[0][0]
    return found


def notes(rig: NodeRig) -> list[str]:
    rows = rig.node.store.database.all("SELECT note FROM batch ORDER BY id")
    return [row["note"] for row in rows]


def test_others_have_their_turn_between_the_pieces(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        made = await rig.cards("p", CARDS, data_total="10MB")
        [(_, other)] = await rig.cards("p")
        serials = [serial for serial, _ in made]
        reported: list[tuple[int, int]] = []
        came: list[tuple[int, bool]] = []

        async def come() -> None:
            while len(reported) < 4:
                n = len(came)
                is_in = await is_let_in(rig, other, f"s{n}")
                came.append((len(reported), is_in))

        coming = asyncio.create_task(come())
        issued = await rig.node.vouchers.replace(
            serials, "hilang", report=lambda done, total: reported.append((done, total))
        )
        await coming
        assert reported == [(50, CARDS), (100, CARDS), (150, CARDS), (CARDS, CARDS)]
        assert all(is_in for _, is_in in came)
        assert {pieces for pieces, _ in came} >= {0, 1, 2, 3}, "nobody's turn between two pieces"
        new = issued["vouchers"]
        assert [one["replaces"] for one in new] == serials
        assert len({one["serial"] for one in new}) == CARDS
        assert notes(rig)[-1] == f"replaces {serials[0]} to {serials[-1]}"
        await rig.restart()
        assert not await is_let_in(rig, made[120][1], "s30", PHONE_B)
        assert await is_let_in(rig, new[120]["code"], "s31", PHONE_B)
        assert (await deeds(rig, new[120]["serial"]))[0][1:3] == ("voucher.replace", "hilang")

    run(tmp_path, story)


def test_a_full_disk_on_the_way_leaves_each_card_whole(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        made = await rig.cards("p", CARDS, data_total="10MB")
        await use(rig, made[160][1], 3_000_000, "s1")
        serials = [serial for serial, _ in made]
        writer = rig.node.store.database._writer

        def fill_up(done: int, total: int) -> None:
            if done == 100:
                coming.append(asyncio.ensure_future(no_more_room()))

        async def no_more_room() -> None:
            rows = list(await writer.execute_fetchall("PRAGMA page_count"))
            await writer.execute_fetchall(f"PRAGMA max_page_count = {rows[0][0]}")

        coming: list[Any] = []
        cards = rig.node.vouchers
        stopped = cards.replace(serials, "hilang", report=fill_up)
        assert await refusal(stopped) == "cards.replace_stopped"
        await writer.execute_fetchall("PRAGMA max_page_count = 1000000")
        reached = count(rig, "SELECT COUNT(*) FROM voucher WHERE replaced_at IS NOT NULL")
        assert 100 <= reached < CARDS
        assert count(rig, "SELECT COUNT(*) FROM audit WHERE action = 'voucher.replace'") == reached
        assert not await is_let_in(rig, made[reached - 1][1], "s2")
        assert await is_let_in(rig, made[reached][1], "s2")
        batch = notes(rig)
        assert batch[-1] == f"replaces {serials[0]} to {serials[reached - 1]}"
        # Their codes can still be printed, and the rest goes on where it stopped.
        assert len(await cards.codes_of("A002")) == reached
        again = await cards.replace_range(serials[0], serials[-1], "hilang")
        out = {one["serial"]: one["why"] for one in again["left_out"]}
        assert out[serials[0]] == "ended" and out[serials[160]] == "used"
        assert [one["replaces"] for one in again["vouchers"]] == [
            serial for serial in serials[reached + 1 :] if serial != serials[160]
        ]

    run(tmp_path, story)


def test_a_card_that_is_used_while_the_others_are_replaced_stays_good(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        made = await rig.cards("p", CARDS)
        serials = [serial for serial, _ in made]
        logins: list[Any] = []

        def somebody_comes(done: int, total: int) -> None:
            if done == 50:
                logins.append(asyncio.ensure_future(is_let_in(rig, made[140][1], "s1", PHONE_A)))

        issued = await rig.node.vouchers.replace_range(
            serials[0], serials[-1], "macet", report=somebody_comes
        )
        assert await logins[0]
        assert issued["left_out"] == [{"serial": serials[140], "why": "used"}]
        assert len(issued["vouchers"]) == CARDS - 1
        numbers = [int(one["serial"].split("-")[1]) for one in issued["vouchers"]]
        assert numbers == list(range(1, CARDS)), "no number is left out"
        assert await is_let_in(rig, made[140][1], "s2", PHONE_A)

    run(tmp_path, story)

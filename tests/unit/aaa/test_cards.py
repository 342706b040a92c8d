"""Cards at the desk: giving, taking back, revoking, replacing, finding."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from portal.cards.finding import CardFinding
from portal.door import Phone, Problem
from portal.errors import DeskError
from portal.store.db import Database
from portal.store.restored import number_ahead
from radius.packet import SERVICE_TYPE, integer_attribute
from tests.unit.aaa.cards_stage import (
    DAY_S,
    GW,
    MAC_A,
    MB,
    PHONE_B,
    deeds,
    is_let_in,
    refusal,
    run,
    use,
)
from tests.unit.aaa.rig import NodeRig

# Giving


def test_a_card_is_given_and_taken_back_within_five_minutes(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        await rig.cards("p")
        cards = rig.node.vouchers
        given = await cards.give("p", site="TJL", by="ani")
        serial, code = given["serial"], given["code"]
        assert given["url"].endswith(f"/{code}")
        shown = cards.show(serial)
        assert (shown["state"], shown["given_by"]) == ("unused", "ani")
        assert shown["given_at"] == shown["issued_at"] == rig.node.now()
        assert (await cards.confirm_given(serial, by="budi"))["given_by"] == "ani"
        assert await deeds(rig, serial) == [("ani", "voucher.give", "", "p")]
        rig.sleep(300)
        taken = await cards.undo_give(serial, by="ani")
        assert (taken["state"], taken["end_reason"]) == ("revoked", "undo")
        assert not await is_let_in(rig, code, "s1")
        await rig.restart()
        assert not await is_let_in(rig, code, "s2")
        actions = [action for _, action, *_ in await deeds(rig, serial)]
        assert actions == ["voucher.undo", "voucher.give"]
        assert await refusal(rig.node.vouchers.undo_give(serial)) == "cards.revoked"

    run(tmp_path, story)


def test_what_cannot_be_taken_back(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(sheet, _)] = await rig.cards("p")
        cards = rig.node.vouchers
        assert await refusal(cards.undo_give(sheet)) == "cards.undo_not_given"
        late, used = await cards.give("p"), await cards.give("p")
        await use(rig, used["code"], 1, "s1")
        assert await refusal(cards.undo_give(used["serial"])) == "cards.undo_used"
        rig.sleep(301)
        assert await refusal(cards.undo_give(late["serial"])) == "cards.undo_late"
        assert await is_let_in(rig, late["code"], "s2", PHONE_B)
        # The new card holds what the old one had left.
        issued = await cards.replace([sheet], "rusak")
        new = issued["vouchers"][0]["serial"]
        await cards.confirm_given(new, by="ani")
        assert await refusal(cards.undo_give(new)) == "cards.undo_replacement"

    run(tmp_path, story)


def test_a_card_of_a_sheet_is_marked_as_given_once(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, _), (other, _)] = await rig.cards("p", 2)
        cards = rig.node.vouchers
        await cards.confirm_given(serial, by="ani")
        rig.sleep(60)
        again = await cards.confirm_given(serial, by="budi")
        assert (again["given_by"], again["given_at"]) == ("ani", rig.node.now() - 60)
        await cards.revoke([other], "rusak")
        assert await refusal(cards.confirm_given(other)) == "cards.revoked"

    run(tmp_path, story)


def test_cards_made_at_once_have_different_serials_and_codes(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        await rig.cards("p")
        cards = rig.node.vouchers
        made = await asyncio.gather(
            cards.issue("p", count=120), *(cards.give("p") for _ in range(20))
        )
        vouchers = [*made[0]["vouchers"], *made[1:]]
        assert len({one["serial"] for one in vouchers}) == 140
        assert len({one["code"] for one in vouchers}) == 140
        numbers = {one["serial"].split("-")[0] for one in vouchers}
        assert len(numbers) == 21
        await rig.restart()
        assert (await rig.node.vouchers.give("p"))["serial"].split("-")[0] not in numbers

    run(tmp_path, story)


def test_a_large_batch_exists_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        await rig.cards("p")
        cards = rig.node.vouchers
        stored = rig.node.store.database
        before = counts(stored)
        seen: list[int] = []
        is_begun = asyncio.Event()

        def report(done: int, total: int) -> None:
            seen.append(done)
            is_begun.set()
            if done == 150 and fails:
                raise DeskError("csrf")

        fails = True
        with pytest.raises(DeskError):
            await cards.issue("p", count=230, by="ani", report=report)
        assert counts(stored) == before
        fails = False
        is_begun.clear()
        making = asyncio.create_task(cards.issue("p", count=230, by="ani", report=report))
        await is_begun.wait()
        assert counts(stored)[1] > before[1]
        # Nobody finds or revokes what is not there yet; one card is given meanwhile.
        await cards.give("p", by="budi")
        assert not any(one["serial"].startswith("A003") for one in await cards.listed())
        assert await refusal(cards.revoke_batch("A003", "x", by="ani")) == "cards.unknown_batch"
        made = await making
        assert (made["batch"], len(made["vouchers"])) == ("A003", 230)
        assert seen[-4:] == [50, 100, 150, 200]
        assert await deeds(rig, "A003-230") == [("ani", "voucher.issue", "", "230 x p")]
        assert await is_let_in(rig, made["vouchers"][229]["code"], "s1")
        accounts = {cards.find(card["serial"]).account.id for card in made["vouchers"]}
        assert len(accounts) == 230
        assert counts(stored) == (before[0] + 2, before[1] + 231, before[2] + 231)

    run(tmp_path, story)


def test_what_a_power_cut_left_of_a_large_batch_is_removed_at_the_start(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        await rig.cards("p")
        before = counts(rig.node.store.database)
        is_begun = asyncio.Event()
        making = asyncio.create_task(
            rig.node.vouchers.issue("p", count=500, report=lambda done, total: is_begun.set())
        )
        await is_begun.wait()
        assert counts(rig.node.store.database)[1] > before[1]
        making.cancel()
        await rig.restart()
        assert counts(rig.node.store.database) == before
        again = await rig.node.vouchers.issue("p", count=3)
        assert again["batch"] == "A003", "the number of the lost batch is not used again"

    run(tmp_path, story)


def counts(database: Database) -> tuple[int, int, int]:
    """Batches, cards and accounts that are stored."""
    row = database.one(
        "SELECT (SELECT COUNT(*) FROM batch), (SELECT COUNT(*) FROM voucher),"
        " (SELECT COUNT(*) FROM account)"
    )
    assert row is not None
    return tuple(row)


def test_what_cannot_be_issued(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        await rig.cards("p")
        cards = rig.node.vouchers
        for count in (0, -1, 10_001):
            assert await refusal(cards.issue("p", count=count)) == "cards.count"
        assert await refusal(cards.issue("q")) == "cards.unknown_profile"
        assert await refusal(cards.give("q")) == "cards.unknown_profile"
        assert await refusal(cards.issue("p", use_before="besok")) == "cards.use_before_form"
        assert await refusal(cards.issue("p", use_before="2026-11-17")) == "cards.use_before_over"
        assert await refusal(cards.issue("p", note="x" * 201)) == "cards.note_long"
        # Today is a day on which a card may still be used.
        await cards.issue("p", use_before="2026-11-18", note="pasar")
        assert len(await cards.listed()) == 2

    run(tmp_path, story)


# The sealed copies


def test_a_sheet_is_printed_again_unchanged_without_cards_that_people_may_hold(
    tmp_path: Path,
) -> None:
    async def story(rig: NodeRig) -> None:
        made = await rig.cards("p", 5)
        batch = made[0][0].split("-")[0]
        cards = rig.node.vouchers
        await use(rig, made[0][1], 1, "s1")
        await cards.confirm_given(made[1][0], by="ani")
        await cards.revoke([made[2][0]], "rusak")
        told = await cards.codes_of(batch.lower(), by="ani")
        assert [(one["serial"], one["code"]) for one in told] == made[3:]
        assert (await cards.code_of(made[1][0], by="ani"))["code"] == made[1][1]
        for serial in (made[0][0], made[2][0]):
            assert await refusal(cards.code_of(serial)) == "cards.no_code"
        assert ("ani", "voucher.print", "", "2 of 5 cards") in await deeds(rig, made[3][0])
        assert ("ani", "voucher.show_code", "", "") in await deeds(rig, made[1][0])
        # What could be printed once more has not been cancelled by it.
        assert await is_let_in(rig, made[1][1], "s2", PHONE_B)
        rig.sleep(72 * 3600)
        assert await refusal(cards.codes_of(batch)) == "cards.no_codes"
        assert await refusal(cards.code_of(made[3][0])) == "cards.no_code"
        assert await refusal(cards.codes_of("Z999")) == "cards.unknown_batch"
        assert await refusal(cards.codes_of("buku")) == "cards.batch_name"

    run(tmp_path, story)


# Revoking and replacing


def test_a_selection_or_a_whole_batch_is_revoked(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        made = await rig.cards("p", 5)
        batch = made[0][0].split("-")[0]
        cards = rig.node.vouchers
        revoked = await cards.revoke([made[0][0], made[1][0], made[0][0]], "rusak", by="ani")
        assert [one["state"] for one in revoked] == ["revoked"] * 2
        assert await refusal(cards.revoke([made[2][0], made[0][0]], "x")) == "cards.revoked_already"
        assert rig.show(made[2][0])["state"] == "unused", "all of a selection, or none"
        assert await refusal(cards.revoke([], "x")) == "cards.none_named"
        assert await refusal(cards.revoke([made[2][0]], " ")) == "cards.reason_missing"
        rest = await cards.revoke_batch(batch, "hilang semua", by="budi")
        assert [one["serial"] for one in rest] == [serial for serial, _ in made[2:]]
        assert not await is_let_in(rig, made[4][1], "s1")
        assert await refusal(cards.revoke_batch(batch, "lagi")) == "cards.batch_over"
        assert await refusal(cards.revoke_batch("Z999", "lagi")) == "cards.unknown_batch"
        assert (await deeds(rig, made[4][0]))[0] == (
            *("budi", "voucher.revoke", "hilang semua"),
            "3 of 5 cards",
        )

    run(tmp_path, story)


def test_a_range_is_replaced_without_cards_that_people_may_hold(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        made = await rig.cards("p", 8, data_total="10MB")
        serials = [serial for serial, _ in made]
        cards = rig.node.vouchers
        await use(rig, made[2][1], 1, "s1")
        await cards.confirm_given(serials[3], by="ani")
        await cards.revoke([serials[4]], "rusak")
        issued = await cards.replace_range(serials[1], serials[5].lower(), "cetak macet", by="ani")
        assert [one["replaces"] for one in issued["vouchers"]] == [serials[1], serials[5]]
        assert issued["left_out"] == [
            {"serial": serials[2], "why": "used"},
            {"serial": serials[3], "why": "given"},
            {"serial": serials[4], "why": "ended"},
        ]
        assert await is_let_in(rig, made[3][1], "s2", PHONE_B)
        assert await is_let_in(rig, issued["vouchers"][0]["code"], "s3", "02-AA-BB-CC-DD-03")
        again = cards.replace_range(serials[1], serials[5], "lagi")
        assert await refusal(again) == "cards.range_empty"
        for first, last in (
            (serials[5], serials[1]),
            (serials[0], "A999-05"),
            ("satu", serials[5]),
            (serials[0], ""),
        ):
            assert await refusal(cards.replace_range(first, last, "x")) == "cards.range"
        # By name, the card in somebody's hand is replaced all the same.
        issued = await cards.replace([serials[3]], "kartu basah")
        assert not await is_let_in(rig, made[3][1], "s4", PHONE_B)

    run(tmp_path, story)


def test_a_card_given_while_its_range_is_replaced_stays_good(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        made = await rig.cards("p", 3)
        first, last = made[0][0], made[2][0]
        cards = rig.node.vouchers
        read = CardFinding.of_batch

        async def read_then_given(self: CardFinding, text: str) -> Any:
            rows = await read(self, text)
            await cards.confirm_given(made[1][0], by="ani")
            return rows

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(CardFinding, "of_batch", read_then_given)
            issued = await cards.replace_range(first, last, "macet")
        assert await is_let_in(rig, made[1][1], "s1")
        assert [one["replaces"] for one in issued["vouchers"]] == [first, last]
        assert issued["left_out"] == [{"serial": made[1][0], "why": "given"}]

    run(tmp_path, story)


def test_the_copy_of_a_new_card_is_told_until_the_new_card_is_used(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        made = await rig.cards("p", 2, data_total="10MB")
        cards = rig.node.vouchers
        for n, (_, code) in enumerate(made):
            await use(rig, code, 1, f"s{n}")
        rig.sleep(60)
        issued = await cards.replace([serial for serial, _ in made], "basah", by="ani")
        new, other = issued["vouchers"]
        # What was used is the old card; nobody holds the new one yet.
        assert (await cards.code_of(new["serial"]))["code"] == new["code"]
        assert len(await cards.codes_of(issued["batch"])) == 2
        await use(rig, new["code"], 1, "s8")
        assert await refusal(cards.code_of(new["serial"])) == "cards.no_code"
        told = await cards.codes_of(issued["batch"])
        assert [one["serial"] for one in told] == [other["serial"]]

    run(tmp_path, story)


def test_cards_with_different_last_days_are_replaced_each_with_its_own(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        await rig.cards("p")
        cards = rig.node.vouchers
        made = [
            (await cards.issue("p", use_before=day))["vouchers"][0]["serial"]
            for day in ("2026-11-20", "2026-12-31")
        ]
        issued = await cards.replace(made, "rusak")
        ends = [cards.show(one["serial"])["use_before_at"] for one in issued["vouchers"]]
        assert ends == [cards.show(old)["use_before_at"] for old in made]
        assert ends[0] != ends[1]

    run(tmp_path, story)


def test_what_cannot_be_replaced(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(one, _), (two, _)] = await rig.cards("p", 2)
        [(other, _)] = await rig.cards("q")
        cards = rig.node.vouchers
        assert await refusal(cards.replace([one, other], "x")) == "cards.replace_mixed"
        await cards.replace([one], "hilang")
        assert await refusal(cards.replace([one], "hilang")) == "cards.replaced"
        assert await refusal(cards.revoke([one], "hilang")) == "cards.replaced"
        await cards.revoke([two], "rusak")
        assert await refusal(cards.replace([two], "hilang")) == "cards.replace_revoked"
        # Nothing of a refusal stays: the card can be changed by the next person.
        await cards.revoke([other], "rusak")

    run(tmp_path, story)


# Two people at once


def test_of_two_people_with_one_card_the_second_gets_a_sentence(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, _)] = await rig.cards("p", data_total="10MB", valid="7d")
        cards = rig.node.vouchers
        acts: list[Callable[[], Awaitable[object]]] = [
            lambda: cards.top_up(serial, octets=MB, reason="kurang", by="ani"),
            lambda: cards.extend(serial, seconds=DAY_S, reason="lama", by="budi"),
            lambda: cards.confirm_given(serial, by="budi"),
            lambda: cards.revoke([serial], "hilang", by="budi"),
            lambda: cards.replace([serial], "hilang", by="budi"),
            lambda: cards.revoke_batch(serial.split("-")[0], "hilang", by="budi"),
        ]
        await rig.node.commit.settle()
        for act in acts[1:]:
            async with rig.node.store.database._lock:
                # The first cannot be written before the second has been heard.
                first = asyncio.ensure_future(acts[0]())
                await asyncio.sleep(0)
                assert await refusal(act()) == "cards.busy"
            assert isinstance(await first, dict)
        shown = rig.show(serial)
        assert shown["octets_left"] == 15 * MB and shown["extra_valid_s"] == 0
        won, lost = await asyncio.gather(acts[4](), acts[3](), return_exceptions=True)
        assert isinstance(won, dict) and isinstance(lost, DeskError)
        assert rig.show(serial)["state"] == "replaced"
        # The card that took its place is another person's turn.
        await cards.top_up(won["vouchers"][0]["serial"], octets=MB, reason="kurang")

    run(tmp_path, story)


def test_who_looks_at_an_old_page_of_a_card_gets_a_sentence(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, _), (other, _)] = await rig.cards("p", 2, data_total="10MB", valid="7d")
        cards = rig.node.vouchers
        seen = cards.show(serial)["version"]
        await cards.top_up(other, octets=MB, reason="kurang", seen=cards.show(other)["version"])
        await cards.codes_of(serial.split("-")[0], by="ani")
        await cards.code_of(serial, by="ani")
        shown = await cards.top_up(serial, octets=MB, reason="kurang", seen=seen)
        for work in (
            cards.top_up(serial, octets=MB, reason="kurang", seen=seen),
            cards.extend(serial, seconds=1, reason="lama", seen=seen),
            cards.revoke([serial], "hilang", seen=seen),
            cards.replace([serial], "hilang", seen=seen),
        ):
            assert await refusal(work) == "cards.changed"
        await cards.extend(serial, seconds=1, reason="lama", seen=shown["version"])
        assert rig.show(serial)["octets_left"] == 11 * MB

    run(tmp_path, story)


def test_a_change_that_cannot_be_written_is_not_made(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_total="10MB", valid="7d")
        given = await rig.node.vouchers.give("p")
        cards = rig.node.vouchers
        database = rig.node._database
        real = database.transaction

        def broken() -> Any:
            raise OSError("disk full")

        database.transaction = broken  # type: ignore[method-assign]
        for work in (
            cards.top_up(serial, octets=MB, reason="x"),
            cards.extend(serial, seconds=1, reason="x"),
            cards.revoke([serial], "x"),
            cards.replace([serial], "x"),
            cards.undo_give(given["serial"]),
        ):
            with pytest.raises(OSError, match="disk full"):
                await work
        database.transaction = real  # type: ignore[method-assign]
        shown = rig.show(serial)
        assert (shown["state"], shown["octets_left"]) == ("unused", 10 * MB)
        assert await is_let_in(rig, given["code"], "s1", PHONE_B)
        await cards.revoke([serial], "rusak")

    run(tmp_path, story)


# Finding


def test_cards_are_found_by_what_people_have_in_their_hands(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        await rig.node.admin.add_site("SBR", "Seberang", "Asia/Makassar")
        await rig.node.admin.set_profile("p", {})
        cards = rig.node.vouchers
        made = (await cards.issue("p", count=3, site="TJL"))["vouchers"]
        [far] = (await cards.issue("p", site="SBR"))["vouchers"]
        here, there = (rig.node.admin.site(code).id for code in ("TJL", "SBR"))

        async def found(text: str, site_id: int | None = None) -> list[str]:
            return [one["serial"] for one in await cards.find_cards(text, site_id)]

        serial, code = made[1]["serial"], made[1]["code"]
        for text in (serial, serial.lower().replace("-", " "), serial.replace("-", ""), code):
            assert await found(text) == [serial]
        assert serial in await found(code[-4:])
        batch = serial.split("-")[0]
        assert await found(batch.lower()) == [one["serial"] for one in reversed(made)]
        assert await found(batch, there) == []
        assert await found(far["serial"], here) == []
        assert await found(far["serial"], there) == [far["serial"]]
        await use(rig, code, 1, "s1")
        assert await found("02:aa:bb:cc:dd:01") == [serial]
        for text in ("", "kartu", "02:aa:bb:cc:dd:02", "A999-01", "%", "0000 0000 0000"):
            assert await found(text) == []

    run(tmp_path, story)


def test_the_phones_just_heard_of_are_told_with_what_came_of_them(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code), (gone, dead)] = await rig.cards("p", 2, data_total="10MB")
        cards = rig.node.vouchers
        site_id = rig.node.admin.site("TJL").id
        assert cards.recent_phones(site_id) == []
        await use(rig, code, 1, "s1")
        rig.sleep(60)
        await cards.revoke([gone], "rusak")
        assert not await is_let_in(rig, dead, "s2", PHONE_B)
        new = "02-AA-BB-CC-DD-03"
        framed = integer_attribute(SERVICE_TYPE, 2)
        await rig.access(GW, new, new, new, acct_session_id="s3", more=framed)
        assert await is_let_in(rig, code, "s4", "02-AA-BB-CC-DD-04")
        phones = {one["mac"]: one for one in cards.recent_phones(site_id)}
        assert len(phones) == 4
        told = {mac[-1]: (one["what"], one["reason"], one["serial"]) for mac, one in phones.items()}
        assert told == {
            "1": ("ended", "Idle-Timeout", serial),
            "2": ("refused", "revoked", gone),
            "3": ("refused", "unknown_phone", None),
            "4": ("accepted", None, serial),
        }
        assert {one["gateway"] for one in phones.values()} == {"pos-1"}
        assert phones[MAC_A]["at"] == rig.node.now() - 60
        assert cards.recent_phones(site_id + 1) == []
        rig.sleep(300)
        assert MAC_A not in {one["mac"] for one in cards.recent_phones(site_id)}

    run(tmp_path, story)


def test_the_history_of_a_card_goes_back_to_the_cards_before_it(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, _)] = await rig.cards("p", data_total="10MB")
        cards = rig.node.vouchers
        await cards.top_up(serial, octets=MB, reason="kurang", by="ani")
        new = (await cards.replace([serial], "hilang", by="budi"))["vouchers"][0]["serial"]
        await cards.revoke([new], "salah orang", by="cici")
        assert [(who, what) for who, what, *_ in await deeds(rig, new)] == [
            ("cici", "voucher.revoke"),
            ("budi", "voucher.replace"),
            ("ani", "voucher.top_up"),
            ("command line", "voucher.issue"),
        ]
        assert await deeds(rig, serial) == await deeds(rig, new)

    run(tmp_path, story)


def test_a_restored_node_knows_its_top_ups(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, _)] = await rig.cards("p", data_total="10MB", valid="7d")
        await rig.node.vouchers.top_up(serial, octets=MB, reason="kurang")
        await rig.node.vouchers.extend(serial, seconds=DAY_S, reason="lama")
        copy = tmp_path / "copy.db"
        await rig.node.store.database.backup_to(copy)
        await rig.close()
        copy.replace(rig.directory / "pesisir.db")
        for name in ("pesisir.db-wal", "pesisir.db-shm"):
            (rig.directory / name).unlink(missing_ok=True)
        await number_ahead(rig.directory / "pesisir.db", None)
        await rig.open()
        shown = rig.show(serial)
        assert (shown["octets_left"], shown["extra_valid_s"]) == (11 * MB, DAY_S)

    run(tmp_path, story)


# The residents' door


def test_a_dead_card_is_refused_at_the_portal_too(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        await rig.cards("p")
        given = await rig.node.vouchers.give("p")
        await rig.node.vouchers.undo_give(given["serial"])
        problem = rig.door.check_code(given["code"], Phone(MAC_A, True, 1, "10.1.0.9"))
        assert isinstance(problem, Problem) and problem.reason == "revoked"

    run(tmp_path, story)

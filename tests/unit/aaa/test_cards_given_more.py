"""Cards at the desk that get more: topping up, extending."""

from pathlib import Path
from typing import Any

from tests.unit.aaa.cards_stage import (
    DAY_S,
    MB,
    deeds,
    is_let_in,
    refusal,
    run,
    use,
)
from tests.unit.aaa.rig import NodeRig

# Topping up


def test_a_card_that_was_used_up_works_again_at_once(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_total="10MB")
        assert await use(rig, code, 10 * MB, "s1") == 10 * MB
        assert rig.show(serial)["state"] == "used_up"
        assert not await is_let_in(rig, code, "s2")
        shown = await rig.node.vouchers.top_up(
            serial, octets=3 * MB, reason="tugas sekolah", by="ani"
        )
        assert shown["state"] == "active"
        assert (shown["octets_used"], shown["octets_left"]) == (10 * MB, 3 * MB)
        assert shown["credits"] == [{"day": "2026-11-18", "octets": 3 * MB, "seconds": 0}]
        assert await use(rig, code, 1 * MB, "s3") == 3 * MB
        await rig.restart()
        assert await use(rig, code, 2 * MB, "s4") == 2 * MB
        assert rig.show(serial)["state"] == "used_up"
        assert (await deeds(rig, serial))[0] == ("ani", "voucher.top_up", "tugas sekolah", "+3MB")

    run(tmp_path, story)


def test_a_top_up_counts_today_this_week_and_this_month(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards(
            "p", data_day="10MB", data_week="100MB", data_month="200MB", time_day="1h"
        )
        await use(rig, code, 10 * MB, "s1")
        await rig.node.vouchers.top_up(serial, octets=5 * MB, seconds=600, reason="rapat")
        await rig.node.vouchers.top_up(serial, octets=1 * MB, reason="rapat lagi")

        def left() -> dict[str, tuple[int, int | None]]:
            return {
                one["window"]: (
                    one["octets_quota"] - one["octets_used"],
                    None if one["seconds_quota"] is None else one["seconds_quota"],
                )
                for one in rig.show(serial)["windows"]
            }

        assert left() == {
            "day": (6 * MB, 4200),
            "week": (96 * MB, None),
            "month": (196 * MB, None),
        }
        rig.sleep(DAY_S)
        await rig.restart()
        assert left() == {
            "day": (10 * MB, 3600),
            "week": (96 * MB, None),
            "month": (196 * MB, None),
        }
        rig.sleep(14 * DAY_S)
        assert left() == {
            "day": (10 * MB, 3600),
            "week": (100 * MB, None),
            "month": (200 * MB, None),
        }

    run(tmp_path, story)


def test_an_unused_card_keeps_its_top_up_over_a_restart_and_for_its_successor(
    tmp_path: Path,
) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, _)] = await rig.cards("p", data_total="10MB")
        await rig.node.vouchers.top_up(serial, octets=5 * MB, reason="keluarga besar")
        await rig.restart()
        assert rig.show(serial)["octets_left"] == 15 * MB
        issued = await rig.node.vouchers.replace([serial], "hilang", by="ani")
        [new] = issued["vouchers"]
        assert new["replaces"] == serial
        shown = rig.show(new["serial"])
        assert (shown["octets_left"], shown["replaces"]) == (15 * MB, serial)
        assert rig.show(serial)["replaced_by"] == new["serial"]
        await rig.restart()
        assert await use(rig, new["code"], 1, "s1") == 15 * MB

    run(tmp_path, story)


def test_a_top_up_is_counted_once_when_the_card_leaves_memory_meanwhile(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_total="10MB", valid="30d")
        await use(rig, code, 1 * MB, "s1")
        accounts = rig.node.accounts
        database = rig.node._database

        class Away:
            """Drops the account once the change is on disk, and reads it again."""

            async def __aenter__(self) -> Any:
                self.inner = real()
                return await self.inner.__aenter__()

            async def __aexit__(self, *error: Any) -> Any:
                await self.inner.__aexit__(*error)
                accounts._drop(rig.node.vouchers.find(serial).account.id)
                assert rig.node.vouchers.find(serial).account.usage.credit_octets == 5 * MB

        real = database.transaction
        database.transaction = Away  # type: ignore[method-assign,assignment]
        await rig.node.vouchers.top_up(serial, octets=5 * MB, reason="kurang")
        database.transaction = real  # type: ignore[method-assign]
        assert rig.show(serial)["octets_left"] == 14 * MB

    run(tmp_path, story)


def test_what_cannot_be_topped_up(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code), (dead, _)] = await rig.cards("p", 2, data_session="10MB", valid="1d")
        cards = rig.node.vouchers

        async def top_up(key: str = serial, reason: str = "kurang", **amounts: Any) -> str:
            return await refusal(cards.top_up(key, reason=reason, **amounts))

        assert await top_up() == "cards.top_up_nothing"
        assert await top_up(octets=0, seconds=0) == "cards.top_up_nothing"
        assert await top_up(octets=-1) == "cards.top_up_amount"
        assert await top_up(seconds=36_501 * DAY_S) == "cards.top_up_amount"
        assert await top_up(octets=1, reason="  ") == "cards.reason_missing"
        assert await top_up(octets=1, reason="x" * 201) == "cards.reason_long"
        assert await top_up("A999-01", octets=1) == "cards.unknown_serial"
        assert await top_up("12345", octets=1) == "cards.unknown_code"
        # A quota of each session is whole again with the next.
        assert await top_up(octets=1) == "cards.top_up_no_data_quota"
        assert await top_up(seconds=1) == "cards.top_up_no_time_quota"
        await cards.revoke([dead], "rusak")
        assert await top_up(dead, octets=1) == "cards.revoked"
        await use(rig, code, 1, "s1")
        rig.sleep(DAY_S)
        assert await top_up(octets=1) == "cards.top_up_expired"
        [(total, _)] = await rig.cards("q", data_total="1MB")
        await cards.top_up(total, octets=10**15, reason="salah ketik")
        assert await top_up(total, octets=1) == "cards.top_up_amount"
        assert await deeds(rig, serial) == [("command line", "voucher.issue", "", "2 x p")]

    run(tmp_path, story)


# Extending


def test_an_extension_begins_at_the_end_or_now_if_that_is_over(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", valid="7d")
        cards = rig.node.vouchers
        await use(rig, code, 1, "s1")
        first = rig.node.now()
        assert rig.show(serial)["expires_at"] == first + 7 * DAY_S
        shown = await cards.extend(serial, seconds=2 * DAY_S, reason="sakit", by="ani")
        assert shown["expires_at"] == first + 9 * DAY_S
        rig.sleep(20 * DAY_S)
        assert not await is_let_in(rig, code, "s2")
        shown = await cards.extend(serial, seconds=DAY_S, reason="melaut", by="ani")
        assert shown["expires_at"] == rig.node.now() + DAY_S
        await rig.restart()
        assert await is_let_in(rig, code, "s3")
        assert rig.show(serial)["extra_valid_s"] == 14 * DAY_S
        assert (await deeds(rig, serial))[0] == ("ani", "voucher.extend", "melaut", "+1d")

    run(tmp_path, story)


def test_an_unused_card_may_be_used_first_until_a_later_day(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        await rig.cards("p")
        cards = rig.node.vouchers
        [made] = (await cards.issue("p", use_before="2026-11-20"))["vouchers"]
        serial, code = made["serial"], made["code"]
        shown = await cards.extend(serial, seconds=2 * DAY_S, reason="libur", by="ani")
        before = (await deeds(rig, serial))[0]
        assert before == ("ani", "voucher.extend", "libur", "use before 2026-11-20 -> 2026-11-22")
        midnight_at = shown["use_before_at"]
        rig.sleep(midnight_at - rig.node.now() + 1)
        assert not await is_let_in(rig, code, "s1")
        assert rig.show(serial)["state"] == "expired"
        shown = await cards.extend(serial, seconds=DAY_S, reason="libur lagi")
        # Today, the 23rd, has a day left in any case.
        assert shown["use_before_at"] == midnight_at + 2 * DAY_S
        assert shown["state"] == "unused"
        await rig.restart()
        assert await is_let_in(rig, code, "s2")

    run(tmp_path, story)


def test_a_card_may_be_good_for_longer_before_it_is_used(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", valid="7d")
        shown = await rig.node.vouchers.extend(serial, seconds=DAY_S, reason="hadiah")
        assert shown["expires_at"] is None
        await use(rig, code, 1, "s1")
        assert rig.show(serial)["expires_at"] == rig.node.now() + 8 * DAY_S

    run(tmp_path, story)


def test_what_cannot_be_extended(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(endless, _)] = await rig.cards("p")
        [(serial, _)] = await rig.cards("q", valid="7d")
        cards = rig.node.vouchers

        async def extend(key: str, seconds: int, reason: str = "lama") -> str:
            return await refusal(cards.extend(key, seconds=seconds, reason=reason))

        assert await extend(endless, DAY_S) == "cards.extend_endless"
        assert await extend(serial, 0) == "cards.extend_amount"
        assert await extend(serial, 36_501 * DAY_S) == "cards.extend_amount"
        await cards.extend(serial, seconds=36_500 * DAY_S, reason="lama")
        assert await extend(serial, 1) == "cards.extend_amount"
        [made] = (await cards.issue("p", use_before="2026-11-20"))["vouchers"]
        assert await extend(made["serial"], 36_500 * DAY_S) == "cards.extend_amount"
        assert await extend(serial, 1, "") == "cards.reason_missing"
        await cards.replace([serial], "hilang")
        assert await extend(serial, 1) == "cards.replaced"

    run(tmp_path, story)

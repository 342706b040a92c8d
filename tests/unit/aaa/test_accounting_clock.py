"""Accounting over the ends of windows, without the backhaul, and with a clock that is wrong."""

from pathlib import Path

import pytest

from portal.domain.clock import Clock
from radius.packet import (
    ACCESS_REJECT,
)
from tests.unit.aaa.rig import INTERIM, START, START_AT, STOP, NodeRig
from tests.unit.aaa.test_accounting import GW, MAC, log_in, run


def test_usage_across_midnight_is_split_in_proportion_to_time(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_day="10MB", data_month="1GB")
        keys = await log_in(rig, code)
        midnight_s = (24 - 19) * 3600 - 400
        rig.sleep(midnight_s - 100)
        await rig.account(
            GW, INTERIM, "s1", time_s=midnight_s - 100, input_octets=0, output_octets=1000, **keys
        )
        rig.sleep(300)
        await rig.account(
            GW, INTERIM, "s1", time_s=midnight_s + 200, input_octets=0, output_octets=4000, **keys
        )
        await rig.node.commit.settle()
        days = {row["day"]: row["octets"] for row in rig.node.store.account_days(1, "2026-01-01")}
        assert days == {"2026-11-18": 2000}
        assert rig.show(serial)["octets_left"] == 10_000_000 - 2000
        await rig.account(GW, STOP, "s1", time_s=midnight_s + 200, **keys)
        await rig.restart()
        status = rig.node.grants.status(rig.node.vouchers.find(serial))
        assert [window.octets_used for window in status.windows] == [2000, 4000]

    run(tmp_path, story)


def test_time_does_not_run_while_the_backhaul_is_down(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", time_total="1h")
        keys = await log_in(rig, code)
        await rig.account(GW, START, "s1", **keys)

        async def fails(target: str) -> bool:
            return is_up

        is_up = False
        rig.node.backhaul._probes = ("192.0.2.1:53",)
        rig.node.backhaul._probe = fails
        rig.sleep(100)
        for _ in range(2):
            await rig.node.backhaul.look()
            assert rig.node.backhaul.state == "unknown"
        await rig.node.backhaul.look()
        assert rig.node.backhaul.state == "down"
        assert rig.node.backhaul.down_since == START_AT + 100
        rig.sleep(150)
        is_up = True
        await rig.node.backhaul.look()
        rig.sleep(50)
        await rig.account(GW, INTERIM, "s1", time_s=300, input_octets=11, output_octets=0, **keys)
        shown = rig.show(serial)
        assert shown["seconds_used"] == 150 and shown["octets_used"] == 11
        await rig.restart()
        assert rig.show(serial)["seconds_used"] == 150
        assert rig.node.backhaul.outages() == [(START_AT + 100, START_AT + 250)]

    run(tmp_path, story)


def test_a_clock_in_1970_after_a_power_cut_grants_nothing_more(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_day="1MB", valid="2d")
        keys = await log_in(rig, code)
        await rig.account(
            GW, STOP, "s1", time_s=60, input_octets=0, output_octets=1_000_000, cause=5, **keys
        )
        await rig.node._save_clock()
        await rig.node.commit.now()
        known_at = rig.node.now()
        rig.at = 100.0
        await rig.restart()
        assert rig.node.now() >= known_at and rig.node.clock.is_doubtful
        refused = await rig.access(GW, code, code, MAC)
        assert refused is not None and refused.code == ACCESS_REJECT
        # The clock is put right: three days later, validity is over, nothing was granted twice.
        rig.at = known_at + 3 * 86_400
        rig.sleep(1)
        assert rig.node.now() == known_at + 3 * 86_400 + 1
        clock = Clock(rig.at, rig.elapsed_s, False, False, jumps=1, jumped_s=3 * 86_400)
        assert rig.node.clock == clock
        assert rig.show(serial)["state"] == "expired"

    run(tmp_path, story)


@pytest.mark.parametrize("jump_s", [86_400, 40 * 86_400, -86_400, -40 * 86_400])
def test_a_jump_of_a_running_clock_grants_nothing_and_burns_nothing(
    tmp_path: Path, jump_s: int
) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_day="10MB", time_day="2h", valid="30d")
        keys = await log_in(rig, code)
        rig.sleep(60)
        await rig.account(GW, INTERIM, "s1", time_s=60, input_octets=5, output_octets=0, **keys)
        rig.at += jump_s
        rig.sleep(60)
        await rig.account(GW, INTERIM, "s1", time_s=120, input_octets=9, output_octets=0, **keys)
        shown = rig.show(serial)
        assert shown["octets_left"] == 10_000_000 - 9
        assert shown["seconds_left"] == 7200 - 120
        assert shown["state"] == "active" and rig.node.clock.is_doubtful
        rig.at -= jump_s
        rig.sleep(60)
        await rig.account(GW, STOP, "s1", time_s=180, input_octets=10, output_octets=0, **keys)
        shown = rig.show(serial)
        assert (shown["octets_used"], shown["seconds_used"]) == (10, 180)
        assert not rig.node.clock.is_doubtful

    run(tmp_path, story)

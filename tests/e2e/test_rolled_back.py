"""An older disk in a box, once or again and again: the hub has everything once.

The same rig as in the other accidents, with real sessions where what is told twice matters.
"""

from pathlib import Path

from radius.packet import CLASS
from tests.e2e.hub_rig import HubRig, VillageRig, cut_power
from tests.e2e.hub_stories import assert_hub_has, play
from tests.unit.aaa.rig import INTERIM, START, STOP

POST = "10.0.0.1"
MAC = "02-00-00-00-00-01"


def test_one_image_put_back_again_and_again_gets_through_each_time(tmp_path: Path) -> None:
    async def story(village: VillageRig, hub: HubRig) -> None:
        told = await village.use(1, 12)
        await village.exchange_until_quiet()
        await village.kill()
        village.image(tmp_path / "image")
        told += await village.use(13, 6)
        await village.exchange_until_quiet()
        for turn in (1, 2, 3):
            await village.put_back(tmp_path / "image")
            if turn != 2:
                told += await village.use(100 * turn, 20)
            outcome = await village.exchange()
            assert outcome.sentence == ""
            assert village.rig.node.hub.sync.status()["standing"] == "well"
            assert village.rig.node.ledger.store.epochs()[-1]["epoch"] == turn
            assert_hub_has(hub, told)
        assert hub.alarms() & {"rolled_back", "fork"}

    play(tmp_path, story)


def test_a_session_told_before_and_after_the_older_disk_counts_once(tmp_path: Path) -> None:
    async def story(village: VillageRig, hub: HubRig) -> None:
        rig = village.rig
        await rig.gateway("pos-1", POST)
        ((_, code),) = await rig.cards("harian", 1)
        reply = await rig.access(POST, code, code, MAC)
        assert reply is not None
        known = {"mac": MAC, "class_value": reply.first[CLASS]}
        assert await rig.account(POST, START, "s-1", **known) is not None
        rig.sleep(60)
        octets = {"input_octets": 1_000, "output_octets": 10_000}
        await rig.account(POST, INTERIM, "s-1", time_s=60, **octets, **known)
        await village.exchange_until_quiet()
        await cut_power(rig)
        village.image(tmp_path / "image")
        await rig.open()
        rig.sleep(60)
        octets = {"input_octets": 2_000, "output_octets": 20_000}
        await rig.account(POST, STOP, "s-1", time_s=120, **octets, **known)
        await village.exchange_until_quiet()
        assert hub.totals() == (1, 2_000, 20_000)
        for _ in range(2):
            # The gateway says again what the older disk has never heard.
            await village.put_back(tmp_path / "image")
            await rig.account(POST, STOP, "s-1", time_s=120, **octets, **known)
            await village.exchange_until_quiet()
            assert hub.totals() == (1, 2_000, 20_000)
        octets = {"input_octets": 2_500, "output_octets": 25_000}
        await village.put_back(tmp_path / "image")
        await rig.account(POST, STOP, "s-1", time_s=150, **octets, **known)
        await village.exchange_until_quiet()
        assert hub.totals() == (1, 2_500, 25_000)

    play(tmp_path, story)


def test_a_tail_that_the_hub_refused_is_told_again_in_the_new_epoch(tmp_path: Path) -> None:
    """A fork with thirty records behind it, and the plug pulled right after the epoch is open."""

    async def story(village: VillageRig, hub: HubRig) -> None:
        told = await village.use(1, 12)
        await village.exchange_until_quiet()
        await village.kill()
        village.image(tmp_path / "image")
        told += await village.use(13, 6)
        await village.exchange_until_quiet()
        for first in (101, 201):
            await village.put_back(tmp_path / "image")
            told += await village.use(first, 30)
            store = village.rig.node.ledger.store
            before = len(store.epochs())
            sync = village.rig.node.hub.sync
            go_on = sync._go_on_after

            async def go_on_and_break_down(*args: object) -> None:
                await go_on(*args)  # type: ignore[arg-type]  # noqa: B023
                raise ConnectionAbortedError("the plug was pulled")

            sync._go_on_after = go_on_and_break_down  # type: ignore[method-assign,assignment]
            try:
                await village.exchange()
                raise AssertionError("no epoch was opened")
            except ConnectionAbortedError:
                pass
            assert len(store.epochs()) == before + 1
            await village.kill()
            await village.exchange_until_quiet()
            assert_hub_has(hub, told)
            assert set(village.sessions()) >= set(range(first, first + 30))
        found = await village.exported(hub, tmp_path / "whole.ledger")
        assert found.problem is None

    play(tmp_path, story)

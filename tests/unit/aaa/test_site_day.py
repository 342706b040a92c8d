"""What cards used by site and day: the octets of the accounts, whatever fails on the way."""

from pathlib import Path
from typing import Any

from portal.store.db import DatabaseError
from tests.unit.aaa.rig import INTERIM, START, STOP, NodeRig, play

GATEWAY = "10.0.0.2"


async def sums(rig: NodeRig) -> tuple[list[Any], list[Any]]:
    """Octets and seconds by day: of the accounts, and of the sites."""
    await rig.node.commit.settle()
    return tuple(  # type: ignore[return-value]
        [
            tuple(row)
            for row in rig.node.store.database.all(
                f"SELECT day, SUM(octets), SUM(seconds) FROM {table} GROUP BY day ORDER BY day"
            )
        ]
        for table in ("usage_day", "site_day")
    )


def test_sites_and_accounts_agree_over_midnight_and_several_cards(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        cards = await rig.cards("p", 3)
        for n, (serial, _) in enumerate(cards):
            mac = f"02-00-00-00-00-0{n}"
            await rig.account(GATEWAY, START, f"s{n}", user=serial, mac=mac)
        rig.sleep(8 * 3_600)  # past midnight in Makassar
        for n, (serial, _) in enumerate(cards):
            mac = f"02-00-00-00-00-0{n}"
            used = {"time_s": 8 * 3_600, "input_octets": 10**9 + n, "output_octets": 77}
            await rig.account(GATEWAY, STOP, f"s{n}", user=serial, mac=mac, **used)
        of_accounts, of_sites = await sums(rig)
        assert of_accounts == of_sites
        assert [day for day, _, _ in of_sites] == ["2026-11-18", "2026-11-19"]
        assert sum(octets for _, octets, _ in of_sites) == 3 * 10**9 + 3 + 3 * 77

    play(tmp_path, story, GATEWAY)


def test_a_commit_that_fails_loses_and_doubles_nothing(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        ((serial, _),) = await rig.cards("p")
        mac = "02-00-00-00-00-01"
        await rig.account(GATEWAY, START, "s1", user=serial, mac=mac)
        rig.sleep(60)
        used = {"time_s": 60, "input_octets": 5_000, "output_octets": 0}
        await rig.account(GATEWAY, INTERIM, "s1", user=serial, mac=mac, **used)
        journal = rig.node.store.journal
        commit, failures = journal.commit, 2

        async def failing(batch: Any) -> None:
            nonlocal failures
            if failures:
                failures -= 1
                raise DatabaseError("no room")
            await commit(batch)

        journal.commit = failing  # type: ignore[method-assign]
        rig.sleep(60)
        used = {"time_s": 120, "input_octets": 9_000, "output_octets": 0}
        for _ in range(4):
            # The gateway repeats what was not answered.
            await rig.account(GATEWAY, STOP, "s1", user=serial, mac=mac, **used)
        assert failures == 0
        assert await sums(rig) == ([("2026-11-18", 9_000, 120)],) * 2
        await rig.restart()
        assert await sums(rig) == ([("2026-11-18", 9_000, 120)],) * 2

    play(tmp_path, story, GATEWAY)

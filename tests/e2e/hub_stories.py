"""What happens to a village and its office, and what must be true after it, whatever it was."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from portal.hub_process import check as hub_check
from tests.e2e.faulty_link import Link
from tests.e2e.hub_rig import HubRig, VillageRig

Story = Callable[[VillageRig, HubRig], Awaitable[None]]


def play(tmp_path: Path, story: Story) -> None:
    """Let a story happen to an enrolled node and its hub."""
    link = Link()
    hub = HubRig(tmp_path / "hub", link)

    async def whole() -> None:
        village = await VillageRig(tmp_path).open()
        try:
            hub.enrol(village)
            await story(village, hub)
        finally:
            await village.close()

    try:
        asyncio.run(whole())
    finally:
        hub.close()
        link.close()


def assert_hub_has(hub: HubRig, numbers: list[int]) -> None:
    """The hub counts exactly these sessions, each once, in its records and in its roll-ups."""
    numbers = sorted(numbers)
    assert hub.sessions() == numbers
    assert hub.totals() == (len(numbers), 2 * sum(numbers), sum(numbers))


async def assert_all_agree(village: VillageRig, hub: HubRig, tmp_path: Path) -> None:
    """After everything: the node's own log is whole, and the hub has what is in it."""
    await village.exchange_until_quiet()
    assert_hub_has(hub, village.sessions())
    found = await village.exported(hub, tmp_path / f"{time.monotonic_ns()}.ledger")
    assert found.problem is None
    assert found.epochs[-1].cosigned == found.epochs[-1].records
    assert_hub_proves(hub)


def assert_hub_proves(hub: HubRig) -> None:
    """Every table of the hub is what the records in it say."""
    checks = hub.run(hub_check.look(hub.hub))
    assert [each for each in checks if each["status"] == "fail"] == []

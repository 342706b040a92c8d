"""A hub for tests: real database, real keys, a clock that the test moves."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from portal import settings
from portal.hub.ingest import Outcome
from portal.hub_process import directories as hub_directories
from portal.serve_hub import Hub
from portal.wire import Exchange
from tests.unit.hub.written_node import NOON, WrittenNode


@dataclass
class Office:
    """A hub and its clock."""

    hub: Hub
    now: int

    async def enrol(self, node: WrittenNode) -> None:
        """Let a node report for its sites."""
        store = self.hub.store
        async with store.database.transaction() as transaction:
            for code in node.sites:
                await store.add_site(
                    transaction, code, f"Desa {code}", "Asia/Jakarta", "utara", self.now
                )
                await store.give_site(transaction, code, node.node_id)
            await store.add_node(
                transaction, node.node_id, node.public, bytes(32), self.now, state="active"
            )

    async def take(self, node: WrittenNode, exchange: Exchange | None = None) -> Outcome:
        """One exchange; the node keeps a cosignature as it would."""
        sent = node.exchange() if exchange is None else exchange
        counter = node.next_counter()
        outcome = await self.hub.ingest.take(node.node_id, counter, sent, self.now)
        if outcome.answer.cosignature is not None:
            node.keep(outcome.answer.cosignature, sent.checkpoint)
        return outcome

    async def totals(self, node: WrittenNode, site: int = 1) -> tuple[int, int]:
        """(sessions, octets) of all days of a site by the roll-ups."""
        rows = await self.hub.usage.days_of_site(
            self.hub.store.database, node.node_id, site, 0, 4_000_000
        )
        return (
            sum(row["sessions"] for row in rows),
            sum(row["input_octets"] + row["output_octets"] for row in rows),
        )

    async def alarms(self) -> list[tuple[str, str]]:
        """(kind, key) of the alarms that are going on."""
        rows = await self.hub.alarms.store.going_on()
        return sorted((row["kind"], row["alarm_key"]) for row in rows)

    async def sides(self, kind: str, node: WrittenNode) -> set[str]:
        """Whose evidence is kept with the alarms of a kind."""
        found = set()
        for row in await self.hub.alarms.store.all_alarms():
            if row["kind"] == kind:
                rows = await self.hub.alarms.store.evidence(node.node_id, kind, row["alarm_key"])
                found |= {each["side"] for each in rows}
        return found


def make_directory(place: Path, database_url: str) -> Path:
    """A hub's directory that uses this database."""
    directory = place / "hub"
    hub_directories.make(
        directory,
        name="Kominfo Uji",
        zone="Asia/Jakarta",
        admin="admin",
        url="https://127.0.0.1:8443",
        database_url=database_url,
    )
    return directory


@asynccontextmanager
async def office(directory: Path, now: int = NOON + 3600) -> AsyncIterator[Office]:
    """A hub on a directory that was made."""
    found: Office | None = None

    def clock() -> int:
        return now if found is None else found.now

    hub = await Hub.open(directory, settings.load_for_hub(directory, {}), clock)
    found = Office(hub, now)
    try:
        yield found
    finally:
        await hub.close()


Story = Callable[[Office, WrittenNode], Awaitable[None]]
Tell = Callable[[Story], None]

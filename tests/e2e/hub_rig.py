"""A village and its office in one process: the node that `pesisir node` runs, the hub that `pesisir
hub` runs, and between them real TLS over a link that fails as it is told.

The hub lives in a thread with a loop of its own, so that it can be killed between two of its steps:
the loop stops, what was not committed is gone, and it is opened again from its file.
"""

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import Callable, Coroutine
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar

from portal import ledger_export, settings, signing
from portal.domain import ledger_file, note
from portal.domain.ledger import Flag, Kind, Usage
from portal.hub.keys import HubKeys
from portal.hub_process import directories as hub_directories
from portal.serve_hub import Hub, HubService
from portal.store.db.either import HUB_FILE_NAME
from portal.store.ledger import Entry
from portal.sync import trust as hub_trust
from portal.sync.exchanges import Outcome
from portal.sync.trust import HubTrust
from tests.e2e.faulty_link import Link
from tests.unit.aaa.rig import START_AT, NodeRig

T = TypeVar("T")
SITE = "TJL"


class HubRig:
    """A hub, its directory and its time."""

    def __init__(self, directory: Path, link: Link) -> None:
        self.directory = directory
        self.link = link
        self.at = float(START_AT)
        made = hub_directories.make(
            directory,
            name="Kabupaten Bahari",
            zone="Asia/Makassar",
            admin="admin",
            url=f"https://127.0.0.1:{link.port}",
            values={"http.listen": "https://127.0.0.1:0"},
        )
        self.url = made["url"]
        self.open()

    def open(self) -> None:
        """Open the hub and listen."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.hub = self.run(self._opened())
        self.link.target = self.service.http_addresses[0][1]

    async def _opened(self) -> Hub:
        hub = await Hub.open(
            self.directory, settings.load_for_hub(self.directory, {}), lambda: int(self.at)
        )
        self.service = HubService(hub)
        await self.service.start()
        return hub

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the hub's own loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    @property
    def keys(self) -> HubKeys:
        return self.hub.keys

    def close(self) -> None:
        """Stop in good order."""
        self.link.target = None
        self.run(self.service.stop())
        self.run(self.hub.close())
        self._end_loop()

    def kill(self) -> None:
        """Stop between two steps, wherever it is; nothing that is not committed survives."""
        self.link.target = None
        self.link.break_all()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        # Not in the hub's own loop: what it was doing must not go on.
        asyncio.run(self.hub.close())
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.run(self._buried())
        self._end_loop()

    async def _buried(self) -> None:
        """Close the sockets of a hub that is dead: it has no database any more."""
        for server, _ in self.service._web:
            server.force_exit = True
        await self.service.stop()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def restart(self) -> None:
        """Kill it and open it again."""
        self.kill()
        self.open()

    def back_up(self, copy: Path) -> None:
        """Copy the database as a nightly backup does."""
        copy.unlink(missing_ok=True)
        with closing(sqlite3.connect(self.directory / HUB_FILE_NAME)) as database:
            database.execute("VACUUM INTO ?", (str(copy),))

    def put_back(self, copy: Path) -> None:
        """Kill the hub and start it on an older backup."""
        self.kill()
        for suffix in ("-wal", "-shm"):
            (self.directory / f"{HUB_FILE_NAME}{suffix}").unlink(missing_ok=True)
        shutil.copyfile(copy, self.directory / HUB_FILE_NAME)
        self.open()

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Rows of the database, read beside the hub."""
        with closing(sqlite3.connect(self.directory / HUB_FILE_NAME)) as database:
            return database.execute(sql, parameters).fetchall()

    def change(self, sql: str, parameters: tuple[object, ...] = ()) -> None:
        """Change the database behind the hub's back."""
        with closing(sqlite3.connect(self.directory / HUB_FILE_NAME)) as database:
            database.execute(sql, parameters)
            database.commit()

    def sessions(self) -> list[int]:
        """The numbers of all sessions the hub counts, as `VillageRig.use` gave them, in order."""
        rows = self.rows("SELECT output_octets FROM session_record WHERE output_octets > 0")
        return sorted(row[0] for row in rows)

    def totals(self) -> tuple[int, int, int]:
        """Sessions, input and output octets of the roll-ups."""
        (row,) = self.rows(
            "SELECT COALESCE(SUM(sessions), 0), COALESCE(SUM(input_octets), 0),"
            " COALESCE(SUM(output_octets), 0) FROM site_day"
        )
        return row[0], row[1], row[2]

    def alarms(self) -> set[str]:
        """Kinds of alarms that were raised."""
        return {row[0] for row in self.rows("SELECT DISTINCT kind FROM alarm")}

    def enrol(self, node: "VillageRig", site: str = SITE) -> None:
        """Let a node report, as an approved enrolment does."""
        keys = signing.SigningKeys.read(node.rig.directory)
        self.run(self._enrolled(keys, site))
        known = self.hub.introduction()
        trust = HubTrust(
            url=self.url,
            authority=known["authority"],
            cosigner=known["cosigner"],
            documents=known["documents"],
            recovery="",
        )
        hub_trust.write(node.rig.directory, trust)

    async def _enrolled(self, keys: signing.SigningKeys, site: str) -> None:
        store, now = self.hub.store, int(self.at)
        async with store.database.transaction() as transaction:
            await store.add_site(transaction, site, site, "Asia/Makassar", "", now)
            await store.add_node(
                transaction, keys.node_id, keys.public, bytes(32), now, state="active"
            )
            await store.give_site(transaction, site, keys.node_id)

    @property
    def cosigner(self) -> note.Key:
        """The key that cosigns."""
        return self.keys.cosigner_key


class VillageRig:
    """A node with a hub; `use` makes sessions that nobody else has."""

    def __init__(self, directory: Path, at: float = START_AT) -> None:
        self.rig = NodeRig(directory, at=at)
        self.number = 0

    async def open(self) -> "VillageRig":
        """Open the node."""
        await self.rig.open()
        return self

    async def close(self) -> None:
        """Close the node."""
        await self.rig.close()

    async def kill(self) -> None:
        """Pull the plug, and start again."""
        await self.rig.restart()

    async def use(self, first: int, count: int) -> list[int]:
        """Append `count` sessions with the numbers from `first` on, in one commit: each says its
        number as its octets, and is the only one of its gateway, since what begins at a gateway in
        one second is one story after an older disk. Returns the numbers once they are on disk."""
        node, at = self.rig.node, int(self.rig.at)
        numbers = list(range(first, first + count))
        async with node.ledger.store._database.transaction() as transaction:
            for number in numbers:
                usage = Usage(
                    *(int(Flag.FIRST | Flag.LAST), number.to_bytes(10, "big"), number, 1),
                    *(60, 60, 60, 2 * number, number, 1),
                )
                personal = {"serial": f"A001-{number}"}
                transaction.append(
                    Entry(Kind.SESSION, at, usage, 1, personal, day=at // 86_400 + 719_163)
                )
        return numbers

    def sessions(self) -> list[int]:
        """The numbers of the sessions in the node's own ledger that count, in order."""
        found: list[int] = []
        for epoch in self.rig.node.ledger.store.epochs():
            end = epoch["size"] if epoch["void_from"] is None else epoch["void_from"]
            for seq, public, _ in self.rig.node.ledger.store.records(epoch["epoch"], 0, 10**6):
                if seq < end:
                    found += _number(public)
        return sorted(found)

    async def exchange(self) -> Outcome:
        """One round with the hub."""
        return await self.rig.node.hub.sync.now()

    async def exchange_until_quiet(self, rounds: int = 12) -> None:
        """Exchange until the hub has cosigned everything; the hour after a new epoch is skipped."""
        for _ in range(rounds):
            outcome = await self.exchange()
            head = self.rig.node.ledger.store.head()
            acked = self.rig.node.ledger.store.acked().size
            if head is not None and not outcome.sentence and acked == head.size:
                return
            self.rig.sleep(4000)
        raise AssertionError(f"never quiet: {outcome.sentence} {self.rig.node.hub.sync.status()}")

    def image(self, copy: Path) -> None:
        """Copy the directory as a card reader does while the box is off."""
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.rig.directory, copy, ignore=shutil.ignore_patterns("*.sock"))

    async def put_back(self, copy: Path) -> None:
        """Pull the plug and start on an older image; the keys are the same."""
        await cut_power(self.rig)
        shutil.rmtree(self.rig.directory)
        shutil.copytree(copy, self.rig.directory)
        await self.rig.open()

    async def exported(self, hub: HubRig, target: Path) -> ledger_file.Finding:
        """What an export of the node to a new file proves with the keys of both."""
        keys = [self.rig.node.signing.key, hub.cosigner]
        await ledger_export.write(
            self.rig.node.ledger,
            target,
            hub_keys=[str(key) for key in keys],
            report=lambda done, of: None,
        )
        with target.open("rb") as lines:
            return ledger_file.check(lines, signing.verify, trusted=keys)


def _number(public: bytes) -> list[int]:
    from portal.domain.ledger import decode

    payload = decode(public).payload
    return [payload.output_octets] if isinstance(payload, Usage) else []


async def cut_power(rig: NodeRig) -> None:
    """What `NodeRig.restart` does, without the start."""
    node = rig.node
    node.hub.sync.close()
    for task in node._tasks:
        task.cancel()
    if node.commit._task is not None:
        node.commit._task.cancel()
    await asyncio.gather(*node._tasks, return_exceptions=True)
    await node.disconnects.stop()
    node._database._settler = None
    await node._database.close()


Action = Callable[[], Coroutine[Any, Any, None]]


async def broken_off(work: Coroutine[Any, Any, object], after_s: float) -> None:
    """Begin some work and drop it after a while, wherever it is."""
    task = asyncio.ensure_future(work)
    await asyncio.wait((task,), timeout=after_s)
    task.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await task

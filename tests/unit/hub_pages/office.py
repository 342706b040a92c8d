"""An office for tests: a hub on real sockets with people, sites and boxes; the clock is moved by
hand.

    with office(tmp_path) as o:
        ketua = o.sign_in("ketua")      # admin; also "tinjau" (reviewer)
        page = ketua.get("/review/")
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from portal import control, passwords
from portal.domain import ledger
from portal.domain.ledger import ClockQuality, Kind, Record
from portal.hub_process import directories as hub_directories
from portal.misses import Misses
from portal.operators import Operator
from portal.serve_hub import Hub, HubService
from portal.settings import load_for_hub
from portal.store.audit import Deed
from portal.store.db.either import HubTransaction
from tests.unit.web.desk import Person

T = TypeVar("T")

PASSWORD = "ombak-biru-di-kantor"
PEOPLE = (("ketua", "admin"), ("tinjau", "reviewer"))
ZONE = "Asia/Makassar"
NOON_AT = int(datetime(2026, 11, 21, 12, tzinfo=ZoneInfo(ZONE)).timestamp())
_HASH = passwords.hashed(PASSWORD)
_TABLES = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table'",
    "postgresql": "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'",
}


class OfficePerson(Person):
    """Somebody of the office in a browser."""

    root = "/review"


class Office:
    """A hub in a thread of its own; methods may be called from the test's."""

    def __init__(self, directory: Path, database_url: str | None = None) -> None:
        self.at = NOON_AT
        self.directory = directory / "hub"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._owned = control.own(self.directory, "hub")
        self.hub: Hub
        self.service: HubService
        # In a thread: the caller's may have a loop of its own, as playwright's has.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(
                hub_directories.make,
                self.directory,
                name="Diskominfo Uji",
                zone=ZONE,
                admin="pertama",
                url="https://127.0.0.1",
                database_url=database_url,
                values={"http.listen": ["https://127.0.0.1:0", "127.0.0.1:0"]},
            ).result()

    def start(self) -> None:
        """Open the hub and listen."""
        self._thread.start()
        self._owned.__enter__()
        self.do(self._start())

    async def _start(self) -> None:
        settings = load_for_hub(self.directory)
        self.hub = await Hub.open(self.directory, settings, lambda: self.at)
        for name, role in PEOPLE:
            await self._person(name, role)
        self.service = HubService(self.hub)
        await self.service.start()

    async def _person(self, name: str, role: str) -> None:
        people = self.hub.office.people
        deed = Deed("test", "operator.add", None, name)
        await people._store.add(name, role, None, _HASH, False, self.at, deed)
        people._by_name[name] = Operator(name, role, None, _HASH, False, self.at)

    def empty(self) -> None:
        """Take away all that a test has left: rows, the hands of the clock, people's errors."""

        async def emptied() -> None:
            database = self.hub.store.database
            names = [row["name"] for row in await database.all(_TABLES[database.dialect])]
            async with database.transaction() as transaction:
                for name in names:
                    if name not in ("fact", "schema_version"):
                        await transaction.run(f"DELETE FROM {name}", ())
            people = self.hub.office.people
            people._by_name.clear()
            people._misses._misses = Misses()
            for name, role in PEOPLE:
                await self._person(name, role)

        self.at = NOON_AT
        self.do(emptied())

    def stop(self) -> None:
        """Stop it all."""

        async def stop() -> None:
            await self.service.stop()
            await self.hub.close()

        try:
            self.do(stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(60)
            self._loop.close()
            self._owned.__exit__(None, None, None)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the hub's thread."""
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(30)

    def call(self, work: Callable[[], T]) -> T:
        """Run something in the hub's thread."""

        async def called() -> T:
            return work()

        return self.do(called())

    @property
    def desk_url(self) -> str:
        """Origin of the pages, without TLS."""
        return self._url(is_tls=False)

    @property
    def tls_url(self) -> str:
        """Origin that boxes use."""
        return self._url(is_tls=True)

    def _url(self, *, is_tls: bool) -> str:
        for host, port, has_tls in self.service.http_addresses:
            if has_tls == is_tls:
                return f"{'https' if is_tls else 'http'}://{host}:{port}"
        raise AssertionError("no such listener")

    # --- people

    def sign_in(self, name: str, password: str = PASSWORD) -> OfficePerson:
        """Somebody in a browser of their own, signed in by the form."""
        person = OfficePerson(self, name)
        page = person.get("/review/sign-in")
        page = person.submit(page, name=name, password=password)
        assert "pesisir_review" in person.cookies, f"{name} is not signed in: {page.text[:300]}"
        return person

    def enter(self, name: str) -> OfficePerson:
        """Somebody who is signed in already, without typing a password."""
        person = OfficePerson(self, name)

        def begin() -> str:
            operator = self.hub.office.people.operator(name)
            return self.service.review.desk.sign_ins.begin(operator)[0]

        person.cookies["pesisir_review"] = self.call(begin)
        return person

    # --- what nodes would have sent

    def write(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Put rows into the hub's database."""

        async def written() -> None:
            async with self.hub.store.database.transaction() as transaction:
                await transaction.run_many(sql, rows)

        self.do(written())

    def all(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        """Rows of the hub's database."""

        async def read() -> list[dict[str, Any]]:
            rows = await self.hub.store.database.all(sql, values)
            return [dict(row) for row in rows]  # type: ignore[call-overload]

        return self.do(read())

    def deeds(self) -> list[dict[str, Any]]:
        """The audit, oldest first."""
        return self.all("SELECT * FROM hub_audit ORDER BY at, number")

    def add_site(self, code: str = "TJL", name: str = "Desa Tanjung", **more: str) -> str:
        """A site; return its first token."""
        made = self.do(self.hub.office.enrolments.add_site(code, name, ZONE, "test", **more))
        return made.token

    def add_box(self, code: str, node_id: str = "0123456789abcdef", *, number: int = 1) -> str:
        """An active box of a site, as if it had been enrolled."""

        async def added(node: str) -> None:
            office = self.hub.office
            async with office.store.database.transaction() as transaction:
                await office.store.add_node(
                    transaction, node, node.encode() * 2, bytes(32), self.at, state="active"
                )
                await office.store.give_site(transaction, code, node)
                await office.office.site_begins(transaction, code, node, self.at)
                await self._names(transaction, node, code, number)

        self.do(added(node_id))
        return node_id

    async def _names(
        self, transaction: HubTransaction, node_id: str, code: str, number: int
    ) -> None:
        await transaction.run_many(
            "INSERT INTO node_name (node_id, what, number, name, code, zone)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            [
                (node_id, "site", number, code, code, ZONE),
                (node_id, "gateway", 1, "pos-1", "", ""),
                (node_id, "profile", 1, "harian", "", ""),
            ],
        )

    def heard(self, node_id: str, *, ago_s: int = 60, size: int = 100) -> None:
        """The box reported so long ago, and the hub has cosigned so many records."""
        at = self.at - ago_s
        self.write("UPDATE node SET last_seen_at = ? WHERE node_id = ?", [(at, node_id)])
        self.write(
            "INSERT INTO node_head (node_id, epoch, size, frontier, newest_at, updated_at)"
            " VALUES (?, 0, ?, ?, ?, ?)",
            [(node_id, size, b"", at, at)],
        )
        self.write(
            "INSERT INTO checkpoint (node_id, epoch, size, note, cosigned_at)"
            " VALUES (?, 0, ?, 'note', ?)",
            [(node_id, size, at)],
        )

    def session(
        self,
        node_id: str,
        seq: int,
        *,
        ago_s: int = 3_600,
        person: int = 1,
        octets: int = 10_000_000,
        site: int = 1,
    ) -> None:
        """A session of half an hour that ended so long ago, with its sums."""
        self.sessions(node_id, [(seq, ago_s, person)], octets=octets, site=site)

    def sessions(
        self,
        node_id: str,
        told: Sequence[tuple[int, int, int]],
        *,
        octets: int = 10_000_000,
        site: int = 1,
        profile: int = 1,
    ) -> None:
        """Sessions (seq, ago_s, person) like the one of `session`, in one transaction."""

        async def written() -> None:
            async with self.hub.store.database.transaction() as transaction:
                for seq, ago_s, person in told:
                    at = self.at - ago_s
                    await _session(transaction, node_id, seq, at, person, octets, site, profile)

        self.do(written())

    def event(
        self,
        node_id: str,
        seq: int,
        kind: Kind,
        payload: str,
        *,
        ago_s: int,
        quality: ClockQuality = ClockQuality.SYNCHRONISED,
    ) -> None:
        """A record that is no session, of so long ago."""
        at = self.at - ago_s
        public = ledger.encode(Record(kind, seq, 1, at, quality, 0, {}))
        self.write(
            "INSERT INTO record (node_id, epoch, seq, kind, at, site, public, c_loc)"
            " VALUES (?, 0, ?, ?, ?, 0, ?, ?)",
            [(node_id, seq, int(kind), at, public, bytes(32))],
        )
        self.write(
            "INSERT INTO event (node_id, kind, at, epoch, seq, site, payload)"
            " VALUES (?, ?, ?, 0, ?, 0, ?)",
            [(node_id, int(kind), at, seq, payload)],
        )


async def _session(
    transaction: HubTransaction,
    node_id: str,
    seq: int,
    at: int,
    person: int,
    octets: int,
    site: int,
    profile: int,
) -> None:
    day = datetime.fromtimestamp(at, ZoneInfo(ZONE)).toordinal()
    pseudonym, up, down = bytes([person] * 10), octets // 10, octets - octets // 10
    await transaction.run(
        "INSERT INTO session_record (node_id, day, epoch, seq, site, pseudonym, gateway, profile,"
        " started_at, at, duration_s, counted_s, input_octets, output_octets, cause, flags,"
        " clock_quality) VALUES (?, ?, 0, ?, ?, ?, 1, ?, ?, ?, 1800, 1800, ?, ?, 1, 3, 1)",
        (node_id, day, seq, site, pseudonym, profile, at - 1_800, at, up, down),
    )
    is_new = await transaction.run(
        "INSERT INTO user_day (node_id, day, pseudonym, site, profile) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (node_id, day, pseudonym, site, profile),
    )
    await transaction.run(
        "INSERT INTO site_day (node_id, site, day, profile, sessions, users, input_octets,"
        " output_octets, counted_s) VALUES (?, ?, ?, ?, 1, ?, ?, ?, 1800) ON CONFLICT"
        " (node_id, site, day, profile) DO UPDATE SET sessions = site_day.sessions + 1,"
        " users = site_day.users + excluded.users, input_octets = site_day.input_octets"
        " + excluded.input_octets, output_octets = site_day.output_octets"
        " + excluded.output_octets",
        (node_id, site, day, profile, is_new, up, down),
    )
    await transaction.run(
        "INSERT INTO site_hour (node_id, site, hour, sessions, octets, peak, open_minutes)"
        " VALUES (?, ?, ?, 1, ?, 1, ?) ON CONFLICT (node_id, site, hour) DO UPDATE SET"
        " sessions = site_hour.sessions + 1, octets = site_hour.octets + excluded.octets",
        (node_id, site, at // 3_600, octets, bytes(120)),
    )


@contextmanager
def office(directory: Path, database_url: str | None = None) -> Iterator[Office]:
    """An office for the length of a test."""
    found = Office(directory, database_url)
    found.start()
    try:
        yield found
    finally:
        found.stop()

"""The hub's API on real sockets with TLS: who is let in, and how long a body may be."""

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from portal import settings, wire
from portal.serve_hub import Hub, HubService
from portal.sync.client import HubClient, Reply
from portal.wire import Answer, Backup, Problem, Recovery
from tests.unit.hub.office import Office, make_directory
from tests.unit.hub.written_node import NOON, WrittenNode


class Line:
    """A hub that listens, and an enrolled node that talks to it."""

    def __init__(self, service: HubService, node: WrittenNode) -> None:
        self.office = Office(service.hub, NOON)
        self.service = service
        self.node = node
        port = service.http_addresses[0][1]
        self.url = f"https://127.0.0.1:{port}"
        self.client = self.of(node)

    def of(self, node: WrittenNode, signer: Callable[[bytes], bytes] | None = None) -> HubClient:
        """A client that signs as this node."""
        return HubClient(
            self.url,
            self.office.hub.keys.ca_pem,
            node_id=node.node_id,
            signer=signer or node.key.sign,
        )

    async def post(self, body: bytes, *, client: HubClient | None = None) -> tuple[int, Answer]:
        """An exchange with this body; status and answer."""
        client = client or self.client
        reply = await self.ask("POST", "exchange", body, client)
        return reply.status, wire.unpack(reply.body, Answer)

    async def ask(
        self, method: str, what: str, body: bytes = b"", client: HubClient | None = None
    ) -> Reply:
        """One signed request."""
        client = client or self.client
        return await client.request(
            method,
            client.path(what),
            body,
            counter=self.node.next_counter(),
            created_at=NOON,
            most_octets=wire.MOST_BACKUP_OCTETS,
        )


@asynccontextmanager
async def line(directory: Path) -> AsyncIterator[Line]:
    """A hub on a port of its own."""
    found = settings.load_for_hub(directory, {"PESISIR_HTTP_LISTEN": "https://127.0.0.1:0"})
    hub = await Hub.open(directory, found, lambda: NOON)
    service = HubService(hub)
    await service.start()
    node = WrittenNode()
    place = Line(service, node)
    await place.office.enrol(node)
    try:
        yield place
    finally:
        place.client.close()
        await service.stop()
        await hub.close()


Talk = Callable[[Line], Awaitable[None]]


@pytest.fixture
def talk(tmp_path: Path) -> Callable[[Talk], None]:
    """Runs a talk with a hub on SQLite: what the store does is tested elsewhere."""
    directory = make_directory(tmp_path, "sqlite")

    def run(story: Talk) -> None:
        async def whole() -> None:
            async with line(directory) as place:
                await story(place)

        asyncio.run(whole())

    return run


def test_an_exchange_is_answered_with_a_cosignature(talk: Callable[[Talk], None]) -> None:
    async def story(place: Line) -> None:
        place.node.session(1)
        status, answer = await place.post(wire.pack(place.node.exchange()))
        assert (status, answer.size, answer.now_at) == (200, 3, NOON)
        assert answer.cosignature is not None
        assert await place.office.totals(place.node) == (1, 1100)

    talk(story)


def test_a_stranger_and_a_forged_signature_get_nowhere(talk: Callable[[Talk], None]) -> None:
    async def story(place: Line) -> None:
        place.node.session(1)
        body = wire.pack(place.node.exchange())
        stranger = WrittenNode(seed=b"\x08" * 32)
        for client in (place.of(stranger), place.of(place.node, stranger.key.sign)):
            status, answer = await place.post(body, client=client)
            assert (status, answer.problem) == (401, Problem.UNKNOWN)
            assert answer.detail.endswith(".")
            client.close()
        assert await place.office.totals(place.node) == (0, 0)

    talk(story)


def test_who_guesses_is_slowed_down_and_a_node_is_not(talk: Callable[[Talk], None]) -> None:
    async def story(place: Line) -> None:
        stranger = WrittenNode(seed=b"\x08" * 32)
        client = place.of(stranger)
        statuses = [(await place.post(b"x", client=client))[0] for _ in range(22)]
        assert statuses == [401] * 20 + [429] * 2
        client.close()

    talk(story)


def test_bodies_are_bounded_before_they_are_unpacked(talk: Callable[[Talk], None]) -> None:
    async def story(place: Line) -> None:
        bomb = zlib.compress(bytes(100_000_000), 9)
        assert len(bomb) < wire.MOST_BODY_OCTETS
        status, answer = await place.post(bomb)
        assert (status, answer.problem) == (422, Problem.BODY)
        assert "unpacks to more than" in answer.detail
        status, answer = await place.post(bytes(wire.MOST_BODY_OCTETS + 1))
        assert (status, answer.problem) == (413, Problem.BODY)
        for nonsense in (b"", b"nonsense", zlib.compress(b"\xc1"), zlib.compress(b"\x90")):
            status, answer = await place.post(nonsense)
            assert (status, answer.problem) == (422, Problem.BODY)
            assert answer.detail.endswith(".")
        place.node.session(1)
        assert (await place.post(wire.pack(place.node.exchange())))[0] == 200

    talk(story)


def test_a_sealed_backup_comes_back_as_it_went(talk: Callable[[Talk], None]) -> None:
    async def story(place: Line) -> None:
        await place.post(wire.pack(place.node.exchange()))
        backup = Backup(3, bytes(range(256)) * 4000)
        reply = await place.ask("PUT", "backup", wire.pack(backup))
        assert reply.status == 204
        reply = await place.ask("GET", "backup")
        assert reply.status == 200
        recovery = wire.unpack_backup(reply.body, Recovery)
        assert (recovery.backup, recovery.deltas, recovery.epoch) == (backup, [], 1)
        place.node.counter -= 1
        reply = await place.ask("GET", "backup")
        assert reply.status == 401
        assert wire.unpack(reply.body, Answer).problem == Problem.COUNTER

    talk(story)


def test_a_full_disk_is_said_and_nothing_is_lost(talk: Callable[[Talk], None]) -> None:
    async def story(place: Line) -> None:
        database = place.office.hub.store.database
        place.node.session(1)
        exchange = place.node.exchange()
        rows = await database.all("PRAGMA page_count")  # SQLite's own way to a full disk
        async with database.transaction() as transaction:
            await transaction.all(f"PRAGMA max_page_count = {rows[0]['page_count']:d}")
        big = wire.pack(Backup(1, bytes(2_000_000)))
        reply = await place.ask("PUT", "backup", big)
        assert reply.status == 503
        assert wire.unpack(reply.body, Answer).problem == Problem.FULL
        async with database.transaction() as transaction:
            await transaction.all("PRAGMA max_page_count = 1000000")
        assert (await place.post(wire.pack(exchange)))[0] == 200
        assert (await place.ask("PUT", "backup", big)).status == 204
        assert await place.office.totals(place.node) == (1, 1100)

    talk(story)


def test_metrics_and_health_are_told(talk: Callable[[Talk], None]) -> None:
    async def story(place: Line) -> None:
        place.node.session(1)
        await place.post(wire.pack(place.node.exchange()))
        await place.post(wire.pack(place.node.exchange(first=9, records=b"")))
        status, _, text = await get(place, "/metrics")
        assert status == 200
        assert 'pesisir_hub_requests_total{status="200"} 1.0' in text
        assert "pesisir_hub_records_total 3.0" in text
        assert 'pesisir_hub_nodes{state="active"} 1.0' in text
        assert 'pesisir_hub_alarms{kind="gap"} 1.0' in text
        assert await get(place, "/healthz") == (200, "application/json", '{"status":"ok"}')
        status, _, text = await get(place, "/api/v1/ca")
        assert status == 200 and place.office.hub.keys.hub_id in text
        assert (await get(place, "/api/v1/nothing"))[0] == 404

    talk(story)


async def get(place: Line, path: str) -> tuple[int, str, str]:
    """(status, type, body) of a page."""
    context = ssl.create_default_context(cadata=place.office.hub.keys.ca_pem)
    port = place.service.http_addresses[0][1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    lines = head.lower().split("\r\n")
    kind = next(line.partition(": ")[2] for line in lines if line.startswith("content-type"))
    return int(lines[0].split()[1]), kind, body

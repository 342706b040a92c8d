"""Hub client: the pinned hub and no other, through a proxy too, and a plain word for every end."""

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from portal import signed_requests
from portal.sync.client import HubClient, Reply, Unreachable
from tests.unit import certificates
from tests.unit.sync.servers import NOW, Relay, TlsServer, serving

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
NODE = "3f2a9c0d11e47b58"


def echo(method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    """What the hub does first: read the signature."""
    found = signed_requests.read(method, headers["host"], path, headers, body)
    KEY.public_key().verify(found.signature, found.base)
    return 200, b"%d %d %s" % (found.counter, found.created_at, body)


def client_of(server: TlsServer, **others: object) -> HubClient:
    values = {"url": server.url, "authority": server.authority, **others}
    return HubClient(node_id=NODE, signer=KEY.sign, **values)  # type: ignore[arg-type]


async def ask(client: HubClient, counter: int = 1, **others: bool) -> Reply:
    return await client.request(
        "POST", client.path("exchange"), b"hello", counter=counter, created_at=NOW, **others
    )


def run(client: HubClient, scenario: Callable[[HubClient], Awaitable[None]]) -> None:
    async def play() -> None:
        try:
            await scenario(client)
        finally:
            client.close()

    asyncio.run(play())


def test_requests_of_one_exchange_share_a_connection_and_the_next_resumes(tmp_path: Path) -> None:
    with serving(tmp_path, echo) as server:
        client = client_of(server)

        async def scenario(client: HubClient) -> None:
            for counter in (1, 2, 3):
                reply = await ask(client, counter)
                assert reply == Reply(200, b"%d %d hello" % (counter, NOW))
            client.close()
            await ask(client, 4)

        run(client, scenario)
        assert (server.connections, server.resumed) == (2, 1)


def refused(tmp_path: Path, why: str, **others: object) -> Unreachable:
    """How a request ends that must not be answered."""
    found: list[Unreachable] = []

    async def scenario(client: HubClient) -> None:
        with pytest.raises(Unreachable) as caught:
            await ask(client)
        found.append(caught.value)

    with serving(tmp_path, echo) as server:
        run(client_of(server, **others), scenario)
    assert found[0].why == why
    return found[0]


def test_another_authority_is_not_believed(tmp_path: Path) -> None:
    other = certificates.Authority().pem.decode("ascii")
    refused(tmp_path, "tls", authority=other)


def test_another_name_is_not_believed(tmp_path: Path) -> None:
    async def scenario(client: HubClient) -> None:
        with pytest.raises(Unreachable, match="not its own"):
            await ask(client)

    with serving(tmp_path, echo, name="other.example") as server:
        run(client_of(server), scenario)


def test_a_certificate_that_is_over_counts_only_where_the_clock_is_sure(tmp_path: Path) -> None:
    async def scenario(client: HubClient) -> None:
        with pytest.raises(Unreachable, match="not its own"):
            await ask(client)
        assert (await ask(client, 2, is_clock_doubtful=True)).status == 200

    with serving(tmp_path, echo, days=-1) as server:
        run(client_of(server), scenario)


def test_through_a_proxy_with_a_password(tmp_path: Path) -> None:
    proxy = Relay()

    async def scenario(client: HubClient) -> None:
        assert (await ask(client)).status == 200

    try:
        with serving(tmp_path, echo) as server:
            run(client_of(server, proxy=f"http://desa:p%40ss@127.0.0.1:{proxy.port}"), scenario)
    finally:
        proxy.close()
    assert proxy.requests[0].startswith(f"CONNECT localhost:{server.port} ".encode())
    assert b"Proxy-Authorization: Basic ZGVzYTpwQHNz" in proxy.requests[0]
    assert b"hello" not in proxy.requests[0]


def test_a_proxy_that_is_not_there_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = refused(tmp_path, "proxy", proxy=f"http://127.0.0.1:{port}")
    assert f"the proxy 127.0.0.1:{port} cannot be reached" in str(found)


def test_a_proxy_that_refuses(tmp_path: Path) -> None:
    proxy = Relay(refuses=True)
    try:
        refused(tmp_path, "proxy", proxy=f"http://127.0.0.1:{proxy.port}")
    finally:
        proxy.close()


def test_nobody_listens_and_a_name_that_is_none(tmp_path: Path) -> None:
    refused(tmp_path, "refused", url="https://localhost:1")
    refused(tmp_path, "name", url="https://hub.invalid")


def test_an_answer_that_takes_too_long(tmp_path: Path) -> None:
    def slow(*request: object) -> tuple[int, bytes]:
        time.sleep(1)
        return 200, b""

    async def scenario(client: HubClient) -> None:
        with pytest.raises(Unreachable) as caught:
            await ask(client)
        assert caught.value.why == "timeout"

    with serving(tmp_path, slow) as server:
        run(client_of(server, read_timeout_s=0.2), scenario)


def test_a_connection_that_breaks_and_one_that_was_kept(tmp_path: Path) -> None:
    answers = [(200, b"first"), (0, b""), (200, b"third")]

    def broken(*request: object) -> tuple[int, bytes]:
        return answers.pop(0)

    async def scenario(client: HubClient) -> None:
        assert (await ask(client)).body == b"first"
        with pytest.raises(Unreachable) as caught:
            await ask(client, 2)
        assert (caught.value.why, caught.value.is_reused) == ("cut", True)
        assert (await ask(client, 3)).body == b"third"

    with serving(tmp_path, broken) as server:
        run(client_of(server), scenario)


def test_an_answer_without_end_is_cut_off(tmp_path: Path) -> None:
    async def scenario(client: HubClient) -> None:
        with pytest.raises(Unreachable) as caught:
            await ask(client)
        assert caught.value.why == "long"

    with serving(tmp_path, lambda *request: (200, bytes(300_000))) as server:
        run(client_of(server), scenario)


def test_a_request_that_is_given_up_ends_at_once(tmp_path: Path) -> None:
    is_over = threading.Event()

    def silent(*request: object) -> tuple[int, bytes]:
        is_over.wait(60)
        return 200, b""

    async def scenario(client: HubClient) -> None:
        asking = asyncio.ensure_future(ask(client))
        await asyncio.sleep(0.3)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        client.close()
        assert not is_over.is_set()
        is_over.set()

    with serving(tmp_path, silent) as server:
        run(client_of(server), scenario)


@pytest.mark.parametrize("url", ["http://hub.example", "hub.example", "https://"])
def test_only_https(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match="expected https"):
        HubClient(url, "", node_id=NODE, signer=KEY.sign)

"""LinkWatch: each step from the box to the world, with real sockets where there is something to
connect to."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from portal import link_watch
from portal.link_watch import LinkWatch, Look, host_of, names_in, resolve, touch

GATEWAY = SimpleNamespace(id=1, address="10.0.0.2")
NETWORK = SimpleNamespace(id=2, address="10.1.0.0/24")


class World:
    """What there is to find, and a clock."""

    def __init__(self) -> None:
        self.at = 1_000.0
        self.answers: dict[str, bool] = {}
        self.asked: list[str] = []

    def ask(self, kind: str) -> Callable[[str], Any]:
        async def asked(target: str) -> bool:
            self.asked.append(f"{kind} {target}")
            return self.answers.get(kind, True)

        return asked


async def until(is_so: Callable[[], bool]) -> None:
    for _ in range(6_000):
        if is_so():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to that within 30 s")


def watch(world: World, heard_s: dict[int, float] | None = None, **more: Any) -> LinkWatch:
    backhaul = SimpleNamespace(state="up", looked_at=900, down_since=None)
    return LinkWatch(
        SimpleNamespace(gateways_by_id={1: GATEWAY, 2: NETWORK}),  # type: ignore[arg-type]
        backhaul,  # type: ignore[arg-type]
        {} if heard_s is None else heard_s,
        now=lambda: int(world.at),
        elapsed_s=lambda: world.at,
        touch=world.ask("touch"),
        resolve=world.ask("resolve"),
        probe=world.ask("probe"),
        **{"probes": ["example.id:80"], "hub_url": "https://hub.example.id/api", **more},
    )


def test_everything_is_looked_at_and_remembered_with_its_time() -> None:
    world = World()
    found = watch(world)
    assert (found.dns, found.hub) == (Look("unknown"), Look("unknown"))
    asyncio.run(found.look())
    assert sorted(world.asked) == [
        "probe hub.example.id:443",
        "resolve example.id",
        "touch 10.0.0.2",
    ]
    assert found.dns == found.hub == found.touched(1) == Look("up", 1_000, 1_000)
    assert found.touched(2) == Look(), "a network has no address to knock at"
    assert found.internet == Look("up", 900, None)


def test_what_is_not_configured_is_unset_and_never_asked() -> None:
    world = World()
    found = watch(world, probes=[], hub_url=None)
    asyncio.run(found.look())
    assert found.dns.state == found.hub.state == found.internet.state == "unset"
    assert world.asked == ["touch 10.0.0.2"]


def test_probes_that_are_addresses_say_nothing_about_names() -> None:
    found = watch(World(), probes=["10.9.9.9:80", "http://[fd00::1]/"], hub_url=None)
    assert found.dns.state == "unset" and found.internet.state == "up"


def test_since_when_it_is_down_stays_while_it_is_down() -> None:
    world = World()
    found = watch(world)
    world.answers = {"resolve": False, "probe": False}

    async def story() -> None:
        await found.look()
        world.at += 60
        await found.look()
        assert found.dns == found.hub == Look("down", 1_060, 1_000)
        world.answers = {}
        world.at += 60
        await found.look()
        assert found.dns == found.hub == Look("up", 1_120, 1_120)

    asyncio.run(story())


def test_while_all_is_well_the_link_is_spared() -> None:
    world = World()
    found = watch(world)

    async def story() -> None:
        await found.look()
        world.asked.clear()
        world.at += 60
        await found.look()
        assert world.asked == ["touch 10.0.0.2"], "the LAN costs nothing"
        found.want()
        await found.look()
        assert len(world.asked) == 4, "somebody looks at the page"
        world.asked.clear()
        world.at += 600
        await found.look()
        assert len(world.asked) == 3

    asyncio.run(story())


def test_a_gateway_that_reports_is_not_knocked_at() -> None:
    world = World()
    found = watch(world, {1: 500.0})
    asyncio.run(found.look())
    assert not any(asked.startswith("touch") for asked in world.asked)
    assert found.silent_s(1) == 500.0 and found.silent_s(2) is None


def test_a_resolver_that_hangs_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_watch, "TIMEOUT_S", 0.05)
    world = World()
    hanging: list[str] = []

    async def story() -> None:
        gate = asyncio.Event()

        async def hang(name: str) -> bool:
            hanging.append(name)
            await gate.wait()
            return True

        found = watch(world)
        found._resolve = hang
        await found.look()
        world.at += 60
        await found.look()
        assert found.dns.state == "down" and found.hub.state == "up"
        assert hanging == ["example.id"], "one question at a time"
        gate.set()
        world.at += 60
        await found.look()
        assert found.dns.state == "up"

    asyncio.run(story())


def test_it_looks_by_itself_and_again_when_somebody_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_watch, "EVERY_S", 0.1)
    world = World()

    async def story() -> None:
        found = watch(world)
        running = asyncio.create_task(found.run())
        await until(lambda: len(world.asked) >= 3)
        assert len(world.asked) == 3
        world.at += 1
        found.want()
        await until(lambda: len(world.asked) >= 6)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(story())


def test_a_fault_in_a_look_does_not_end_the_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_watch, "EVERY_S", 0.01)

    async def story() -> None:
        found = watch(World())
        calls = 0

        async def broken() -> None:
            nonlocal calls
            calls += 1
            raise RuntimeError("a fault of our own")

        monkeypatch.setattr(found, "look", broken)
        running = asyncio.create_task(found.run())
        await until(lambda: calls > 2)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(story())


# --- real sockets


def test_a_closed_port_answers_as_well_as_an_open_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        open_port = listening.getsockname()[1]
        monkeypatch.setattr(link_watch, "TOUCHED_PORTS", (open_port,))
        assert asyncio.run(touch("127.0.0.1"))
    monkeypatch.setattr(link_watch, "TOUCHED_PORTS", (open_port,))
    assert asyncio.run(touch("127.0.0.1")), "a refusal is an answer too"


def test_nothing_there_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_watch, "TIMEOUT_S", 0.2)
    assert not asyncio.run(touch("255.255.255.255"))


def test_names_are_found_by_the_systems_resolver() -> None:
    assert asyncio.run(resolve("localhost"))
    assert not asyncio.run(resolve("no-such-host.invalid"))
    assert not asyncio.run(resolve("a" * 300))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("1.1.1.1:53", ("1.1.1.1", 53)),
        ("https://hub.example.id/x", ("hub.example.id", 443)),
        ("http://[fd00::1]:8080", ("fd00::1", 8080)),
        ("example.id", ("example.id", 80)),
    ],
)
def test_host_and_port_of_a_target(target: str, expected: tuple[str, int]) -> None:
    assert host_of(target) == expected


def test_names_among_targets() -> None:
    assert names_in(["1.1.1.1:53", "a.id:80", "https://a.id", "http://[::1]/"]) == ["a.id"]


def test_the_newest_backup_is_found(tmp_path: Path) -> None:
    from portal.archives import NODE_NIGHTLY, newest_at

    place = tmp_path / "backups"
    assert newest_at(place, NODE_NIGHTLY) is None
    place.mkdir()
    (place / "pesisir-2026-11-20.backup").write_text("x")
    (place / "other").write_text("x")
    assert newest_at(place, NODE_NIGHTLY) == int(
        (place / "pesisir-2026-11-20.backup").stat().st_mtime
    )

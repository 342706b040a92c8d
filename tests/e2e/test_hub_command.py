"""`pesisir init --role hub` and `pesisir hub` as programs: what they make, refuse, survive."""

import asyncio
import os
import re
import select
import signal
import sqlite3
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509

from portal import settings, wire
from portal.hub import keys as hub_keys
from portal.serve_hub import Hub
from portal.sync import stick as usb_stick
from portal.sync.client import HubClient, Unreachable
from tests.e2e import command
from tests.e2e.command import pesisir
from tests.unit.hub.office import Office
from tests.unit.hub.written_node import NOON, WrittenNode


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A hub's directory."""
    place = tmp_path / "hub"
    done = pesisir(
        *("init", "--role", "hub", "--name", "Kominfo Uji", "--dir", place, "--json"),
        *("--url", "https://hub.example.id:8443"),
    )
    made = done.json
    assert made["dir"] == str(place)
    assert {"admin", "password", "hub_id", "url", "recovery_key"} <= set(made)
    return place


@contextmanager
def running(directory: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The hub as a process, and its ready line."""
    with open(directory / "hub.log", "a") as log:
        process = subprocess.Popen(
            [*command.PROGRAM, "hub", "--dir", str(directory)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=command.environment(PESISIR_HTTP_LISTEN="https://127.0.0.1:0"),
        )
    assert process.stdout is not None
    try:
        readable, _, _ = select.select([process.stdout], [], [], 60)
        ready = process.stdout.readline() if readable else ""
        assert ready.startswith("ready "), (directory / "hub.log").read_text()
        yield process, ready
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def port_of(ready: str) -> int:
    """The port out of a ready line."""
    found = re.search(r" https=https://127\.0\.0\.1:([0-9]+)", ready)
    assert found is not None, ready
    return int(found[1])


def test_init_makes_what_only_its_owner_reads(directory: Path) -> None:
    for path in directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    keys = hub_keys.read(directory)
    recovery = (directory / hub_keys.RECOVERY_NAME).read_text()
    private = re.search(r"X25519-PRIVATE ([0-9a-f]{64})\n", recovery)
    assert private is not None and keys.recovery_public.hex() in recovery
    for path in directory.iterdir():
        if path.name != hub_keys.RECOVERY_NAME:
            content = path.read_bytes()
            assert private[1].encode() not in content
            assert bytes.fromhex(private[1]) not in content
    certificate = x509.load_pem_x509_certificate(
        (directory / hub_keys.CERTIFICATE_NAME).read_bytes()
    )
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "hub.example.id" in names.get_values_for_type(x509.DNSName)


def test_a_second_init_and_a_nodes_directory_are_refused(directory: Path, tmp_path: Path) -> None:
    before = hub_keys.read(directory)
    assert "nothing was changed" in pesisir("init", "--role", "hub", "--dir", directory).sentence()
    assert hub_keys.read(directory) == before
    assert pesisir("node", "--dir", directory).status == 1
    node = tmp_path / "node"
    assert pesisir("init", "--dir", node).status == 0
    assert "a node's directory" in pesisir("hub", "--dir", node).sentence()
    assert pesisir("init", "--role", "hub", "--dir", node).status == 1
    refused = pesisir("init", "--role", "hub", "--dir", tmp_path / "x", "--url", "ftp://x")
    assert "ftp://x" in refused.sentence()
    assert not (tmp_path / "x" / hub_keys.FILE_NAME).exists()


def test_the_hub_says_ready_refuses_a_second_and_stops_when_told(directory: Path) -> None:
    with running(directory) as (process, ready):
        assert f" hub={hub_keys.read(directory).hub_id} " in ready
        refused = command.process("hub", "--dir", directory).sentence()
        assert f"a hub is already running in {directory} (pid {process.pid})" in refused.lower()
        client = client_of(directory, port_of(ready), WrittenNode())
        client.close()
        began_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert time.monotonic() - began_s < 10


def client_of(directory: Path, port: int, node: WrittenNode) -> HubClient:
    """A node's way to the hub."""
    return HubClient(
        f"https://127.0.0.1:{port}",
        hub_keys.read(directory).ca_pem,
        node_id=node.node_id,
        signer=node.key.sign,
    )


def test_a_hub_that_is_killed_has_all_it_acknowledged_and_nothing_twice(directory: Path) -> None:
    node = WrittenNode()
    opened = settings.load_for_hub(directory, {})

    async def enrol() -> None:
        hub = await Hub.open(directory, opened, lambda: NOON)
        await Office(hub, NOON).enrol(node)
        await hub.close()

    async def send(port: int, count: int) -> None:
        """Exchanges until the hub is gone."""
        client = client_of(directory, port, node)
        try:
            for _ in range(count):
                for user in range(5):
                    node.session(user)
                body = wire.pack(node.exchange())
                counter = node.next_counter()
                path = client.path("exchange")
                reply = await client.request("POST", path, body, counter=counter, created_at=NOON)
                assert reply.status == 200
                answer = wire.unpack(reply.body, wire.Answer)
                assert answer.cosignature is not None
                node.keep(answer.cosignature, node.checkpoint())
        except Unreachable:
            pass
        finally:
            client.close()

    asyncio.run(enrol())
    for _ in range(3):
        with running(directory) as (process, ready):

            async def until_killed(port: int, victim: int) -> None:
                sending = asyncio.create_task(send(port, 10_000))
                await asyncio.sleep(0.5)
                os.kill(victim, signal.SIGKILL)
                await sending

            asyncio.run(until_killed(port_of(ready), process.pid))
    with running(directory) as (process, ready):
        asyncio.run(send(port_of(ready), 1))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert node.acked == len(node.records)

    async def look() -> None:
        hub = await Hub.open(directory, opened, lambda: NOON)
        sessions = len(node.records) - 2
        assert sessions >= 20
        assert await Office(hub, NOON).totals(node) == (sessions, sessions * 1100)
        assert await Office(hub, NOON).alarms() == []
        assert await hub.proof.faults(node.node_id, NOON) == []
        await hub.close()

    asyncio.run(look())


def test_a_backup_comes_back_and_nodes_send_the_rest_again(directory: Path, tmp_path: Path) -> None:
    node = WrittenNode()

    async def take(place: Path, *, proof: bool = False) -> wire.Answer:
        hub = await Hub.open(place, settings.load_for_hub(place, {}), lambda: NOON)
        office = Office(hub, NOON)
        if not await hub.store.nodes():
            await office.enrol(node)
        sent = node.exchange(proof=node.cosigned if proof else None)
        answer = (await office.take(node, sent)).answer
        await hub.close()
        return answer

    node.session(1)
    asyncio.run(take(directory))
    file = tmp_path / "hub.backup"
    done = pesisir("backup", file, "--dir", directory, "--json").json
    assert done["has_database"] and stat.S_IMODE(file.stat().st_mode) == 0o600
    node.session(2)
    assert asyncio.run(take(directory)).backed_up_size == 3
    checked = pesisir("check", "--dir", directory, "--json").json
    assert checked["ok"] and "4 records" in checked["checks"][1]["message"]

    other = tmp_path / "other"
    restored = pesisir("restore", file, "--dir", other, "--json").json
    assert restored["kept"] == []
    assert hub_keys.read(other) == hub_keys.read(directory)
    assert asyncio.run(take(other)).problem == wire.Problem.BEHIND
    node.acked, known = 3, node.acked
    sent = asyncio.run(take(other, proof=True))
    assert (sent.problem, sent.size, node.acked) == (None, 4, known)
    with running(other) as (process, _):
        assert pesisir("restore", file, "--dir", other).sentence().endswith("you restore.")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert len(pesisir("restore", file, "--dir", other, "--json").json["kept"]) >= 2
    content = bytearray(file.read_bytes())
    content[2000] ^= 1
    file.write_bytes(content)
    assert "nothing was touched" in pesisir("restore", file, "--dir", other).sentence()


def test_a_stick_is_taken_by_a_command_and_told_in_words(directory: Path, tmp_path: Path) -> None:
    node = WrittenNode()

    async def enrol() -> None:
        hub = await Hub.open(directory, settings.load_for_hub(directory), lambda: NOON)
        await Office(hub, NOON).enrol(node)
        await hub.close()

    asyncio.run(enrol())
    node.session(1)
    path = usb_stick.batches_path(tmp_path, node.node_id)
    usb_stick.write_batches(path, node.node_id, 1, [wire.pack(node.exchange())], node.key.sign)
    told = pesisir("hub", "import", tmp_path, "--dir", directory)
    assert told.status == 0, told.err
    assert told.out.splitlines()[1].split()[:4] == [node.node_id, "1", "3", "-"]
    (again,) = pesisir("hub", "import", tmp_path, "--dir", directory, "--json").json
    assert (again["size"], again["problem"]) == (3, None)


def test_the_hubs_ledger_is_exported_and_verified_by_commands(
    directory: Path, tmp_path: Path
) -> None:
    node = WrittenNode()

    async def fill() -> None:
        hub = await Hub.open(directory, settings.load_for_hub(directory), lambda: NOON)
        place = Office(hub, NOON)
        await place.enrol(node)
        node.session(1)
        node.session(2)
        await place.take(node)
        await hub.close()

    asyncio.run(fill())
    (box,) = pesisir("ledger", "status", "--dir", directory, "--json").json
    assert (box["node"], box["epochs"][0]["size"]) == (node.node_id, 4)
    keys, file = tmp_path / "keys", tmp_path / "log"
    keys.write_text("\n".join(box["keys"]))
    done = pesisir("ledger", "export", file, "--box", node.node_id, "--dir", directory, "--json")
    assert done.json == {"file": str(file), "node": node.node_id, "records": 4}
    verified = pesisir("ledger", "verify", file, "--key", keys, "--json").json
    assert verified["is_good"] and verified["epochs"][0]["cosigned"] == 4
    database = sqlite3.connect(directory / "pesisir.hub.db")
    database.execute("UPDATE record SET public = x'00' WHERE seq = 2")
    database.commit()
    database.close()
    pesisir("ledger", "export", file, "--force", "--dir", directory)
    wrong = pesisir("ledger", "verify", file, "--key", keys)
    assert wrong.status == 1 and "record 2 of epoch 0" in wrong.err, wrong
    checked = pesisir("check", "--dir", directory)
    assert checked.status == 1 and "records" in checked.out, checked

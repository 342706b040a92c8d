"""Octets of the way to the hub: per record, per idle exchange, per month of a village.

A whole node exchanges with a real hub through a relay on loopback that counts what TLS sends; the
segments are those that TCP says it sent there, with one more for each 1,448 octets, which on
loopback fit into one. TCP and IPv4 headers with timestamps are 52 octets.
"""

import asyncio
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from portal import wire
from portal.domain import ledger
from portal.domain.ledger import ClockQuality, Kind, Record, Usage
from portal.sync import trust as hub_trust
from radius.packet import CLASS
from tests.e2e.command import pesisir
from tests.e2e.hub_process import RunningHub
from tests.unit.aaa.rig import INTERIM, START, STOP, NodeRig

MOST_PER_RECORD, MOST_IDLE, MOST_MONTH = 80, 3_000, 10_000_000
BATCH = 200
SESSIONS_A_DAY = 200
EXCHANGES_A_DAY = 48
CARDS = 500
HEADERS = 52
SEGMENT = 1448
GATEWAY = "10.20.0.1"
_SEGMENTS_AT = 136
"""Of tcpi_segs_out in Linux's struct tcp_info; tcpi_segs_in follows."""


@dataclass(slots=True)
class Counted:
    """Octets on the way, both directions together."""

    tls: int = 0
    tcp: int = 0

    @property
    def wire(self) -> int:
        """All that a provider counts."""
        return self.tls + self.tcp


class CountingRelay:
    """Passes octets on to the hub and counts them."""

    def __init__(self, target: tuple[str, int]):
        self.counted = Counted()
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(near,))
            thread.start()
            self._threads.append(thread)

    def _serve(self, near: socket.socket) -> None:
        far = socket.create_connection(self._target)
        sums = [0, 0]

        def pass_on(source: socket.socket, sink: socket.socket, which: int) -> None:
            with suppress(OSError):
                while octets := source.recv(65536):
                    sums[which] += len(octets)
                    sink.sendall(octets)
            with suppress(OSError):
                sink.shutdown(socket.SHUT_WR)

        other = threading.Thread(target=pass_on, args=(far, near, 1))
        other.start()
        pass_on(near, far, 0)
        other.join()
        told = near.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
        segments = sum(struct.unpack_from("=II", told, _SEGMENTS_AT))
        segments += sum(octets // SEGMENT for octets in sums)
        self.counted.tls += sum(sums)
        self.counted.tcp += segments * HEADERS
        near.close()
        far.close()

    def take(self) -> Counted:
        """What was counted since the last time."""
        # The relay's threads see the end of a connection a moment later.
        time.sleep(0.05)
        found, self.counted = self.counted, Counted()
        return found

    def close(self) -> None:
        """Stop."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join()


def per_record() -> float:
    """Octets of HTTP body for a session record, in a batch of 200 with its checkpoint."""
    records = []
    for number in range(BATCH):
        usage = Usage(
            flags=3,
            pseudonym=os.urandom(10),
            gateway=1 + number % 3,
            profile=1 + number % 4,
            started_ago_s=600 + 37 * number,
            duration_s=600 + 37 * number,
            counted_s=590 + 37 * number,
            input_octets=1_000_000 + 77_777 * number,
            output_octets=20_000_000 + 1_234_567 * number,
            cause=1,
        )
        at = 1_795_000_000 + 430 * number
        record = Record(Kind.SESSION, 20_000 + number, 12, at, ClockQuality.SYNCHRONISED, 1, usage)
        records.append((ledger.encode(record), os.urandom(32)))
    checkpoint = f"pesisir/node/0123456789abcdef/0\n20200\n{'x' * 44}\n\n" + "— " + "x" * 122 + "\n"
    message = wire.Exchange(
        *(1, 0, 20_000, wire.pack_records(records), checkpoint, 20_000),
        held=[wire.Held("profiles", "all", 3), wire.Held("settings", "site TJL", 2)],
    )
    return len(wire.pack(message)) / BATCH


@contextmanager
def enrolled(directory: Path) -> Iterator[tuple[Path, CountingRelay]]:
    """A node's directory that reports through a counting relay."""
    node = directory / "node"
    with RunningHub(directory / "hub") as hub:
        file = directory / "site.enrol"
        hub.command("site", "add", "TJL", "Tanjung Laut", "--zone", "Asia/Makassar", "--file", file)
        enrolment = pesisir("--dir", node, "enrol", file, "--json")
        assert enrolment.status == 0, enrolment.err
        hub.command("approve", "TJL")
        relay = CountingRelay(("127.0.0.1", urlsplit(hub.url).port or 0))
        trust = hub_trust.read(node)
        assert trust is not None
        hub_trust.write(node, replace(trust, url=f"https://localhost:{relay.port}"))
        try:
            yield node, relay
        finally:
            relay.close()


async def village(node: Path, relay: CountingRelay, days: int) -> tuple[Counted, Counted, Counted]:
    """(an idle exchange, a day, a nightly backup) on the wire."""
    rig = NodeRig(node.parent, at=time.time())
    rig.directory.rmdir()
    rig.directory, rig._started = node, True
    await rig.open()
    # Exchanges are asked for here; the node's own would be counted too.
    next(task for task in rig.node._tasks if task.get_name() == "hub").cancel()
    sync = rig.node.hub.sync
    try:
        await rig.gateway("pos", GATEWAY)
        cards = await rig.cards("warga", CARDS, data_day="500MB", valid="30d")
        for _ in range(3):
            await sync.now()
            rig.sleep(1800)
        relay.take()
        idles = []
        for _ in range(3):
            await sync.now()
            idles.append(relay.take())
            rig.sleep(1800)
        idle = sorted(idles, key=lambda one: one.wire)[1]
        trust = rig.node.hub.trust()
        assert trust is not None
        backup, _ = await rig.node.hub.sealed.backup(trust.recovery)
        day = Counted()
        number = 0
        for turn in range(EXCHANGES_A_DAY * days):
            while number < (turn + 1) * SESSIONS_A_DAY // EXCHANGES_A_DAY:
                await session(rig, number, cards[number % CARDS][1])
                number += 1
            rig.sleep(1800)
            if turn % 2:
                rig.node.ledger.append(Kind.HEALTH, {"disk_free": 12_345_678, "users": turn})
            await rig.node.commit.now()
            outcome = await sync.now()
            assert not outcome.sentence, outcome.sentence
            found = relay.take()
            day.tls += found.tls
            day.tcp += found.tcp
        nightly = Counted(len(backup) + 1200, (len(backup) // SEGMENT + 12) * 2 * HEADERS)
        return idle, Counted(day.tls // days, day.tcp // days), nightly
    finally:
        await rig.close()


async def session(rig: NodeRig, number: int, code: str) -> None:
    """One session from login to logout, with a report in between."""
    mac = f"02-00-00-00-{number // 250:02x}-{number % 250:02x}"
    accepted = await rig.access(GATEWAY, code, code, mac, acct_session_id=f"s{number}")
    assert accepted is not None
    report: dict[str, Any] = {
        "mac": mac,
        "class_value": accepted.first.get(CLASS),
        "output_octets": 0,
    }
    for status, seconds in ((START, 0), (INTERIM, 300), (STOP, 420)):
        await rig.account(
            *(GATEWAY, status, f"s{number}"),
            **{**report, "time_s": seconds, "input_octets": seconds * 40_000},
        )


def measure_sync(directory: Path, is_quick: bool) -> str:
    """The octets against what they may be."""
    record = per_record()
    with enrolled(directory) as (node, relay):
        idle, day, nightly = asyncio.run(village(node, relay, 1))
    month = Counted(30 * (day.tls + nightly.tls), 30 * (day.tcp + nightly.tcp))
    print(
        f"session record {record:.1f} octets of body; idle exchange {idle.wire} octets on the wire"
        f" (TLS {idle.tls}, TCP/IP {idle.tcp}); month {month.wire / 1e6:.2f} MB (TLS"
        f" {month.tls / 1e6:.2f}, TCP/IP {month.tcp / 1e6:.2f}), of it nightly backups of"
        f" {CARDS} cards {30 * nightly.wire / 1e6:.2f}",
        flush=True,
    )
    rows = [
        (f"body of a session record, batches of {BATCH}", f"{record:.1f}", MOST_PER_RECORD),
        ("idle exchange, all", f"{idle.wire}", MOST_IDLE),
        ("of it TLS with HTTP", f"{idle.tls}", ""),
        ("of it TCP and IP", f"{idle.tcp}", ""),
        (
            f"month, {SESSIONS_A_DAY} sessions a day, {EXCHANGES_A_DAY} exchanges, all",
            f"{month.wire:,}",
            f"{MOST_MONTH:,}",
        ),
        ("of it TLS with HTTP", f"{month.tls:,}", ""),
        ("of it TCP and IP", f"{month.tcp:,}", ""),
        (f"of it nightly backups of {CARDS} cards", f"{30 * nightly.wire:,}", ""),
    ]
    assert record <= MOST_PER_RECORD and idle.wire <= MOST_IDLE and month.wire <= MOST_MONTH, rows
    return "\n".join(
        ["| octets | measured | at most |", "|---|---|---|"]
        + [f"| {name} | {value} | {most} |" for name, value, most in rows]
    )

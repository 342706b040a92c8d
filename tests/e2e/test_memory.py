"""The box has 1 GB for everything: a node with 300 phones online stays under 120 MB."""

import asyncio
import random
from pathlib import Path

from tests.e2e import village
from tests.e2e.command import RunningNode
from tests.e2e.crowd import crowd, make_directory
from tests.e2e.node_process import http_status, run

PHONES = 300
PAGES = 200
LIMIT_OCTETS = 120_000_000


def resident_octets(process_id: int) -> int:
    """The highest resident set of a process so far (proc(5), VmHWM in KiB)."""
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def test_three_hundred_phones_and_their_pages_fit(tmp_path: Path) -> None:
    directory = make_directory(tmp_path / "node")
    with (
        crowd(directory, random.Random(7), singles=PHONES - 100, pairs=50) as gateways,
        RunningNode(directory) as node,
    ):
        gateways.find(node.ready)
        gateways.stay_online()
        http = node.address("http")
        for number in range(PAGES):
            path = ("/", "/status", "/terms", "/v/482917305515", "/captive-portal/api")[number % 5]
            assert http_status(http, path) in (200, 302), path
        page = asyncio.run(village.get(f"http://{http[0]}:{http[1]}/"))
        assert page.status == 200 and page.forms
        assert len(run(directory, "session", "list", "--open", "--limit", "1000")) == PHONES
        seen = resident_octets(node.process.pid)
        print(f"highest resident set: {seen / 1e6:.1f} MB")
        assert seen < LIMIT_OCTETS, f"{seen / 1e6:.0f} MB, expected less than 120 MB"
        assert node.stop() == 0

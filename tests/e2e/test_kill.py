"""The power is cut fifty times in the middle of the evening; no octet is lost or counted twice.

Seventy phones use a node while it is killed with SIGKILL and started again. What was answered must
be there after each start, what was not is sent again with the same octets or a new Identifier, and
at the end every counter equals the model's, in the running node and on disk. As each cut left the
disk, the ledger's tree is that of its records; at the end they add up to the sessions.
"""

import random
import signal
import time
from pathlib import Path

import pytest

from portal.store.db import FILE_NAME
from tests.e2e.crowd import check_end, check_stored, crowd, make_directory
from tests.e2e.node_process import Warm
from tests.unit import ledger_check

# Where a cut falls into the work is a matter of milliseconds.
pytestmark = pytest.mark.alone

KILLS = 50
KILLED_AT_START_EVERY = 5
ANSWERS_A_LIFE = (20, 250)
CUT_WITHIN_S = 0.005


def test_fifty_power_cuts_under_load_lose_and_double_nothing(tmp_path: Path) -> None:
    chance = random.Random(20261121)
    directory = make_directory(tmp_path / "node")
    stored_unanswered = cut_off = 0
    with (
        Warm(tmp_path / "node.log") as warm,
        crowd(directory, chance, singles=30, pairs=20) as gateways,
    ):
        for life in range(KILLS):
            if life % KILLED_AT_START_EVERY == 0:
                node = warm.start(directory)
                time.sleep(chance.uniform(0, 0.2))
                node.end()
            node = warm.start(directory)
            node.wait_ready()
            gateways.find(node.ready)
            serial = chance.choice(gateways.phones).serial
            stored_unanswered += check_stored(directory, gateways, serial)
            gateways.repeat_all()
            gateways.work(chance.randrange(*ANSWERS_A_LIFE))
            gateways.burst(chance.randrange(1, 200))
            if life % 2:
                time.sleep(chance.uniform(0, CUT_WITHIN_S))
            node.end(signal.SIGKILL)
            ledger_check.check_tree(directory / FILE_NAME)
            gateways.collect(0)
            cut_off += gateways.unanswered > 0
        node = warm.start(directory)
        node.wait_ready()
        gateways.find(node.ready)
        gateways.repeat_all()
        gateways.finish()
        check_end(directory, gateways)
        node.end(signal.SIGTERM)
        check_end(directory, gateways)
        assert ledger_check.check(directory / FILE_NAME) > KILLS
    log = (tmp_path / "node.log").read_text()
    assert "Traceback" not in log, log
    # Else the cuts came when nothing was going on, and the test has shown nothing.
    assert cut_off >= KILLS / 2 and stored_unanswered > 0, (cut_off, stored_unanswered)

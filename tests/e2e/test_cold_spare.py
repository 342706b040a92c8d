"""The cold-spare drill: the box of a village is gone, a blank one takes its place.

Old cards are valid, balances are those of the last exchange, the chain of records goes on.
"""

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any

from portal.domain import note
from portal.domain.ledger import Kind, decode
from radius.packet import ACCESS_ACCEPT, CLASS
from tests.e2e.command import pesisir, process
from tests.e2e.hub_process import RunningHub
from tests.unit.aaa.rig import INTERIM, START, NodeRig

GATEWAY = "10.20.0.1"
PHONE = "02-AA-BB-CC-DD-01"
USED, LATER = 40_000_000, 55_000_000


def enrolled(hub: RunningHub, directory: Path) -> None:
    """A node of a new site, approved."""
    file = directory.with_suffix(".enrol")
    hub.command("site", "add", "TJL", "Tanjung Laut", "--zone", "Asia/Makassar", "--file", file)
    assert pesisir("--dir", directory, "enrol", file, "--json").json["state"] == "pending"
    hub.command("approve", "TJL")


async def opened(directory: Path) -> NodeRig:
    rig = NodeRig(directory.parent, at=time.time())
    rig.directory.rmdir()
    rig.directory = directory
    rig._started = True
    return await rig.open()


async def village_life(directory: Path) -> tuple[str, str, Any, int]:
    """A card is used before and after the last exchange; then the box is gone."""
    rig = await opened(directory)
    try:
        await rig.gateway("pos", GATEWAY)
        [(serial, code), _] = await rig.cards("warga", 2, data_total="100MB")
        accepted = await rig.access(GATEWAY, code, code, PHONE, acct_session_id="s1")
        assert accepted is not None and accepted.code == ACCESS_ACCEPT
        class_value = accepted.first[CLASS]
        report = {"mac": PHONE, "class_value": class_value, "output_octets": 0}
        await rig.account(GATEWAY, START, "s1", **{**report, "time_s": 0, "input_octets": 0})
        rig.sleep(300)
        await rig.account(GATEWAY, INTERIM, "s1", **{**report, "time_s": 300, "input_octets": USED})
        outcome = await rig.node.hub.sync.now()
        assert (outcome.sentence, rig.node.hub.sync.status()["standing"]) == ("", "well")
        rig.sleep(300)
        late = {**report, "time_s": 600, "input_octets": LATER}
        await rig.account(GATEWAY, INTERIM, "s1", **late)
        assert rig.show(serial)["octets_used"] == LATER
        head = rig.node.ledger.store.acked().size
    finally:
        await rig.close()
    return serial, code, class_value, head


async def goes_on(directory: Path, serial: str, code: str, class_value: Any, acked: int) -> None:
    """What the blank box can do."""
    rig = await opened(directory)
    try:
        assert rig.show(serial)["octets_used"] == USED
        # The phone's session still runs at the gateway: what it reports is counted once.
        report = {"mac": PHONE, "class_value": class_value, "output_octets": 0}
        await rig.account(
            GATEWAY, INTERIM, "s1", **{**report, "time_s": 700, "input_octets": LATER + 1000}
        )
        assert rig.show(serial)["octets_used"] == LATER + 1000
        again = await rig.access(GATEWAY, code, code, PHONE, acct_session_id="s2")
        assert again is not None and again.code == ACCESS_ACCEPT
        outcome = await rig.node.hub.sync.now()
        assert (outcome.sentence, rig.node.hub.sync.status()["standing"]) == ("", "well")
        head = rig.node.ledger.store.head()
        assert head is not None and head.epoch == 1
        opening = decode(rig.node.ledger.store.records(1, 0, 1)[0][1])
        assert opening.kind == Kind.EPOCH and isinstance(opening.payload, dict)
        parent = note.parse_checkpoint(note.parse_note(opening.payload["parent"]).text)
        assert parent.size == acked
        assert rig.node.ledger.store.acked().size == head.size
        # No serial and no session id of the dead box is given out again.
        issued = await rig.node.vouchers.issue("warga", count=1)
        assert int(issued["batch"][1:]) > int(serial[1:4])
    finally:
        await rig.close()


def test_a_blank_box_takes_the_place_of_a_dead_one(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    with RunningHub(tmp_path / "hub") as hub:
        enrolled(hub, old)
        serial, code, class_value, acked = asyncio.run(village_life(old))
        kept = tmp_path / "kept"
        shutil.move(old, kept)

        file = tmp_path / "new.enrol"
        hub.command("site", "token", "TJL", "--file", file)
        asked = pesisir(
            *("--dir", new, "enrol", file, "--recovery-key", hub.recovery_key, "--wait", "0")
        )
        assert "has approved this node yet" in asked.sentence()
        hub.command("approve", "TJL", "--replace")
        found = process(
            *("--dir", new, "enrol", file, "--recovery-key", hub.recovery_key, "--json")
        ).json
        assert found["cards"] == 2
        asyncio.run(goes_on(new, serial, code, class_value, acked))
        # The hub has proven the chain over both boxes, and the old one reports no more.
        looked = pesisir("--dir", hub.directory, "check", "--json")
        assert looked.status == 0 and looked.json["ok"], looked.out
        assert asyncio.run(standing_of(kept)) == "revoked"


async def standing_of(directory: Path) -> str:
    """How a box stands with its hub after an exchange."""
    rig = await opened(directory)
    try:
        await rig.node.hub.sync.now()
        return str(rig.node.hub.sync.status()["standing"])
    finally:
        await rig.close()


def test_another_key_opens_nothing_and_changes_nothing(tmp_path: Path) -> None:
    with RunningHub(tmp_path / "hub") as hub:
        enrolled(hub, tmp_path / "old")
        file = tmp_path / "new.enrol"
        hub.command("site", "token", "TJL", "--file", file)
        other = tmp_path / "other.txt"
        other.write_text(f"X25519-PRIVATE {'11' * 32}\n")
        asked = pesisir("--dir", tmp_path / "new", "enrol", file, "--recovery-key", other)
        assert "another hub's" in asked.sentence()
        assert not (tmp_path / "new" / "pesisir.db").exists()

"""The hub's copy of a box's ledger as a file: what a person changed by hand in the hub's database
is named by both verifiers, without the hub."""

import io
import runpy
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from portal import hub_commands, signing
from portal.domain import ledger_file, note
from portal.errors import UserError
from tests.unit.hub.office import Office, Tell
from tests.unit.hub.written_node import WrittenNode

_AUDITOR = Path(__file__).parents[3] / "docs" / "verify-ledger.py"
_numbers = count(1)
MONTHS_14 = 14 * 31 * 86_400


async def verified(place: Office, node: WrittenNode, directory: Path) -> ledger_file.Finding:
    """What both verifiers say of the hub's file, with keys from elsewhere."""
    target = directory / f"file-{next(_numbers)}"
    await place.hub.export.write(node.node_id, target)
    return judged(place, node, target)


def judged(place: Office, node: WrittenNode, file: Path) -> ledger_file.Finding:
    content = file.read_bytes()
    keys = [
        note.Key(f"pesisir/node/{node.node_id}", note.ED25519, node.public),
        place.hub.keys.cosigner_key,
    ]
    found = ledger_file.check(io.BytesIO(content), signing.verify, trusted=keys)
    auditor: Any = runpy.run_path(str(_AUDITOR))["verify"]
    wrong, _ = auditor(io.BytesIO(content), [str(key) for key in keys])
    assert bool(wrong) == (found.problem is not None), (wrong, found.problem)
    return found


def test_the_hubs_file_proves_what_it_cosigned(tell: Tell, tmp_path: Path) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        for user in range(3):
            node.session(user)
        await place.take(node)
        node.session(3)
        await place.take(node)
        found = await verified(place, node, tmp_path)
        assert found.problem is None
        assert [(each.records, each.cosigned) for each in found.epochs] == [(6, 6)]
        assert found.usages[1].sessions == 4

    tell(story)


def test_the_hubs_file_is_good_after_retention(tell: Tell, tmp_path: Path) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        for user in range(3):
            node.session(user)
        await place.take(node)
        place.now += MONTHS_14
        node.session(9, at=place.now)
        await place.take(node)
        assert await place.hub.tidy() == 3
        found = await verified(place, node, tmp_path)
        assert found.problem is None
        assert (found.records, found.pruned) == (6, 3)

    tell(story)


TAMPERINGS = (
    ("UPDATE record SET c_loc = ? WHERE seq = 3", 0),
    ("DELETE FROM record WHERE seq = 3", 3),
    ("DELETE FROM record WHERE seq = 5", 5),
    ("UPDATE record SET public = (SELECT public FROM record WHERE seq = 4) WHERE seq = 3", 3),
    ("UPDATE checkpoint SET note = replace(note, '6', '7') WHERE size = 6", 0),
    ("DELETE FROM checkpoint WHERE size = 6", 0),
)


@pytest.mark.parametrize(("sql", "first"), TAMPERINGS)
def test_a_change_by_hand_at_the_hub_is_named(
    tell: Tell, tmp_path: Path, sql: str, first: int
) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        for user in range(4):
            node.session(user)
        await place.take(node)
        assert (await verified(place, node, tmp_path)).problem is None
        async with place.hub.store.database.transaction() as transaction:
            await transaction.run(sql, (b"\x01" * 32,) if "?" in sql else ())
        problem = (await verified(place, node, tmp_path)).problem
        assert problem is not None
        assert first in (0, problem.first)

    tell(story)


def test_of_several_boxes_one_is_named(tell: Tell, tmp_path: Path) -> None:
    async def story(place: Office, node: WrittenNode) -> None:
        await place.take(node)
        given = {"path": str(tmp_path / "one"), "with_personal": False}
        done = await hub_commands.execute(place.hub, "export_ledger", given)
        assert done == {"node": node.node_id, "records": 2}
        other = WrittenNode(seed=b"\x09" * 32, sites=("BBB",))
        await place.enrol(other)
        with pytest.raises(UserError, match="--box"):
            await hub_commands.execute(place.hub, "export_ledger", given)
        with pytest.raises(UserError, match="no record"):
            await hub_commands.execute(place.hub, "export_ledger", {**given, "box": other.node_id})
        with pytest.raises(UserError, match="personal"):
            await hub_commands.execute(place.hub, "export_ledger", {**given, "with_personal": True})
        told: Any = await hub_commands.execute(place.hub, "ledger", {})
        sizes = {each["node"]: [one["size"] for one in each["epochs"]] for each in told}
        assert sizes == {node.node_id: [2], other.node_id: []}

    tell(story)

"""The hub's copy of a box's ledger as a file: what a person changed by hand in the hub's database
is named by both verifiers, without the hub."""

import asyncio
import io
import runpy
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from portal import signing
from portal.domain import ledger_file, note
from portal.errors import UserError
from portal.hub_process import commands as hub_commands
from tests.unit.hub.office import Office, Tell, make_directory, office
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
        assert (found.records, found.pruned, found.dropped) == (6, 0, 3)

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


OTHER_KINDS = (
    "UPDATE record SET public = replace(public, x'01', x'ff') WHERE seq = 3",
    "UPDATE record SET public = 5 WHERE seq = 3",
    "UPDATE record SET c_loc = 'x' WHERE seq = 3",
    "UPDATE record SET site = 'x' WHERE seq = 3",
    "UPDATE checkpoint SET note = x'ff'",
    "UPDATE node_head SET frontier = x'00'",
    "UPDATE node_head SET frontier = 'x'",
    "UPDATE session_record SET pseudonym = 'x'",
    "UPDATE session_record SET day = 'x'",
    "UPDATE site_day SET sessions = 'x'",
    "UPDATE event SET payload = x'ff'",
    "UPDATE node_name SET code = x'ff'",
)


@pytest.mark.parametrize("sql", OTHER_KINDS)
def test_text_where_octets_were_is_a_change_like_any_other(tmp_path: Path, sql: str) -> None:
    # Only SQLite keeps what is not of the column's kind.
    directory = make_directory(tmp_path, "sqlite")
    target = tmp_path / "file"

    async def whole() -> None:
        async with office(directory) as place:
            node = WrittenNode()
            await place.enrol(node)
            for user in range(4):
                node.session(user)
            await place.take(node)
            async with place.hub.store.database.transaction() as transaction:
                await transaction.run(sql)
            assert await place.hub.proof.faults(node.node_id, place.now)
            if "frontier" in sql:
                given = {"path": str(target), "with_personal": False}
                with pytest.raises(UserError, match="cannot be read"):
                    await hub_commands.execute(place.hub, "export_ledger", given)
            else:
                problem = (await verified(place, node, tmp_path)).problem
                is_of_log = "public" in sql or "c_loc" in sql or "note" in sql
                assert (problem is not None) == is_of_log

    asyncio.run(whole())

"""A stick: the same batches with the same guarantees, carried by hand."""

import os
from pathlib import Path

import pytest

from portal import wire
from portal.errors import UserError
from portal.hub import stick
from portal.sync import stick as usb_stick
from tests.unit.hub.written_node import WrittenNode
from tests.unit.hub_pages.office import Office


def known(hub: Office) -> WrittenNode:
    """A node with a log that this hub has approved."""
    node = WrittenNode(sites=("TJL",))

    async def add() -> None:
        store = hub.hub.store
        async with store.database.transaction() as transaction:
            await store.add_node(
                transaction, node.node_id, node.public, bytes(32), hub.at, state="active"
            )
            await store.give_site(transaction, "TJL", node.node_id)

    hub.do(add())
    return node


def carry(node: WrittenNode, place: Path, seed: bytes | None = None) -> Path:
    """The node's file on a stick."""
    path = usb_stick.batches_path(place, node.node_id)
    signer = node if seed is None else WrittenNode(seed=seed)
    body = wire.pack(node.exchange())
    usb_stick.write_batches(path, node.node_id, 1, [body], signer.key.sign)
    return path


def take(hub: Office, place: Path) -> list[stick.Taken]:
    return hub.do(stick.take(place, hub.hub.store, hub.hub.ingest, hub.at))


def records(hub: Office) -> int:
    (row,) = hub.all("SELECT COUNT(*) AS count FROM record")
    return int(row["count"])


def test_a_stick_is_taken_once_and_its_answer_is_cosigned(hub: Office, tmp_path: Path) -> None:
    node = known(hub)
    carry(node, tmp_path)
    (first,) = take(hub, tmp_path)
    assert (first.node_id, first.size, first.problem) == (node.node_id, len(node.records), None)
    assert records(hub) == len(node.records)
    (body,) = usb_stick.read_answers(tmp_path, node.node_id)
    answer = wire.unpack(body, wire.Answer)
    assert answer.cosignature is not None and answer.size == len(node.records)
    (again,) = take(hub, tmp_path)
    assert (again.size, again.problem, records(hub)) == (first.size, None, first.size)


def test_a_stick_does_not_use_up_the_counter_of_the_link(hub: Office, tmp_path: Path) -> None:
    node = known(hub)
    carry(node, tmp_path)
    take(hub, tmp_path)
    (row,) = hub.all("SELECT request_counter FROM node WHERE node_id = ?", node.node_id)
    assert row["request_counter"] == 0


def test_a_stick_of_a_stranger_or_a_changed_one_is_refused(hub: Office, tmp_path: Path) -> None:
    node = known(hub)
    path = carry(node, tmp_path, seed=os.urandom(32))
    with pytest.raises(UserError, match="signed by no node of this hub"):
        take(hub, tmp_path)
    carry(node, tmp_path)
    octets = bytearray(path.read_bytes())
    octets[len(octets) // 2] ^= 1
    path.write_bytes(octets)
    with pytest.raises(UserError):
        take(hub, tmp_path)
    assert records(hub) == 0


def test_a_stick_of_a_box_that_is_not_enrolled_or_has_changed_its_key_says_so(
    hub: Office, tmp_path: Path
) -> None:
    carry(WrittenNode(seed=b"\x09" * 32, sites=("TJL",)), tmp_path)
    with pytest.raises(UserError, match="this hub does not know; enrol it"):
        take(hub, tmp_path)
    for left in tmp_path.iterdir():
        left.unlink()
    node = known(hub)
    carry(node, tmp_path)

    async def changed() -> None:
        store = hub.hub.store
        async with store.database.transaction() as transaction:
            await store.add_key(transaction, node.node_id, bytes(32), hub.at)
            await store.end_older_keys(transaction, node.node_id, bytes(32), hub.at)

    hub.do(changed())
    with pytest.raises(UserError, match="a key that the box has changed since; write it again"):
        take(hub, tmp_path)
    assert records(hub) == 0


def test_a_stick_copied_by_half_is_refused_and_the_whole_one_is_taken(
    hub: Office, tmp_path: Path
) -> None:
    path = carry(known(hub), tmp_path)
    whole = path.read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="is no file of a Pesisir stick, or is damaged"):
            take(hub, tmp_path)
        assert records(hub) == 0
    path.write_bytes(whole)
    (taken,) = take(hub, tmp_path)
    assert taken.problem is None and records(hub) == taken.size


def test_a_stick_older_than_the_hub_changes_nothing(hub: Office, tmp_path: Path) -> None:
    node = known(hub)
    older = carry(node, tmp_path).read_bytes()
    take(hub, tmp_path)
    node.session(1)
    carry(node, tmp_path)
    (newer,) = take(hub, tmp_path)
    assert newer.problem is None
    usb_stick.batches_path(tmp_path, node.node_id).write_bytes(older)
    (again,) = take(hub, tmp_path)
    assert (again.problem, again.size, records(hub)) == (None, newer.size, newer.size)


def test_an_empty_stick_is_said_to_be_one(hub: Office, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no files"):
        take(hub, tmp_path)

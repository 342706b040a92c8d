"""Sticks at the hub: the batches that somebody carried from a node, taken as if they had come over
the link, and the answers written beside them.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from portal import wire
from portal.errors import UserError
from portal.hub.checkpoints import CheckpointError
from portal.hub.ingest import Ingest
from portal.signing import verify
from portal.store.hub import HubStore
from portal.sync import stick as usb_stick
from portal.wire import Answer, Exchange, WireError


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a node's file."""

    node_id: str
    exchanges: int
    size: int
    """Records of the newest epoch that the hub has now."""
    problem: str | None
    """Why the hub did not simply accept: one of wire.Problem."""
    answers: str
    """The file to carry back."""


async def take(directory: Path, nodes: HubStore, ingest: Ingest, now: int) -> list[Taken]:
    """Take every node's file of a stick; a file that was taken before changes nothing.

    Raises UserError for a stick without files, and for a file that no node of this hub has signed;
    files before it are taken then, and stay so.
    """
    paths = await asyncio.to_thread(_files, directory)
    return [await _take(path, nodes, ingest, now) for path in paths]


def _files(directory: Path) -> list[Path]:
    paths = sorted(directory.glob("pesisir-*.batches"))
    if not paths:
        raise UserError(f"{directory} has no files pesisir-*.batches; expected a node's stick.")
    return paths


def _is_signed(found: usb_stick.Batches, keys: list[bytes]) -> bool:
    message = found.message()
    return any(verify(key, found.signature, message) for key in keys)


async def _take(path: Path, nodes: HubStore, ingest: Ingest, now: int) -> Taken:
    found = usb_stick.read_batches(path)
    keys = await nodes.keys_of(nodes.database, found.node_id)
    if not _is_signed(found, keys):
        former = await nodes.all_keys_of(nodes.database, found.node_id)
        if not former:
            raise UserError(
                f"{path} is of the box {found.node_id[:40]}, which this hub does not know; enrol it"
                " and write the stick again: the box has all its records still."
            )
        if _is_signed(found, former):
            raise UserError(
                f"{path} is signed with a key that the box has changed since; write it again at the"
                " box."
            )
        raise UserError(f"{path} is signed by no node of this hub, or was changed on the way.")
    answers: list[Answer] = []
    for body in found.exchanges:
        try:
            exchange = wire.unpack(body, Exchange)
            outcome = await ingest.take(found.node_id, None, exchange, now)
        except (WireError, CheckpointError) as error:
            raise UserError(f"{path} holds an exchange that makes no sense: {error}.") from error
        answers.append(outcome.answer)
    back = usb_stick.answers_path(path.parent, found.node_id)
    usb_stick.write_answers(back, found.node_id, now, answers)
    last = answers[-1] if answers else Answer(0)
    problem = next((str(one.problem) for one in answers if one.problem is not None), None)
    return Taken(found.node_id, len(answers), last.size, problem, str(back))

"""Sync commands: what the command line may ask of a node about its hub. See portal/commands.py."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from portal.control import Report
from portal.errors import UserError
from portal.node import Node
from portal.sync import stick as usb_stick

Arguments = Mapping[str, Any]
_AFTER = {
    "pending": "The node asks again by itself; nothing is lost.",
    "unknown": "Residents are served as before, and the records are kept here; call the office.",
    "revoked": "Residents are served as before, and the records are kept here; call the office.",
    "fork": "The records are kept here, and go on in a new log within an hour; the office is told.",
    "hub_lies": "The records and the proof are kept here; call the office.",
}
"""What follows for people, by how the node stands with its hub."""


async def _sync(node: Node, arguments: Arguments, report: Report) -> object:
    """Exchange now; returns how it went and how the node stands."""
    sync = node.hub.sync
    if not sync.is_enrolled:
        raise UserError("This node has no hub; it gets one with: pesisir enrol FILE")
    outcome = await sync.now()
    if outcome.sentence:
        after = _AFTER.get(sync.standing, "The node tries again by itself; nothing is lost.")
        raise UserError(f"No exchange: {outcome.sentence}. {after}")
    return {
        **sync.status(),
        "exchanges": outcome.exchanges,
        "records": outcome.records,
        "received": outcome.documents,
    }


async def _status(node: Node, arguments: Arguments, report: Report) -> object:
    return node.hub.sync.status()


async def _watch(node: Node, arguments: Arguments, report: Report) -> object:
    await node.hub.sync.watch(bool(arguments["is_on"]))
    return node.hub.sync.status()


async def _export_usb(node: Node, arguments: Arguments, report: Report) -> object:
    """Write what the hub does not have on a stick, after reading what the hub answered on it."""
    directory, node_id = Path(arguments["directory"]), node.signing.node_id
    answers = await asyncio.to_thread(usb_stick.read_answers, directory, node_id)
    taken = (await node.hub.sync.take_answers(answers)).exchanges if answers else 0
    bodies = await node.hub.sync.batches()
    path = usb_stick.batches_path(directory, node_id)
    octets = await asyncio.to_thread(
        usb_stick.write_batches, path, node_id, node.now(), bodies, node.signing.sign
    )
    status = node.hub.sync.status()
    return {
        "file": str(path),
        "octets": octets,
        "batches": len(bodies),
        "records": status["waiting"],
        "answers": taken,
    }


TABLE: dict[str, Callable[[Node, Arguments, Report], Awaitable[object]]] = {
    "sync": _sync,
    "hub_status": _status,
    "watch_hub": _watch,
    "export_usb": _export_usb,
}

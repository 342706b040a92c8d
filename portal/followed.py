"""Followed: what a running node tells the command line for as long as it listens.

By name, as commands are (portal/commands.py), but each yields JSON values one after the other over
the control socket (portal/control.py, `Following`).
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from functools import cache
from typing import Any

from portal.doctor.evidence import DROPS_COUNT_S
from portal.node import Node
from portal.trace import Event
from portal.web.operator import doctor_words
from portal.web.text import Translator, installed

WAITING = 1000
"""Events that wait for a slow reader; of further ones only the number is told."""
LOOK_EVERY_S = 1.0

Follow = Callable[[Node, Mapping[str, Any]], AsyncGenerator[object, None]]


@cache
def _english() -> Translator:
    return installed().translator("en")


def doctor_document(node: Node, name: str, *, begins_anew: bool = False) -> dict[str, Any]:
    """What the doctor says of a gateway now, as `pesisir gateway doctor --json` prints it.

    Raises UserError for an unknown gateway.
    """
    report = node.doctor.look(name, begins_anew=begins_anew)
    gateway, t = report.gateway, _english()
    test = report.testable
    found = {
        "gateway": gateway.name,
        "family": gateway.family,
        "make": report.label,
        "address": gateway.address,
        "now_at": node.now(),
        "watched_s": round(report.watched_s),
        "good": report.is_good,
        "done": report.is_done,
        "online": report.online,
        "summary": doctor_words.summary(t, report),
        "findings": [doctor_words.told(t, finding) for finding in report.findings],
        "test": None
        if test is None
        else {"session": test.session_id, "serial": test.serial, "calling_station_id": test.mac},
    }
    return _with_plain_spaces(found)


def _with_plain_spaces(found: dict[str, Any]) -> dict[str, Any]:
    """Pages keep number and unit on one line by a no-break space; terminals need none."""
    for finding in found["findings"]:
        for name in ("found", "fix"):
            if finding[name] is not None:
                finding[name] = finding[name].replace("\u00a0", " ")
    return found


async def doctor(node: Node, arguments: Mapping[str, Any]) -> AsyncGenerator[object, None]:
    """The doctor's document, every second."""
    begins_anew = bool(arguments.get("begins_anew"))
    while True:
        yield doctor_document(node, arguments["name"], begins_anew=begins_anew)
        begins_anew = False
        await asyncio.sleep(LOOK_EVERY_S)


async def watch(node: Node, arguments: Mapping[str, Any]) -> AsyncGenerator[object, None]:
    """What happens, event by event; first what was dropped lately and the last events there are."""
    wanted = _Wanted(node, arguments)
    waiting: asyncio.Queue[Event] = asyncio.Queue(WAITING)
    skipped = 0

    def take(event: Event) -> None:
        nonlocal skipped
        if wanted.is_wanted(event):
            try:
                waiting.put_nowait(event)
            except asyncio.QueueFull:
                skipped += 1

    past = [event for event in node.trace.last if wanted.is_wanted(event)]
    unsubscribe = node.trace.subscribe(take)
    try:
        for line in _dropped_lately(node, wanted):
            yield line
        last = int(arguments.get("last") or 0)
        for event in past[-last:] if last else ():
            yield event.told()
        while True:
            yield (await waiting.get()).told()
            if skipped and waiting.empty():
                count, skipped = skipped, 0
                yield Event(node.now(), 0.0, "skipped", "skipped", facts={"count": count}).told()
    finally:
        unsubscribe()


class _Wanted:
    """Which events the caller asked for."""

    def __init__(self, node: Node, arguments: Mapping[str, Any]) -> None:
        name, serial = arguments.get("gateway"), arguments.get("serial")
        self.gateway = None if name is None else node.admin.gateway(name).name
        self.serial = None if serial is None else str(serial).strip().upper()
        self._node = node

    def is_wanted(self, event: Event) -> bool:
        """Whether to tell it."""
        if self.serial is not None and event.serial != self.serial:
            return False
        if self.gateway is None or event.gateway == self.gateway:
            return True
        # What no gateway can be told of may well be this one's trouble.
        return not event.gateway and event.reason in ("unknown_client", "unknown_nas_identifier")


def _dropped_lately(node: Node, wanted: _Wanted) -> list[dict[str, Any]]:
    """What was dropped in the last minutes, one line for each address and reason."""
    lines = []
    for ago_s, drop in node.trace.drops():
        gateways = node.admin.gateways_at(drop.address)
        event = Event(
            at=round(node.now() - ago_s),
            elapsed_s=0.0,
            kind="dropped",
            verdict="dropped",
            gateway=gateways[0].name if len(gateways) == 1 else "",
            source=drop.address,
            reason=drop.reason,
            facts={"detail": drop.detail, "nas_id": drop.seen, "count": drop.count},
        )
        if ago_s <= DROPS_COUNT_S and wanted.is_wanted(event):
            lines.append(event.told())
    return lines


TABLE: dict[str, Follow] = {"doctor": doctor, "watch": watch}

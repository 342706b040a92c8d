"""For tests of cards at the desk: a node with one gateway, phones that use cards, refusals."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from portal.errors import DeskError
from radius.packet import ACCESS_ACCEPT, CLASS
from tests.unit.aaa.rig import START, STOP, NodeRig, octets_granted, play

GW = "10.20.0.1"
PHONE_A, PHONE_B = "02-AA-BB-CC-DD-01", "02-AA-BB-CC-DD-02"
MAC_A = "02aabbccdd01"
MB = 1_000_000
DAY_S = 86_400


def run(tmp_path: Path, story: Callable[[NodeRig], Awaitable[None]]) -> None:
    play(tmp_path, story, GW)


async def refusal(work: Awaitable[object]) -> str:
    """The key of the sentence with which something is refused."""
    with pytest.raises(DeskError) as caught:
        await work
    assert str(caught.value) != caught.value.key, "every refusal has a sentence"
    return caught.value.key


async def use(rig: NodeRig, code: str, octets: int, session: str, mac: str = PHONE_A) -> int:
    """Log in, use so much in 60 s, leave; the octets the login was granted, 0 for any number."""
    reply = await rig.access(GW, code, code, mac, acct_session_id=session)
    assert reply is not None and reply.code == ACCESS_ACCEPT
    value = reply.first[CLASS]
    await rig.account(GW, START, session, mac=mac, ip="10.1.0.9", class_value=value)
    await rig.account(
        *(GW, STOP, session),
        mac=mac,
        class_value=value,
        time_s=60,
        input_octets=0,
        output_octets=octets,
        cause=4,
    )
    return octets_granted(reply) if reply.vendor(14559, 3) else 0


async def is_let_in(rig: NodeRig, code: str, session: str, mac: str = PHONE_A) -> bool:
    reply = await rig.access(GW, code, code, mac, acct_session_id=session)
    assert reply is not None
    return reply.code == ACCESS_ACCEPT


async def deeds(rig: NodeRig, key: str) -> list[tuple[str, str, str, str]]:
    lines = await rig.node.vouchers.history(key)
    return [(one["operator"], one["action"], one["reason"], one["details"]) for one in lines]

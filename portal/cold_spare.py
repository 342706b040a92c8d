"""Cold spare: a blank box takes the place of one that is dead, with what its hub holds for it.

The box is enrolled like any other, the office approves it as the successor, and then it asks for
the sealed backup and the balances since, which only the office's recovery key opens.
"""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from portal import sealing, settings, wire
from portal.errors import UserError
from portal.signing import SigningKeys
from portal.sync import sealed_state
from portal.sync.client import HubClient, Unreachable
from portal.sync.trust import HubTrust

ASK_EVERY_S: Final = 10.0
_PRIVATE = re.compile(r"^X25519-PRIVATE\s+([0-9a-f]{64})\s*$", re.MULTILINE)


def read_recovery_key(path: Path, trust: HubTrust) -> bytes:
    """The office's private key out of the file that `pesisir init --role hub` wrote.

    Raises UserError when it is not there or another hub's.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The recovery key {path} cannot be read ({error}).") from error
    found = _PRIVATE.search(text)
    if found is None:
        raise UserError(f"{path} holds no recovery key; expected a line X25519-PRIVATE ...")
    private = bytes.fromhex(found[1])
    if sealing.public_of(private).hex() != trust.recovery:
        raise UserError(f"The recovery key {path} is another hub's.")
    return private


async def fetch(
    trust: HubTrust,
    keys: SigningKeys,
    *,
    proxy: str | None,
    wait_s: float,
    now: Callable[[], int],
    elapsed_s: Callable[[], float],
    waiting: Callable[[], None] = lambda: None,
) -> wire.Recovery:
    """What the hub holds for this box, as soon as the office has approved it.

    `waiting` is called once where it has not. Raises UserError after `wait_s`.
    """
    client = HubClient(
        trust.url, trust.authority, node_id=keys.node_id, signer=keys.sign, proxy=proxy
    )
    until_s, counter, is_told = elapsed_s() + wait_s, 0, False
    try:
        while True:
            counter += 1
            try:
                reply = await client.request(
                    "GET",
                    client.path("backup"),
                    counter=counter,
                    created_at=now(),
                    is_clock_doubtful=True,
                    most_octets=wire.MOST_BACKUP_OCTETS,
                )
            except Unreachable as error:
                why = str(error)
            else:
                if reply.status == 200:
                    return wire.unpack_backup(reply.body, wire.Recovery)
                answer = _answer(reply.body)
                why = answer.detail or f"the hub answered {reply.status}"
                if answer.problem == wire.Problem.COUNTER:
                    counter = max(counter, answer.size)
                    continue
                if answer.problem not in (wire.Problem.PENDING, wire.Problem.FULL):
                    raise UserError(f"The hub does not give the backup: {why}")
            if elapsed_s() >= until_s:
                raise UserError(
                    f"The backup could not be fetched ({why}); ask again with the same command."
                )
            if not is_told:
                waiting()
                is_told = True
            await asyncio.sleep(ASK_EVERY_S)
    except wire.WireError as error:
        raise UserError(f"The hub's answer makes no sense: {error}.") from error
    finally:
        client.close()


def restore(directory: Path, recovery: wire.Recovery, private: bytes) -> dict[str, Any]:
    """Make the node of a blank directory; see `sealed_state.restore`."""
    return sealed_state.restore(directory, recovery, private, settings_name=settings.FILE_NAME)


def _answer(body: bytes) -> wire.Answer:
    try:
        return wire.unpack(body, wire.Answer)
    except wire.WireError:
        return wire.Answer(0)

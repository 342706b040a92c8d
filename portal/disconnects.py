"""Disconnects: asking gateways to end sessions, and remembering what they answered.

An answer is not proof (design, quota rule 8): a session has ended when accounting says so. A
request without answer is repeated at the session's next accounting packet, when a pinhole through
NAT has just been opened (RFC 5176, conformance item 53).
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from portal.admin import Admin
from portal.sessions import Live
from radius.dynauth import DynamicAuthorization, Outcome
from radius.nas import SessionKeys
from radius.packet import NAS_IDENTIFIER, NAS_IP_ADDRESS, USER_NAME

log = logging.getLogger(__name__)

ASK_AGAIN_S = 20.0
"""Longer than three tries of 2, 3 and 5 s take."""


class Disconnects:
    """Sends Disconnect-Requests for sessions in memory."""

    def __init__(
        self,
        admin: Admin,
        *,
        now: Callable[[], int],
        elapsed_s: Callable[[], float],
        sender: DynamicAuthorization | None = None,
    ):
        self._admin = admin
        self._now = now
        self._elapsed_s = elapsed_s
        self._sender = sender or DynamicAuthorization()
        self._tasks: set[asyncio.Task[None]] = set()
        self._jobs: dict[int, asyncio.Task[Outcome | None]] = {}

    def want(self, live: Live, reason: str) -> None:
        """Ask for the end of a session now, and again at its next packets until it has ended."""
        if not live.session.is_open:
            return
        live.wants_disconnect = True
        self.remind(live, reason)

    def remind(self, live: Live, reason: str) -> None:
        """Ask again unless that was done a moment ago."""
        elapsed_s = self._elapsed_s()
        if elapsed_s - live.asked_s < ASK_AGAIN_S or not live.is_reachable:
            return
        task = asyncio.get_running_loop().create_task(self._ask_and_log(live, reason))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask_and_log(self, live: Live, reason: str) -> None:
        await self.ask(live, reason)

    async def ask(self, live: Live, reason: str) -> Outcome | None:
        """Send one Disconnect-Request and wait for the outcome; None when nobody can be asked.

        Who asks while a request is under way waits for that one's outcome.
        """
        job = self._jobs.get(live.session.id)
        if job is None:
            job = asyncio.get_running_loop().create_task(self._send(live, reason))
            self._jobs[live.session.id] = job
            job.add_done_callback(lambda _: self._jobs.pop(live.session.id, None))
        return await asyncio.shield(job)

    async def _send(self, live: Live, reason: str) -> Outcome | None:
        session = live.session
        gateway = self._admin.gateways_by_id.get(session.gateway_id)
        if gateway is None or not live.is_reachable:
            return None
        family = self._admin.families[gateway.family]
        if not family.CAN_DISCONNECT:
            return None
        live.asked_s = self._elapsed_s()
        ports = {family.DISCONNECT_PORT}
        heard = live.exchange
        if heard is None:
            address, local_address, user_name = live.gateway_address or "", None, ""
            nas_id = nas_ip = None
        else:
            address, local_address = heard.source[0], heard.local_address
            user_name = heard.packet.first.get(USER_NAME, b"").decode("utf-8", "replace")
            nas_id = heard.packet.text(NAS_IDENTIFIER)
            nas_ip = heard.packet.address(NAS_IP_ADDRESS)
            if family.DISCONNECT_AT_ACCOUNTING_PORT:
                ports.add(heard.source[1])
        keys = SessionKeys(
            user_name=user_name or live.serial,
            acct_session_id=session.acct_session_id,
            framed_ip=session.framed_ip,
            mac=session.mac,
            nas_id=nas_id,
            nas_ip=nas_ip,
        )
        asking = [
            asyncio.ensure_future(
                self._sender.disconnect(
                    address,
                    port,
                    gateway.secret.encode(),
                    family.disconnect_attributes(keys),
                    local_address=local_address,
                    message_authenticator=family.SIGNS_DISCONNECT,
                    event_timestamp=self._now() if family.STAMPS_DISCONNECT else None,
                )
            )
            for port in sorted(ports)
        ]
        outcome = await _first_answer(asking)
        log.info(
            "disconnect session=%d gateway=%s serial=%s reason=%s outcome=%s error_cause=%s",
            *(session.id, gateway.name, live.serial, reason, outcome.kind, outcome.error_cause),
        )
        return outcome

    async def stop(self) -> None:
        """Give up what is under way."""
        for task in [*self._tasks, *self._jobs.values()]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._jobs.values(), return_exceptions=True)
        self._sender.close()


async def _first_answer(asking: Sequence[asyncio.Future[Outcome]]) -> Outcome:
    """The first ACK or NAK from any of the ports asked; a timeout when none answers."""
    outcome = Outcome("timeout")
    try:
        for answer in asyncio.as_completed(asking):
            outcome = await answer
            if outcome.kind != "timeout":
                break
    finally:
        for pending in asking:
            pending.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    return outcome

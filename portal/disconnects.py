"""Disconnects: asking gateways to end sessions, and remembering what they answered.

An answer is not proof (design, quota rule 8): a session has ended when accounting says so. A
request without answer is repeated at the session's next accounting packet, when a pinhole through
NAT has just been opened (RFC 5176, conformance item 53).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from portal.admin import Admin
from portal.sessions import Live
from radius.dynauth import DynamicAuthorization, Outcome
from radius.nas import SessionKeys
from radius.packet import NAS_IDENTIFIER, NAS_IP_ADDRESS, USER_NAME

log = logging.getLogger(__name__)

ASK_AGAIN_S = 20.0
"""Longer than three tries of 2, 3 and 5 s take."""
OUTCOMES_KEPT = 200
"""What people asked for stays in memory; the audit has it for ever."""


@dataclass(slots=True, eq=False)
class Attempt:
    """A person asked for the end of a session, and what the gateway said to it."""

    number: int
    """Counts from 1 since the node started."""
    session_id: int
    site_id: int
    serial: str
    device: str | None
    """The name of a known device, whose card nobody holds."""
    gateway: str
    mac: str | None
    by: str
    asked_at: int
    sent: int = 0
    """Requests that led to an answer or to none; more than one where the session went on."""
    answer: str | None = None
    """`ack`, `nak`, `timeout` or, when nobody could be asked, `unasked`; None while it is awaited.
    It proves nothing: the session has ended when accounting says so."""
    answered_at: int | None = None
    error_cause: int | None = None
    """Error-Cause of a NAK (RFC 5176 3.5); many gateways give none."""
    round_trip_ms: int | None = None

    def take(self, outcome: Outcome | None, at: int) -> None:
        """Keep the newest outcome; None: there was nobody to ask."""
        self.answered_at = at
        if outcome is None:
            self.answer, self.error_cause, self.round_trip_ms = "unasked", None, None
            return
        self.sent += 1
        self.answer, self.error_cause = outcome.kind, outcome.error_cause
        round_trip_s = outcome.round_trip_s
        self.round_trip_ms = None if round_trip_s is None else round(round_trip_s * 1000)


Record = Callable[[Attempt], Awaitable[None]]
"""Writes an attempt where it stays."""


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
        self._tasks: set[asyncio.Task[object]] = set()
        self._jobs: dict[int, asyncio.Task[Outcome | None]] = {}
        self.outcomes: deque[Attempt] = deque(maxlen=OUTCOMES_KEPT)
        """What people asked for, oldest first."""
        self._attempts = 0

    # -- what people ask for ---------------------------------------------------------------

    def attempt(self, number: int) -> Attempt | None:
        """The attempt with this number, None when it is too old or never was."""
        return next((one for one in self.outcomes if one.number == number), None)

    def attempt_of(self, session_id: int) -> Attempt | None:
        """The newest attempt to end a session."""
        return next(
            (one for one in reversed(self.outcomes) if one.session_id == session_id),
            None,
        )

    async def begin(
        self, live: Live, by: str, record: Record, device: str | None = None
    ) -> Attempt:
        """Ask for the end of a session for a person, without waiting for the answer. Who asks while
        a request is under way shares its attempt.

        The request is repeated at the session's next packets until it has ended; where the gateway
        has not been heard yet, that is the first time. Nothing is sent that `record` did not write.
        """
        known = self.attempt_of(live.session.id)
        if known is not None and known.answer is None:
            return known
        attempt = await self._recorded(live, by, record, device)
        live.wants_disconnect = True
        if live.is_reachable:
            self._keep(self._ask_for(live, by))
        else:
            attempt.take(None, self._now())
        return attempt

    def _note(self, live: Live, by: str, device: str | None) -> Attempt:
        session = live.session
        self._attempts += 1
        attempt = Attempt(
            number=self._attempts,
            session_id=session.id,
            site_id=session.site_id,
            serial=live.serial,
            device=device,
            gateway=self._admin.gateway_name(session.gateway_id) or "",
            mac=session.mac,
            by=by,
            asked_at=self._now(),
        )
        self.outcomes.append(attempt)
        return attempt

    async def ask_for(self, live: Live, by: str, record: Record) -> Outcome | None:
        """`ask` once for a person who waits for the answer; the attempt is remembered, and given to
        `record` before anything is sent."""
        await self._recorded(live, by, record, None)
        return await self._ask_for(live, by)

    async def _recorded(self, live: Live, by: str, record: Record, device: str | None) -> Attempt:
        attempt = self._note(live, by, device)
        try:
            await record(attempt)
        except BaseException:
            self.outcomes.remove(attempt)
            raise
        return attempt

    async def _ask_for(self, live: Live, by: str) -> Outcome | None:
        try:
            return await self.ask(live, f"asked by {by}")
        except ValueError:
            # A gateway's address that is none, or an attribute a request must not have.
            log.exception("disconnect_impossible session=%d", live.session.id)
            attempt = self.attempt_of(live.session.id)
            if attempt is not None:
                attempt.take(None, self._now())
            return None

    def _keep(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- asking ----------------------------------------------------------------------------

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
        self._keep(self.ask(live, reason))

    async def ask(self, live: Live, reason: str) -> Outcome | None:
        """Send one Disconnect-Request and wait for the outcome; None when nobody can be asked.

        Who asks while a request is under way waits for that one's outcome.
        """
        job = self._jobs.get(live.session.id)
        if job is None:
            job = asyncio.get_running_loop().create_task(self._send_and_note(live, reason))
            self._jobs[live.session.id] = job
            job.add_done_callback(lambda _: self._jobs.pop(live.session.id, None))
        return await asyncio.shield(job)

    async def _send_and_note(self, live: Live, reason: str) -> Outcome | None:
        outcome = await self._send(live, reason)
        attempt = self.attempt_of(live.session.id) if self.outcomes else None
        if attempt is not None:
            attempt.take(outcome, self._now())
        return outcome

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

"""Disconnects: asking gateways to end sessions, or to give them new limits.

An answer is not proof (design, quota rule 8): a session has ended when accounting says so. A
request without answer is repeated at the session's next accounting packet, when a pinhole through
NAT has just been opened (RFC 5176, conformance item 53).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from portal.admin import Admin, Gateway
from portal.attempts import COA, DISCONNECT, NODE, Attempt, Attempts
from portal.sessions import Live
from radius.dynauth import DynamicAuthorization, Outcome, Send
from radius.nas import Family, Limits, SessionKeys
from radius.packet import NAS_IDENTIFIER, NAS_IP_ADDRESS, USER_NAME
from radius.server import Exchange

__all__ = ["ASK_AGAIN_S", "BY_PERSON", "Attempt", "Disconnects", "OnOutcome", "Record", "Way"]

log = logging.getLogger(__name__)

ASK_AGAIN_S = 20.0
"""Longer than three tries of 2, 3 and 5 s take."""
BY_PERSON = "operator"
"""Why, where a person asked for just this."""

Record = Callable[[Attempt], Awaitable[None]]
"""Writes an attempt where it stays."""
Way = Callable[[Gateway, SessionKeys], Awaitable[Outcome]]
"""Ends a session at a gateway that takes no Disconnect-Request over UDP."""
OnOutcome = Callable[[str, Live, str, Outcome | None], None]
"""Kind, session, why, outcome."""


class Disconnects:
    """Sends Disconnect- and CoA-Requests for sessions in memory."""

    def __init__(
        self,
        admin: Admin,
        attempts: Attempts,
        *,
        now: Callable[[], int],
        elapsed_s: Callable[[], float],
        sender: DynamicAuthorization | None = None,
    ):
        self._admin = admin
        self._attempts = attempts
        self._now = now
        self._elapsed_s = elapsed_s
        self._sender = sender or DynamicAuthorization(now=now)
        self._tasks: set[asyncio.Task[object]] = set()
        self._jobs: dict[tuple[int, str], asyncio.Task[Outcome | None]] = {}
        self.outcomes = attempts.of_people
        """What people asked for, oldest first."""
        self.heard: dict[int, Exchange] = {}
        """The newest accounting packet of each gateway: it opened its NAT last."""
        self.ways: dict[str, Way] = {}
        """Families that are not asked over UDP."""
        self.on_gone: Callable[[Live], None] | None = None
        """Called when a gateway says that it has no such session (Error-Cause 503)."""
        self.on_outcome: OnOutcome | None = None
        """Called for each request that led to an answer or to none."""

    def hear(self, datagram: bytes, sender: tuple[str, int]) -> None:
        """Take an answer that came to the socket which hears accounting."""
        self._sender.hear(datagram, sender)

    # -- what people ask for ---------------------------------------------------------------

    def attempt(self, number: int) -> Attempt | None:
        """What a person asked for lately, None when it is too old or never was."""
        return self._attempts.by_number(number)

    def attempt_of(self, session_id: int) -> Attempt | None:
        """The newest attempt of a person to end a session."""
        return self._attempts.of_person(session_id)

    async def stored(self, number: int) -> Attempt | None:
        """An attempt by its number, from memory or disk."""
        return await self._attempts.stored(number)

    async def actions(self, gateway_id: int, limit: int = 50) -> list[Attempt]:
        """What a gateway was asked last, by people and by the node, newest first."""
        return await self._attempts.of_gateway(gateway_id, limit)

    async def begin(self, live: Live, by: str, record: Record) -> Attempt:
        """Ask for the end of a session for a person, without waiting for the answer. Who asks while
        a request is under way shares its attempt.

        The request is repeated at the session's next packets until it has ended; where the gateway
        has not been heard yet, that is the first time. Nothing is sent that `record` did not write.
        """
        known = self.attempt_of(live.session.id)
        if known is not None and known.answer is None:
            return known
        attempt = await self._recorded(live, by, record)
        live.wants_disconnect = True
        if live.is_reachable:
            self._keep(self._ask_for(live))
        else:
            self._attempts.take(attempt, None)
        return attempt

    async def ask_for(self, live: Live, by: str, record: Record) -> Attempt:
        """Ask once for a person who waits for the answer; the attempt is remembered, and given to
        `record` before anything is sent."""
        attempt = await self._recorded(live, by, record)
        await self._ask_for(live)
        return attempt

    async def _recorded(self, live: Live, by: str, record: Record) -> Attempt:
        attempt = self._attempts.begin(live, DISCONNECT, BY_PERSON, by)
        try:
            await record(attempt)
        except BaseException:
            self._attempts.withdraw(attempt)
            raise
        return attempt

    async def _ask_for(self, live: Live) -> None:
        try:
            await self.ask(live, BY_PERSON)
        except ValueError:
            # A gateway's address that is none, or an attribute a request must not have.
            log.exception("disconnect_impossible session=%d", live.session.id)
            attempt = self.attempt_of(live.session.id)
            if attempt is not None:
                self._attempts.take(attempt, None)

    def _keep(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("asking_failed", exc_info=task.exception())

    # -- asking ----------------------------------------------------------------------------

    def resume(self, sessions: Callable[[int], Live | None]) -> None:
        """Go on asking for the end of sessions that were to end before the node started."""
        for session_id in self._attempts.wanted():
            live = sessions(session_id)
            if live is not None and live.session.is_open:
                live.wants_disconnect = True

    def want(self, live: Live, why: str) -> None:
        """Ask for the end of a session now, and again at its next packets until it has ended."""
        if not live.session.is_open:
            return
        live.wants_disconnect = True
        self.remind(live, why)

    def remind(self, live: Live, why: str) -> None:
        """Ask again unless that was done a moment ago."""
        elapsed_s = self._elapsed_s()
        if elapsed_s - live.asked_s < ASK_AGAIN_S or not live.is_reachable:
            return
        self._keep(self.ask(live, why))

    async def ask(self, live: Live, why: str) -> Outcome | None:
        """Send one Disconnect-Request and wait for the outcome; None when nobody can be asked.

        Who asks while a request is under way waits for that one's outcome.
        """
        live.asked_s = self._elapsed_s()
        return await self._once(live, DISCONNECT, why, None)

    async def change(self, live: Live, limits: Limits, why: str) -> Outcome | None:
        """Send one CoA-Request with a session's new limits, counted from its beginning, and wait
        for the outcome; None when nobody can be asked, or the session is to end anyway."""
        if live.wants_disconnect or not live.session.is_open:
            return None
        return await self._once(live, COA, why, limits)

    async def _once(self, live: Live, kind: str, why: str, limits: Limits | None) -> Outcome | None:
        key = (live.session.id, kind)
        job = self._jobs.get(key)
        if job is None:
            work = self._send_and_note(live, kind, why, limits)
            job = self._jobs[key] = asyncio.get_running_loop().create_task(work)
            job.add_done_callback(lambda _: self._jobs.pop(key, None))
        return await asyncio.shield(job)

    async def _send_and_note(
        self, live: Live, kind: str, why: str, limits: Limits | None
    ) -> Outcome | None:
        session = live.session
        gateway = self._admin.gateways_by_id.get(session.gateway_id)
        if gateway is None or not self._can(gateway, live, kind):
            outcome = None
            attempt = self._attempts.newest(session.id, kind)
        else:
            attempt = self._attempts.newest(session.id, kind)
            if attempt is None or not _goes_on(attempt, kind, why):
                attempt = self._attempts.begin(live, kind, why)
            outcome = await self._send(live, gateway, kind, limits)
            log.info(
                "%s session=%d gateway=%s serial=%s reason=%s outcome=%s error_cause=%s",
                *(kind, session.id, gateway.name, live.serial, why),
                *(outcome.kind, outcome.error_cause),
            )
        if attempt is not None:
            self._attempts.take(attempt, outcome)
        if self.on_outcome is not None:
            self.on_outcome(kind, live, why, outcome)
        if outcome is not None and outcome.is_session_unknown and self.on_gone is not None:
            self.on_gone(live)
        return outcome

    def _can(self, gateway: Gateway, live: Live, kind: str) -> bool:
        family = self._admin.families[gateway.family]
        if kind == COA:
            return family.COA != "none" and live.is_reachable
        return family.CAN_DISCONNECT and (live.is_reachable or gateway.family in self.ways)

    async def _send(
        self, live: Live, gateway: Gateway, kind: str, limits: Limits | None
    ) -> Outcome:
        session = live.session
        family = self._admin.families[gateway.family]
        own = live.exchange
        packet = None if own is None else own.packet
        user_name = b"" if packet is None else packet.first.get(USER_NAME, b"")
        keys = SessionKeys(
            user_name=user_name.decode("utf-8", "replace") or live.serial,
            acct_session_id=session.acct_session_id,
            framed_ip=session.framed_ip,
            mac=session.mac,
            nas_id=None if packet is None else packet.text(NAS_IDENTIFIER),
            nas_ip=None if packet is None else packet.address(NAS_IP_ADDRESS),
        )
        way = self.ways.get(gateway.family)
        if way is not None and limits is None:
            return await way(gateway, keys)
        if limits is None:
            request, attributes = self._sender.disconnect, family.disconnect_attributes(keys)
        else:
            request, attributes = self._sender.change, family.coa_attributes(keys, limits)
        heard = self._heard(live, gateway)
        address = (live.gateway_address or "") if heard is None else heard.source[0]
        stamp = self._now() if family.STAMPS_DISCONNECT else None
        asking = [
            asyncio.ensure_future(
                request(
                    address,
                    port,
                    gateway.secret.encode(),
                    attributes,
                    local_address=None if heard is None else heard.local_address,
                    message_authenticator=family.SIGNS_DISCONNECT,
                    event_timestamp=stamp,
                    through=through,
                )
            )
            for port, through in _doors(family, heard)
        ]
        return await _first_answer(asking)

    def _heard(self, live: Live, gateway: Gateway) -> Exchange | None:
        """The accounting packet that says where the gateway is and who we are to it: of this
        session, or a newer one of the same gateway."""
        newest = self.heard.get(gateway.id)
        known = live.gateway_address if live.exchange is None else live.exchange.source[0]
        if newest is not None and newest.source[0] == known:
            return newest
        return live.exchange

    async def stop(self) -> None:
        """Give up what is under way."""
        for task in [*self._tasks, *self._jobs.values()]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._jobs.values(), return_exceptions=True)
        self._sender.close()


def _goes_on(attempt: Attempt, kind: str, why: str) -> bool:
    """Whether a request repeats an attempt. The end of a session is asked for until it has ended,
    whatever its gateway says; limits are changed once."""
    if kind == DISCONNECT:
        return attempt.by != NODE or attempt.why == why or why == "superseded"
    return attempt.why == why and attempt.answer not in ("ack", "nak")


def _doors(family: Family, heard: Exchange | None) -> list[tuple[int, Send | None]]:
    """Port and way of each place where a gateway may take a request.

    The port its accounting comes from is asked by the socket that hears it, for only that one finds
    the way back through a NAT; the family's own port by a socket of its own.
    """
    own: tuple[int, Send | None] = (family.DISCONNECT_PORT, None)
    if heard is None or not family.DISCONNECT_AT_ACCOUNTING_PORT:
        return [own]
    back: tuple[int, Send | None] = (heard.source[1], heard.send_back)
    return [back] if back[0] == own[0] else [back, own]


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

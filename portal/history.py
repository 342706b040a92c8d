"""History: sessions as people look them up, and cutting one off."""

from collections.abc import Callable
from typing import Any

from portal.admin import Admin
from portal.audit import COMMAND_LINE
from portal.commit import GroupCommit
from portal.disconnects import Disconnects, Record
from portal.domain.session import Session
from portal.errors import UserError
from portal.sessions import Sessions
from portal.store.node import NodeStore
from portal.vouchers import Vouchers
from radius.dynauth import ERROR_CAUSES

LIMIT_MAX = 100_000


class History:
    """Sessions for the command line and the desk."""

    def __init__(
        self,
        store: NodeStore,
        admin: Admin,
        sessions: Sessions,
        vouchers: Vouchers,
        commit: GroupCommit,
        disconnects: Disconnects,
        *,
        record: Record,
        now: Callable[[], int],
    ):
        """`record`: writes down who asked for the end of a session."""
        self._record = record
        self._store = store
        self._admin = admin
        self._sessions = sessions
        self._vouchers = vouchers
        self._commit = commit
        self._disconnects = disconnects
        self._now = now

    async def listed(
        self,
        *,
        only_open: bool = False,
        since_s: int | None = None,
        since_at: int | None = None,
        serial: str | None = None,
        gateway: str | None = None,
        limit: int = 100,
    ) -> list[dict[str, Any]]:
        """Sessions, newest first; `since_s` seconds back or `since_at` leave out older ones."""
        if not 1 <= limit <= LIMIT_MAX:
            raise UserError(f"The limit is {limit}; expected 1 to {LIMIT_MAX}.")
        if since_s is not None:
            since_at = self._now() - since_s
        account_id = None if serial is None else self._vouchers.find(serial).account.id
        gateway_id = None if gateway is None else self._admin.gateway(gateway).id
        await self._commit.now()
        found = await self._store.list_sessions(
            only_open=only_open,
            since_at=since_at,
            account_id=account_id,
            gateway_id=gateway_id,
            limit=limit,
        )
        return [self._shown(session, card) for session, card in found]

    def _shown(self, session: Session, serial: str | None) -> dict[str, Any]:
        return {
            "id": session.id,
            "gateway": self._admin.gateway_name(session.gateway_id),
            "site": self._admin.sites_by_id[session.site_id].code,
            "acct_session_id": session.acct_session_id,
            "serial": serial,
            "calling_station_id": session.mac,
            "framed_ip": session.framed_ip,
            "started_at": session.started_at,
            "last_seen_at": session.last_seen_at,
            "ended_at": session.ended_at,
            "end_cause": session.end_cause,
            "input_octets": session.input_octets,
            "output_octets": session.output_octets,
            "session_time_s": session.session_time_s,
        }

    async def disconnect(self, session_id: int, *, by: str = COMMAND_LINE) -> dict[str, Any]:
        """Ask a session's gateway to end it; {"id", "outcome": ack|nak|timeout, "error_cause",
        "meaning", "round_trip_ms"}: the last three are null where the gateway gave none."""
        live = self._sessions.by_id(session_id)
        if live is None or not live.session.is_open:
            if live is not None or self._sessions.stored(session_id) is not None:
                raise UserError(f"Session {session_id} has ended already.")
            raise UserError(f"There is no session {session_id}; see: pesisir session list --open")
        if not live.is_reachable:
            raise UserError(
                f"The gateway of session {session_id} has not been heard since the node started;"
                " try again after its next packet."
            )
        attempt = await self._disconnects.ask_for(live, by, self._record)
        if attempt.answer in (None, "unasked"):
            raise UserError(f"The gateway of session {session_id} cannot be asked.")
        cause = attempt.error_cause
        return {
            "id": session_id,
            "outcome": attempt.answer,
            "error_cause": cause,
            "meaning": None if cause is None else ERROR_CAUSES.get(cause),
            "round_trip_ms": attempt.round_trip_ms,
        }

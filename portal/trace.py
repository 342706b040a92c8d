"""Trace: what happens to packets and phones, told while it happens to those who watch.

Nothing is recorded while nobody watches: the first subscriber hooks into the RADIUS server
(radius/watched.py) and into the portal's pages, the last one takes the hooks away. An event holds
no secret, no password and no code: a code is told by its card's serial, else by its last four
digits, and digits that are no code by how many they are.
"""

import logging
import re
from collections import deque
from collections.abc import Callable, Mapping, Set
from dataclasses import asdict, dataclass, field
from typing import Any

from portal import class_attribute, reports
from portal.accounts import Accounts
from portal.admin import Admin, Gateway
from portal.domain import voucher
from portal.sessions import Live, Sessions
from radius import watched
from radius.clients import Client
from radius.dropped import Drop
from radius.dynauth import Outcome
from radius.nas import canonical_mac
from radius.packet import (
    ACCESS_ACCEPT,
    ACCESS_REJECT,
    ACCESS_REQUEST,
    ACCT_DELAY_TIME,
    ACCT_INTERIM_INTERVAL,
    ACCT_SESSION_ID,
    ACCT_STATUS_TYPE,
    CHAP_PASSWORD,
    CLASS,
    EVENT_TIMESTAMP,
    MESSAGE_AUTHENTICATOR,
    NAS_IDENTIFIER,
    NAS_IP_ADDRESS,
    NAS_IPV6_ADDRESS,
    SESSION_TIMEOUT,
    USER_NAME,
    Packet,
    PacketError,
    parse,
)
from radius.server import Server
from radius.watched import WatchedExchange

log = logging.getLogger(__name__)

KEPT = 500
"""Events kept while somebody watches, for those who come a little later."""
STATUSES = {1: "start", 2: "stop", 3: "interim", 7: "on", 8: "off"}
"""Acct-Status-Type (RFC 2866 5.1)."""
_LONGEST = 120
_CODE_LIKE = re.compile(r"\d(?:[ -]?\d){7,}")


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, ready to be shown."""

    at: int
    """Epoch seconds UTC, by the node's clock."""
    elapsed_s: float
    """The same by the clock that nobody can set."""
    kind: str
    """`access`, `accounting`, `status`, `dropped`, `arrival`, `probe`, `disconnect` or `coa`."""
    verdict: str
    """`accept`, `reject`, `answered`, `unanswered`, `again` (a retransmission), `dropped`, `seen`,
    `refused`; of a disconnect `ack`, `nak`, `timeout`, `unasked`."""
    gateway: str = ""
    """Name; empty where no gateway of ours can be told."""
    gateway_id: int | None = None
    source: str = ""
    """Address, and port of a packet, it came from."""
    reason: str = ""
    """Why: a Reason, or a reason to drop."""
    serial: str = ""
    mac: str | None = None
    """12 hex digits."""
    session: str = ""
    """Acct-Session-Id, as the gateway writes it."""
    ms: float | None = None
    """From request to answer."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else is known, by kind; values are JSON."""

    def told(self) -> dict[str, Any]:
        """As JSON for the command line."""
        shown = asdict(self)
        del shown["elapsed_s"], shown["gateway_id"]
        return shown


Subscriber = Callable[[Event], None]


class Trace:
    """Makes events while there are subscribers, and hands each to all of them."""

    def __init__(
        self,
        admin: Admin,
        accounts: Accounts,
        sessions: Sessions,
        *,
        class_key: bytes,
        now: Callable[[], int],
        elapsed_s: Callable[[], float],
    ):
        self._admin = admin
        self._accounts = accounts
        self._sessions = sessions
        self._class_key = class_key
        self._now = now
        self._elapsed_s = elapsed_s
        self._server: Server | None = None
        self._subscribers: list[Subscriber] = []
        self.is_on = False
        """Whether anybody watches; what is not RADIUS asks before it makes an event."""
        self.last: deque[Event] = deque(maxlen=KEPT)
        """The latest events while somebody watched, oldest first."""

    def attach(self, server: Server) -> None:
        """The server whose packets are told; once, before the first subscriber is served."""
        self._server = server
        if self.is_on:
            watched.watch(server, self)

    def drops(self) -> list[tuple[float, Drop]]:
        """What was dropped lately, whether or not somebody watched: seconds ago, and what; the
        latest at the end."""
        if self._server is None:
            return []
        now_s = self._server.clock()
        return [(now_s - drop.last_s, drop) for drop in self._server.dropped.recent.values()]

    def signing_addresses(self) -> Set[str]:
        """The source addresses that have ever sent a valid Message-Authenticator."""
        return set() if self._server is None else self._server.learned

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Tell `subscriber` of each event from now on, until the returned function is called."""
        self._subscribers.append(subscriber)
        if not self.is_on:
            self.is_on = True
            if self._server is not None:
                watched.watch(self._server, self)

        def unsubscribe() -> None:
            if subscriber in self._subscribers:
                self._subscribers.remove(subscriber)
            if not self._subscribers and self.is_on:
                self.is_on = False
                if self._server is not None:
                    watched.unwatch(self._server)

        return unsubscribe

    def _tell(self, kind: str, verdict: str, **more: Any) -> None:
        event = Event(self._now(), self._elapsed_s(), kind, verdict, **more)
        self.last.append(event)
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(event)
            except Exception:
                # A watcher's fault must never cost a gateway its answer.
                log.exception("trace_failed kind=%s", kind)

    # -- the RADIUS server's packets ---------------------------------------------------------

    def answered(self, exchange: WatchedExchange, code: int | None, attributes: bytes) -> None:
        """As radius.watched.Watcher."""
        try:
            packet = exchange.packet
            gateway = self._admin.gateways_by_id.get(exchange.client.id)
            more: dict[str, Any] = {
                "gateway": exchange.client.name,
                "gateway_id": exchange.client.id,
                "source": f"{exchange.source[0]}:{exchange.source[1]}",
                "reason": str(exchange.note),
                "mac": reports.calling_mac(packet),
                "session": (packet.text(ACCT_SESSION_ID) or "")[:_LONGEST],
                "ms": round(exchange.passed_s * 1000, 1),
            }
            if packet.code == ACCESS_REQUEST:
                serial, facts = self._access(packet, exchange.client.id, attributes)
                verdict = {ACCESS_ACCEPT: "accept", ACCESS_REJECT: "reject"}.get(
                    code or 0, "unanswered"
                )
            else:
                serial, facts = self._accounting(packet, gateway)
                verdict = "unanswered" if code is None else "answered"
        except Exception:
            log.exception("trace_failed packet=%s", exchange.packet)
            return
        kind = "access" if packet.code == ACCESS_REQUEST else "accounting"
        self._tell(kind, verdict, serial=serial, facts=facts, **more)

    def repeated(self, packet: Packet, client: Client, source: tuple[str, int], sent: bool) -> None:
        """As radius.watched.Watcher."""
        self._tell(
            "access" if packet.code == ACCESS_REQUEST else "accounting",
            "again",
            gateway=client.name,
            gateway_id=client.id,
            source=f"{source[0]}:{source[1]}",
            mac=reports.calling_mac(packet),
            session=(packet.text(ACCT_SESSION_ID) or "")[:_LONGEST],
            facts={**_named(packet), "is_sent": sent},
        )

    def status(self, source: str, is_answered: bool) -> None:
        """As radius.watched.Watcher."""
        gateways = self._admin.gateways_at(source)
        self._tell(
            "status",
            "answered" if is_answered else "unanswered",
            gateway=gateways[0].name if len(gateways) == 1 else "",
            gateway_id=gateways[0].id if len(gateways) == 1 else None,
            source=source,
        )

    def dropped(self, drop: Drop) -> None:
        """As radius.watched.Watcher."""
        gateways = self._admin.gateways_at(drop.address)
        self._tell(
            "dropped",
            "dropped",
            gateway=gateways[0].name if len(gateways) == 1 else "",
            gateway_id=gateways[0].id if len(gateways) == 1 else None,
            source=drop.address,
            reason=drop.reason,
            facts={"detail": drop.detail, "nas_id": drop.seen},
        )

    def _access(
        self, packet: Packet, gateway_id: int, attributes: bytes
    ) -> tuple[str, dict[str, Any]]:
        """The serial and the facts of an Access-Request and its answer."""
        name = packet.text(USER_NAME) or ""
        facts: dict[str, Any] = {
            "is_signed": MESSAGE_AUTHENTICATOR in packet.first,
            **_named(packet),
            "is_chap": CHAP_PASSWORD in packet.first,
        }
        serial, facts["how"], facts["user"] = self._user(name, reports.calling_mac(packet))
        reply = _attributes(attributes)
        value = None if reply is None else reply.first.get(CLASS)
        if reply is None or value is None:
            return serial, facts
        facts["session_timeout_s"] = reply.integer(SESSION_TIMEOUT)
        facts["interim_s"] = reply.integer(ACCT_INTERIM_INTERVAL)
        content = class_attribute.unpack(value, gateway_id, self._class_key)
        if content is not None:
            card = self._accounts.card(content.card_id, self._now())
            serial = serial if card is None else card.serial
            facts["session_id"] = content.session_id
            facts["granted_octets"] = content.granted_octets
            facts["granted_s"] = content.granted_s
        return serial, facts

    def _user(self, name: str, mac: str | None) -> tuple[str, str, str]:
        """The serial behind a User-Name as far as it is known, what it is (`serial`, `mac`, `code`,
        `digits`, `other`), and the name as it may be shown."""
        if voucher.parse_serial(name) is not None:
            return name.strip().upper(), "serial", name.strip().upper()
        if mac is not None and canonical_mac(name) == mac:
            return "", "mac", mac
        code = voucher.normalise(name)
        if code is not None and voucher.is_well_formed(code):
            card = self._accounts.card_of_code(code, self._now())
            return "" if card is None else card.serial, "code", f"**** **** {code[-4:]}"
        count = voucher.digits_in(name)
        if count:
            # A code with a slip of the finger, or a telephone number: how many is all that is told.
            return "", "digits", f"{count} digits"
        # It may be a password in the wrong field.
        return "", "other", f"{len(name)} characters"

    def _accounting(self, packet: Packet, gateway: Gateway | None) -> tuple[str, dict[str, Any]]:
        """The serial and the facts of an Accounting-Request."""
        first = packet.first
        status = packet.integer(ACCT_STATUS_TYPE)
        facts: dict[str, Any] = {
            "status": STATUSES.get(status or 0, str(status)),
            **_named(packet),
            "has_class": CLASS in first,
        }
        stamped_at = packet.integer(EVENT_TIMESTAMP)
        if stamped_at is not None:
            # When it happened by their clock, against the same by ours.
            delay_s = packet.integer(ACCT_DELAY_TIME) or 0
            facts["clock_off_s"] = stamped_at - (self._now() - delay_s)
        acct_session_id = first.get(ACCT_SESSION_ID)
        live = None
        if gateway is not None and acct_session_id:
            text = acct_session_id.decode("utf-8", "backslashreplace")
            live = self._sessions.by_acct(gateway.id, text)
        if live is not None:
            session = live.session
            facts |= {
                "session_id": session.id,
                "time_s": session.session_time_s,
                "input_octets": session.input_octets,
                "output_octets": session.output_octets,
                "cause": session.end_cause,
                "framed_ip": session.framed_ip,
                "is_swapped": gateway is not None
                and gateway.is_swapped(self._admin.families[gateway.family], packet),
            }
        return "" if live is None else live.serial, facts

    # -- the portal's pages ------------------------------------------------------------------

    def arrival(
        self,
        gateway: Gateway | None,
        *,
        state: str,
        mac: str | None,
        ip: str | None,
        source: str,
        is_signed: bool,
        family: str,
    ) -> None:
        """A gateway's redirect brought a phone to the portal; `source` is where the request came
        from, `ip` what the gateway says the phone's address is."""
        self._tell(
            "arrival",
            "seen",
            gateway="" if gateway is None else gateway.name,
            gateway_id=None if gateway is None else gateway.id,
            source=source,
            mac=mac,
            facts={"state": state, "ip": ip, "is_signed": is_signed, "family": family},
        )

    def arrival_refused(self, source: str, why: str) -> None:
        """A redirect that must not be followed; `why` may repeat what a phone sent."""
        gateways = self._admin.gateways_at(source)
        self._tell(
            "arrival",
            "refused",
            gateway=gateways[0].name if len(gateways) == 1 else "",
            gateway_id=gateways[0].id if len(gateways) == 1 else None,
            source=source,
            facts={"why": _printable(why)},
        )

    def probe(self, source: str, host: str, path: str) -> None:
        """A phone asked the portal for what lies elsewhere: its system's test, or another site."""
        self._tell(
            "probe",
            "seen",
            source=source,
            facts={"host": _printable(host), "path": _printable(path)},
        )

    # -- what gateways are asked -------------------------------------------------------------

    def asked(self, kind: str, live: Live, why: str, outcome: Outcome | None) -> None:
        """A gateway was asked to end or change a session, and this came of it."""
        if not self.is_on:
            return
        session = live.session
        passed_s = None if outcome is None else outcome.round_trip_s
        self._tell(
            kind,
            "unasked" if outcome is None else outcome.kind,
            gateway=self._admin.gateway_name(session.gateway_id) or "",
            gateway_id=session.gateway_id,
            reason=why,
            serial=live.serial,
            mac=session.mac,
            session=session.acct_session_id,
            ms=None if passed_s is None else round(passed_s * 1000, 1),
            facts={
                "session_id": session.id,
                "error_cause": None if outcome is None else outcome.error_cause,
            },
        )


def _named(packet: Packet) -> dict[str, Any]:
    """How the gateway names itself."""
    first = packet.first
    return {
        "nas_id": None if NAS_IDENTIFIER not in first else packet.text(NAS_IDENTIFIER),
        "is_named": NAS_IDENTIFIER in first or NAS_IP_ADDRESS in first or NAS_IPV6_ADDRESS in first,
    }


def _attributes(encoded: bytes) -> Packet | None:
    """Encoded attributes of an answer, to be read like a packet's."""
    length = 20 + len(encoded)
    try:
        return parse(bytes((ACCESS_ACCEPT, 0)) + length.to_bytes(2, "big") + bytes(16) + encoded)
    except PacketError:
        return None


def _printable(text: str) -> str:
    """What a phone sent, as it may be shown: no control characters, and nothing that could be a
    code."""
    text = _CODE_LIKE.sub("****", text[:_LONGEST])
    return "".join(char if char.isprintable() else "?" for char in text)

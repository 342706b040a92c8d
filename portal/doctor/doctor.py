"""Doctor: watches a gateway go live and gathers what `checks` judges.

An observation begins when somebody first asks about a gateway and ends a quarter of an hour after
they last did; only meanwhile packets are looked at one by one (portal/trace.py). What the node
knows anyway, sessions, drops, attempts to disconnect, is used from the first question on.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from portal.aaa import Aaa
from portal.admin import Admin, Gateway
from portal.disconnects import Disconnects
from portal.doctor.checks import examine
from portal.doctor.evidence import Evidence, Finding, Login, Seen, State
from portal.sessions import Live, Sessions
from portal.tickets import Tickets
from portal.trace import Event, Trace
from radius.dropped import Drop

WATCHED_S = 900.0
"""So long nobody has to look again before the observation ends: time to walk to the router."""
PHONES_KEPT = 500
"""Phones and sessions of one gateway looked at, as many as are online on a busy evening."""
_ASKED_AGAIN = ("unknown_phone",)
_NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class Testable:
    """A session that may be cut off for a test, if its person is asked before."""

    session_id: int
    serial: str
    mac: str | None


@dataclass(frozen=True, slots=True)
class Report:
    """What the doctor says now."""

    gateway: Gateway
    label: str
    """The make's name for people."""
    watched_s: float
    findings: list[Finding]
    online: int
    """Phones online behind it."""
    testable: Testable | None

    @property
    def is_good(self) -> bool:
        """Nothing is wrong, as far as was seen."""
        return all(finding.state is not State.BAD for finding in self.findings)

    @property
    def is_done(self) -> bool:
        """Everything was seen."""
        return all(finding.state is not State.WAIT for finding in self.findings)


class Doctor:
    """Observations of gateways, and what they show."""

    def __init__(
        self,
        admin: Admin,
        sessions: Sessions,
        aaa: Aaa,
        disconnects: Disconnects,
        tickets: Tickets,
        trace: Trace,
        *,
        now: Callable[[], int],
        elapsed_s: Callable[[], float],
        is_backhaul_down: Callable[[], bool],
        is_clock_doubtful: Callable[[], bool],
    ):
        self._admin = admin
        self._sessions = sessions
        self._aaa = aaa
        self._disconnects = disconnects
        self._tickets = tickets
        self._trace = trace
        self._now = now
        self._elapsed_s = elapsed_s
        self._is_backhaul_down = is_backhaul_down
        self._is_clock_doubtful = is_clock_doubtful
        self.agents: Callable[[int], tuple[float, float]] = lambda gateway_id: (_NEVER, _NEVER)
        """When the program on a gateway without RADIUS was heard last, and when refused."""
        self._seen: dict[int, Seen] = {}
        self._unsubscribe: Callable[[], None] | None = None

    def look(self, name: str, *, begins_anew: bool = False) -> Report:
        """What is known of a gateway, which is watched from now on if it was not before.

        `begins_anew` forgets what was seen of it so far. Raises UserError for an unknown name.
        """
        gateway = self._admin.gateway(name)
        elapsed_s = self._elapsed_s()
        self.forget_old()
        lives = self._lives(gateway)
        seen = self._seen.get(gateway.id)
        if seen is None or begins_anew:
            seen = self._seen[gateway.id] = Seen(elapsed_s, elapsed_s)
            for live in lives:
                session = live.session
                seen.base[session.id] = (session.input_octets, session.output_octets)
            if self._unsubscribe is None:
                self._unsubscribe = self._trace.subscribe(self._take)
        seen.looked_s = elapsed_s
        family = self._admin.families[gateway.family]
        running = [live for live in lives if live.session.is_open]
        return Report(
            gateway=gateway,
            label=family.LABEL,
            watched_s=elapsed_s - seen.began_s,
            findings=examine(self._evidence(gateway, seen, lives)),
            online=len(running),
            testable=_testable(running) if family.CAN_DISCONNECT else None,
        )

    def forget_old(self) -> None:
        """End the observations nobody has looked at for long; the last one ends the watching."""
        elapsed_s = self._elapsed_s()
        for gateway_id, seen in list(self._seen.items()):
            is_over = elapsed_s - seen.looked_s > WATCHED_S
            if is_over or gateway_id not in self._admin.gateways_by_id:
                del self._seen[gateway_id]
        if not self._seen and self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def _lives(self, gateway: Gateway) -> list[Live]:
        found = [
            live for live in self._sessions.in_memory() if live.session.gateway_id == gateway.id
        ]
        found.sort(key=lambda live: (live.session.started_at, live.session.id))
        return found

    def _evidence(self, gateway: Gateway, seen: Seen, lives: list[Live]) -> Evidence:
        drops, strangers = self._drops(gateway)
        agent_heard_s, agent_refused_s = self.agents(gateway.id)
        return Evidence(
            gateway=gateway,
            family=self._admin.families[gateway.family],
            now=self._now(),
            elapsed_s=self._elapsed_s(),
            seen=seen,
            heard_s=self._aaa.heard_s.get(gateway.id),
            noise_s=self._aaa.noise_s.get(gateway.id),
            agent_heard_s=agent_heard_s,
            agent_refused_s=agent_refused_s,
            drops=drops,
            strangers=strangers,
            lives=lives,
            attempts=[one for one in self._disconnects.outcomes if one.gateway == gateway.name],
            ticket_waits_s=self._tickets.waits_s(gateway.id, self._elapsed_s()),
            is_signing=any(
                self._is_from(gateway, address) for address in self._trace.signing_addresses()
            ),
            is_alone=all(
                other.address != gateway.address
                for other in self._admin.gateways_by_id.values()
                if other.id != gateway.id
            ),
            is_backhaul_down=self._is_backhaul_down(),
            is_clock_doubtful=self._is_clock_doubtful(),
        )

    def _drops(self, gateway: Gateway) -> tuple[list[tuple[float, Drop]], list[tuple[float, Drop]]]:
        """What was dropped from its address, and from addresses nobody has."""
        own, strangers = [], []
        for ago_s, drop in self._trace.drops():
            if self._is_from(gateway, drop.address):
                if drop.reason != "unknown_client":
                    own.append((ago_s, drop))
            elif drop.reason == "unknown_client":
                strangers.append((ago_s, drop))
        return own, strangers

    def _is_from(self, gateway: Gateway, address: str) -> bool:
        """Whether packets from this address are the gateway's, or those of one beside it."""
        try:
            if ipaddress.ip_address(address) not in ipaddress.ip_network(gateway.address):
                return False
        except ValueError:
            return False
        return gateway in self._admin.gateways_at(address)

    # -- what happens meanwhile --------------------------------------------------------------

    def _take(self, event: Event) -> None:
        if event.kind == "probe":
            for gateway_id, seen in self._seen.items():
                if self._is_behind(gateway_id, event.source, seen):
                    seen.probes += 1
                    seen.probe_host = str(event.facts["host"])
            return
        found = self._seen.get(event.gateway_id or 0)
        if found is None:
            return
        match event.kind, event.verdict:
            case ("access", "accept" | "reject"):
                self._take_access(found, event)
            case ("accounting", "answered"):
                self._take_accounting(found, event)
            case ("arrival", "seen"):
                self._take_arrival(found, event)
            case ("arrival", "refused"):
                found.refused_arrival = str(event.facts["why"])

    def _take_access(self, seen: Seen, event: Event) -> None:
        facts = event.facts
        seen.nas_id, seen.is_named = facts["nas_id"], facts["is_named"]
        if facts["is_signed"]:
            seen.signed += 1
            seen.authentic_s = event.elapsed_s
        else:
            seen.unsigned += 1
        mac = event.mac or ""
        if event.verdict == "accept":
            seen.authentic_s = event.elapsed_s
            session_id = facts.get("session_id")
            known = seen.logins.get(mac)
            if known is None or known.session_id != session_id:
                _put(seen.logins, mac, Login(event.elapsed_s, session_id, event.serial))
            if facts["how"] == "serial":
                seen.hand_off_s = event.elapsed_s
            seen.held.pop(mac, None)
        elif event.reason in _ASKED_AGAIN:
            if mac and mac not in seen.held:
                _put(seen.held, mac, event.elapsed_s)
                seen.came.discard(mac)
        else:
            seen.refusal = (event.elapsed_s, event.reason)
            if facts["how"] == "serial":
                # Refused, but it came all the way.
                seen.hand_off_s = event.elapsed_s

    def _take_accounting(self, seen: Seen, event: Event) -> None:
        facts = event.facts
        seen.authentic_s = event.elapsed_s
        seen.nas_id, seen.is_named = facts["nas_id"], facts["is_named"]
        if "clock_off_s" in facts:
            seen.clock_off_s = facts["clock_off_s"]
        session_id = facts.get("session_id")
        if session_id is None:
            return
        if session_id not in seen.reports:
            _put(seen.reports, session_id, [])
        if facts["status"] != "stop":
            seen.reports[session_id].append(event.elapsed_s)
            del seen.reports[session_id][:-20]
        for login in seen.logins.values():
            if login.session_id == session_id and login.started_s is None:
                login.started_s = event.elapsed_s

    def _take_arrival(self, seen: Seen, event: Event) -> None:
        facts = event.facts
        seen.arrivals += 1
        seen.signed_arrivals += bool(facts["is_signed"])
        seen.last_arrival_s = event.elapsed_s
        if event.mac is not None:
            seen.held.pop(event.mac, None)
            if len(seen.came) < PHONES_KEPT:
                seen.came.add(event.mac)
        ip = facts["ip"]
        if ip is None:
            return
        if _same_address(ip, event.source):
            seen.shown_ip, seen.hidden = ip, None
        else:
            seen.hidden = (ip, event.source)

    def _is_behind(self, gateway_id: int, source: str, seen: Seen) -> bool:
        """Whether a phone at this address is one of the gateway's, as far as can be told."""
        if len(self._admin.gateways_by_id) == 1:
            return True
        gateway = self._admin.gateways_by_id.get(gateway_id)
        if gateway is not None and gateway in self._admin.gateways_at(source):
            return True
        known = [seen.shown_ip]
        known += [live.session.framed_ip for live in self._sessions.open_sessions()
                  if live.session.gateway_id == gateway_id]  # fmt: skip
        prefix = source.rpartition(".")[0]
        return bool(prefix) and any(ip and ip.rpartition(".")[0] == prefix for ip in known)


def _put(into: dict[Any, Any], key: Any, value: Any) -> None:
    """Set a key at the end of a dict that stays small: the oldest gives way."""
    into.pop(key, None)
    into[key] = value
    if len(into) > PHONES_KEPT:
        del into[next(iter(into))]


def _testable(running: list[Live]) -> Testable | None:
    """The newest session: most likely the tester's own phone."""
    if not running:
        return None
    live = running[-1]
    return Testable(live.session.id, live.serial, live.session.mac)


def _same_address(one: str, other: str) -> bool:
    try:
        return ipaddress.ip_address(one) == ipaddress.ip_address(other)
    except ValueError:
        return one == other

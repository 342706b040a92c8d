"""openNDS: speaks for gateways that know no RADIUS, with a program of ours on each.

That program (hotspot_config/opennds-agent.sh.j2) says over HTTP who is there and what they used,
and does what it is told: let a phone in, put one out. Here its words become RADIUS packets that go
through the server like any gateway's, so that authorisation and accounting know no difference; and
the answers become words again.

Nothing is believed because it was sent: a command is repeated until the program says that it was
done, and a session exists when accounting says so.
"""

import asyncio
import ipaddress
import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from portal.admin import Admin, Gateway
from portal.opennds.talk import OK, STALE, Challenges, Letter, agent_key, read, write
from portal.opennds.words import (
    SESSION_ID,
    address,
    colons,
    dashes,
    framed_ip,
    limit_words,
    report_attributes,
)
from radius.dynauth import Outcome
from radius.listener import Control, Peer
from radius.nas import Arrival, SessionKeys, canonical_mac
from radius.nas.opennds import FAMILY, SERVICE_TYPE_CALL_CHECK, limits_of
from radius.packet import (
    ACCESS_ACCEPT,
    ACCESS_REQUEST,
    ACCOUNTING_REQUEST,
    ACCT_SESSION_ID,
    ACCT_STATUS_TYPE,
    CALLING_STATION_ID,
    CLASS,
    NAS_IDENTIFIER,
    SERVICE_TYPE,
    USER_NAME,
    USER_PASSWORD,
    Packet,
    PacketError,
    attribute,
    integer_attribute,
    sign_request,
    verify_response,
)
from radius.password import hide
from radius.server import Outlet

log = logging.getLogger(__name__)

LISTEN_S = 25.0
"""How long a question for commands waits for one; NATs keep a silent connection longer."""
LOG_IN_WITHIN_S = 8.0
"""A phone waits at the portal for so long; the browser says "loading"."""
LOOK_UP_WITHIN_S = 2.0
END_WITHIN_S = 10.0
ANSWER_WITHIN_S = 5.0
"""A report that is not durable by then stays unanswered, and comes again."""
AWAKE_S = 70.0
"""A program that was not heard for longer listens to nobody."""
RETURN_AGAIN_S = 20.0
REFUSAL_TOLD_EVERY_S = 300.0
CLIENTS_KEPT = 4_096
COMMANDS_KEPT = 256
MAX_MAC_RETURNS = 64
"""Asked at once; the rest is asked for with the program's next words."""

SERVICE_TYPE_LOGIN = 1
_ON = 7
_HID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Client:
    """A phone that openNDS knows, as the program saw it last."""

    hid: str
    ip: str | None


@dataclass(slots=True, eq=False)
class _Command:
    """Something the program is to do, told again and again until it is done."""

    number: str
    kind: str
    words: str
    mac: str
    until_s: float
    done: asyncio.Future[list[str]]


@dataclass(slots=True, eq=False)
class _Agent:
    """What is known of the program on one gateway."""

    challenges: Challenges = field(default_factory=Challenges)
    heard_s: float = float("-inf")
    refused_s: float = float("-inf")
    clients: OrderedDict[str, Client] = field(default_factory=OrderedDict)
    commands: dict[str, _Command] = field(default_factory=dict)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    returns: dict[tuple[str, str], float] = field(default_factory=dict)
    """(MAC, hid) -> elapsed-time reading of its last login, or question whether it may return."""


class _Way:
    """Where our packets come in and their answers leave; see `radius.server.Outlet`."""

    def __init__(self, number: int, *, is_acct: bool):
        self.number = number
        self.is_acct = is_acct
        self.address = ("127.0.0.1", 0)
        self.waiting: dict[int, asyncio.Future[bytes]] = {}

    def send(self, datagram: bytes, peer: Peer, control: Control | None) -> None:
        """Hand an answer to whoever asked."""
        future = self.waiting.get(peer[1])
        if future is not None and not future.done():
            future.set_result(datagram)


Receive = Callable[[Outlet, bytes, Peer, Control | None], None]


class Opennds:
    """The gateways of the family `opennds`.

    `receive` takes a datagram, as `radius.server.Server.receive` does; `random_octets` gives as
    many as it is asked for.
    """

    def __init__(
        self,
        admin: Admin,
        receive: Receive,
        *,
        elapsed_s: Callable[[], float],
        random_octets: Callable[[int], bytes],
    ):
        self._admin = admin
        self._receive = receive
        self._elapsed_s = elapsed_s
        self._random_octets = random_octets
        # Numbers no listener has: they tell sockets apart in the cache of retransmissions.
        self._auth = _Way(60_001, is_acct=False)
        self._acct = _Way(60_002, is_acct=True)
        self._port = 0
        self._numbers = 0
        self._agents: dict[int, _Agent] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def close(self) -> None:
        """Let go of everybody who waits."""
        self._is_closed = True
        for agent in self._agents.values():
            agent.wake.set()
            for command in agent.commands.values():
                if not command.done.done():
                    command.done.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def gateway(self, name: str) -> Gateway | None:
        """The gateway of this family with this name."""
        for gateway in self._admin.gateways_by_id.values():
            if gateway.name == name and gateway.family == FAMILY:
                return gateway
        return None

    def gateway_by_id(self, gateway_id: int | None) -> Gateway | None:
        """The gateway of this family with this row id."""
        gateway = self._admin.gateways_by_id.get(gateway_id or 0)
        return gateway if gateway is not None and gateway.family == FAMILY else None

    def _agent(self, gateway: Gateway) -> _Agent:
        agent = self._agents.get(gateway.id)
        if agent is None:
            agent = self._agents[gateway.id] = _Agent()
        return agent

    def is_awake(self, gateway: Gateway) -> bool:
        """Whether the program on a gateway was heard a moment ago."""
        agent = self._agents.get(gateway.id)
        return agent is not None and self._elapsed_s() - agent.heard_s <= AWAKE_S

    def told(self, gateway_id: int) -> tuple[float, float]:
        """Elapsed-time readings of the last time the program on a gateway was heard, and of the
        last time words of it were refused (told every REFUSAL_TOLD_EVERY_S); minus infinity for
        never."""
        agent = self._agents.get(gateway_id)
        never = float("-inf")
        return (never, never) if agent is None else (agent.heard_s, agent.refused_s)

    # -- the program speaks ----------------------------------------------------------------

    async def take(self, name: str, body: bytes) -> str | None:
        """The answer to a request of the program on the gateway `name`; None: it is not from
        there."""
        gateway = self.gateway(name)
        if gateway is None:
            return None
        key = agent_key(gateway.secret)
        letter = read(body, name, key)
        agent = self._agent(gateway)
        if letter is None:
            if self._elapsed_s() - agent.refused_s > REFUSAL_TOLD_EVERY_S:
                agent.refused_s = self._elapsed_s()
                log.warning("agent_refused gateway=%s; expected the key of its configuration", name)
            return None
        is_good = agent.challenges.take(letter)
        challenge = agent.challenges.newest(self._random_octets(16).hex(), self._elapsed_s())
        if not is_good:
            return write(STALE, letter.nonce, challenge, [], name, key)
        agent.heard_s = self._elapsed_s()
        lines = await self._obey(gateway, agent, letter)
        return write(OK, letter.nonce, challenge, lines, name, key)

    async def _obey(self, gateway: Gateway, agent: _Agent, letter: Letter) -> list[str]:
        """Do what a request says, in its order; `listen` is last and waits."""
        answers: list[str] = []
        reports: list[Coroutine[Any, Any, str | None]] = []
        done: list[list[str]] = []
        is_listening = False
        try:
            for words in letter.lines:
                match words:
                    case ["on"]:
                        if await self._account(gateway, integer_attribute(ACCT_STATUS_TYPE, _ON)):
                            answers.append("ok on -")
                    case ["start" | "use" | "stop", *_]:
                        reports.append(self._report(gateway, words))
                    case ["see", mac, ip, hid]:
                        self._see(gateway, agent, mac, ip, hid)
                    case ["done", number, *rest]:
                        done.append([number, *rest])
                    case ["listen"]:
                        is_listening = True
                    case _:
                        log.info("agent_word_unknown gateway=%s word=%s", gateway.name, words[0])
        finally:
            said = await asyncio.gather(*reports)
        answers += [answer for answer in said if answer is not None]
        # Who waits for the end of a command finds what was reported along with it.
        for number, *rest in done:
            command = agent.commands.pop(number, None)
            if command is not None and not command.done.done():
                command.done.set_result(rest)
        if is_listening:
            answers += await self._listen(agent)
        return answers

    async def _listen(self, agent: _Agent) -> list[str]:
        if not self._current(agent) and not self._is_closed:
            agent.wake.clear()
            try:
                await asyncio.wait_for(agent.wake.wait(), LISTEN_S)
            except TimeoutError:
                pass
            agent.heard_s = self._elapsed_s()
        return [f"{one.kind} {one.number} {one.words}" for one in self._current(agent)]

    def _current(self, agent: _Agent) -> list[_Command]:
        elapsed_s = self._elapsed_s()
        for number in [n for n, one in agent.commands.items() if one.until_s < elapsed_s]:
            del agent.commands[number]
        return list(agent.commands.values())

    def _command(
        self, agent: _Agent, kind: str, mac: str, words: str, within_s: float
    ) -> asyncio.Future[list[str]]:
        """Tell the program to do something; the result is what it says then, `ok` or `none`
        first. A newer command of one kind for one phone takes the place of the older."""
        for number, one in list(agent.commands.items()):
            if one.kind == kind and one.mac == mac:
                del agent.commands[number]
                one.done.cancel()
        while len(agent.commands) >= COMMANDS_KEPT:
            del agent.commands[next(iter(agent.commands))]
        self._numbers += 1
        # Unique after a restart too: what was done for the last run answers nothing of this one.
        number = f"{self._numbers}.{self._random_octets(4).hex()}"
        future: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        until_s = self._elapsed_s() + within_s
        agent.commands[number] = _Command(number, kind, words, mac, until_s, future)
        agent.wake.set()
        return future

    async def _result(self, future: asyncio.Future[list[str]], within_s: float) -> list[str] | None:
        """What came of a command; None when nothing was heard in time."""
        try:
            return await asyncio.wait_for(asyncio.shield(future), within_s)
        except (TimeoutError, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return None

    # -- who is there ----------------------------------------------------------------------

    def _see(self, gateway: Gateway, agent: _Agent, mac: str, ip: str, hid: str) -> None:
        """A phone that is not in: perhaps one that may return without typing."""
        phone = canonical_mac(mac)
        if phone is None or _HID.fullmatch(hid) is None:
            return
        self._know(agent, phone, Client(hid, address(ip)))
        elapsed_s = self._elapsed_s()
        asked_s = agent.returns.get((phone, hid), float("-inf"))
        if not gateway.mac_auth or elapsed_s - asked_s < RETURN_AGAIN_S:
            return
        if len(self._tasks) >= MAX_MAC_RETURNS:
            return
        self._note_return(agent, phone, hid)
        self._keep(self._let_return(gateway, phone, hid))

    def _note_return(self, agent: _Agent, mac: str, hid: str) -> None:
        """For a while nobody asks whether this phone may return: it has just been asked, or it logs
        in."""
        agent.returns[(mac, hid)] = self._elapsed_s()
        while len(agent.returns) > CLIENTS_KEPT:
            del agent.returns[next(iter(agent.returns))]

    def _know(self, agent: _Agent, mac: str, client: Client) -> None:
        agent.clients[mac] = client
        agent.clients.move_to_end(mac)
        if len(agent.clients) > CLIENTS_KEPT:
            agent.clients.popitem(last=False)

    def vouches(self, gateway: Gateway, arrival: Arrival) -> bool:
        """Whether the program on this gateway says that the arrival's phone has its `hid`."""
        agent = self._agents.get(gateway.id)
        if agent is None or arrival.challenge is None or arrival.mac is None:
            return False
        client = agent.clients.get(arrival.mac)
        return client is not None and client.hid == arrival.challenge.hex()

    async def look_up(self, arrival: Arrival, source: str) -> None:
        """Ask the program about an arrival it has not spoken of, so that `vouches` can tell."""
        named = self._admin.gateway_of(arrival.nas_id, source)
        ours = [one for one in self._admin.gateways_by_id.values() if one.family == FAMILY]
        if named is None and len(ours) == 1:
            named = ours[0]
        if named is None or named.family != FAMILY or not self.is_awake(named):
            return
        if self.vouches(named, arrival) or arrival.mac is None or arrival.challenge is None:
            return
        agent, hid = self._agent(named), arrival.challenge.hex()
        words = f"{colons(arrival.mac)} {hid}"
        future = self._command(agent, "who", arrival.mac, words, LOOK_UP_WITHIN_S)
        result = await self._result(future, LOOK_UP_WITHIN_S)
        if result is not None and result[:1] == ["ok"]:
            ip = address(result[1]) if len(result) > 1 else None
            self._know(agent, arrival.mac, Client(hid, ip))

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- letting in ------------------------------------------------------------------------

    async def log_in(
        self, gateway: Gateway, mac: str, hid: str, user_name: str, password: str
    ) -> str:
        """Let a phone in that the portal hands over.

        Returns `in`, `reject` (aaa said no), `gone` (openNDS knows this phone under another hid:
        it needs a fresh arrival) or `timeout` (the program did not do it in time).
        """
        if _HID.fullmatch(hid) is None or not user_name or not password:
            return "reject"
        # What the program saw before this login must not let the phone in a second time.
        self._note_return(self._agent(gateway), mac, hid)
        future = await self._ask_to_enter(
            gateway, mac, hid, user_name, password, SERVICE_TYPE_LOGIN
        )
        if future is None:
            return "timeout"
        if isinstance(future, str):
            return future
        result = await self._result(future, LOG_IN_WITHIN_S)
        self._note_return(self._agent(gateway), mac, hid)
        if result is None:
            log.warning("agent_silent gateway=%s; expected its program to listen", gateway.name)
            return "timeout"
        return "in" if result[:1] == ["ok"] else "gone"

    async def _let_return(self, gateway: Gateway, mac: str, hid: str) -> None:
        """Let a phone in whose card is remembered, if it is good; says nothing if not."""
        agent = self._agent(gateway)
        if any(one.mac == mac and one.kind == "auth" for one in self._current(agent)):
            return
        await self._ask_to_enter(gateway, mac, hid, mac, mac, SERVICE_TYPE_CALL_CHECK)

    async def _ask_to_enter(
        self, gateway: Gateway, mac: str, hid: str, name: str, password: str, service: int
    ) -> asyncio.Future[list[str]] | str | None:
        """Ask aaa; tell the program if it says yes. None: there was no answer."""
        agent = self._agent(gateway)
        client = agent.clients.get(mac)
        acct_session_id = self._random_octets(8).hex()
        authenticator = self._random_octets(16)
        packet = await self._ask(
            gateway,
            self._auth,
            ACCESS_REQUEST,
            attribute(USER_NAME, name.encode())
            + attribute(
                USER_PASSWORD, hide(password.encode(), authenticator, gateway.secret.encode())
            )
            + integer_attribute(SERVICE_TYPE, service)
            + attribute(CALLING_STATION_ID, dashes(mac).encode())
            + attribute(ACCT_SESSION_ID, acct_session_id.encode())
            + (framed_ip(client.ip) if client is not None and client.ip else b""),
            authenticator,
        )
        if packet is None:
            return None
        if packet.code != ACCESS_ACCEPT:
            return "reject"
        limits = limits_of(packet)
        words = " ".join(
            (
                *(acct_session_id, colons(mac), hid),
                *limit_words(limits),
                packet.first.get(CLASS, b"").hex() or "-",
                _user_name(packet, name),
            )
        )
        return self._command(agent, "auth", mac, words, LOG_IN_WITHIN_S)

    # -- accounting ------------------------------------------------------------------------

    async def _report(self, gateway: Gateway, words: list[str]) -> str | None:
        """Account for one line; the answer is an acknowledgement, None for what is not stored."""
        body = report_attributes(words)
        if body is None:
            log.warning("agent_report_bad gateway=%s", gateway.name)
            return f"bad {words[0]} {words[1]}" if len(words) > 1 else None
        is_stored = await self._account(gateway, body)
        return f"ok {words[0]} {words[1]}" if is_stored else None

    async def _account(self, gateway: Gateway, body: bytes) -> bool:
        return await self._ask(gateway, self._acct, ACCOUNTING_REQUEST, body, None) is not None

    # -- putting out -----------------------------------------------------------------------

    async def disconnect(self, gateway: Gateway, keys: SessionKeys) -> Outcome:
        """Ask the program to end a session; as believable as any gateway's answer."""
        agent = self._agent(gateway)
        asked_s = self._elapsed_s()
        words = f"{keys.acct_session_id} {colons(keys.mac or '') or '-'}"
        if SESSION_ID.fullmatch(keys.acct_session_id) is None:
            return Outcome("nak", error_cause=503)
        # One command for a session: the phone may have a newer one already.
        future = self._command(agent, "end", keys.acct_session_id, words, END_WITHIN_S)
        result = await self._result(future, END_WITHIN_S)
        if result is None:
            return Outcome("timeout")
        round_trip_s = self._elapsed_s() - asked_s
        if result[:1] == ["ok"]:
            return Outcome("ack", round_trip_s=round_trip_s)
        return Outcome("nak", error_cause=503, round_trip_s=round_trip_s)

    # -- as RADIUS -------------------------------------------------------------------------

    async def _ask(
        self, gateway: Gateway, way: _Way, code: int, body: bytes, authenticator: bytes | None
    ) -> Packet | None:
        """Put a request through the server and wait for its answer; None when there is none."""
        address = self._address_of(gateway)
        if address is None:
            log.error("agent_address_taken gateway=%s address=%s", gateway.name, gateway.address)
            return None
        self._port = self._port % 65_535 + 1
        port = self._port
        secret = gateway.secret.encode()
        datagram = sign_request(
            code,
            port & 0xFF,
            body + attribute(NAS_IDENTIFIER, (gateway.nas_id or gateway.name).encode()),
            secret,
            message_authenticator=authenticator is not None,
            authenticator=authenticator,
        )
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        way.waiting[port] = future
        try:
            self._receive(way, datagram, (address, port), None)
            reply = await asyncio.wait_for(future, ANSWER_WITHIN_S)
            return verify_response(datagram[4:20], reply, secret)
        except (TimeoutError, PacketError):
            return None
        finally:
            del way.waiting[port]

    def _address_of(self, gateway: Gateway) -> str | None:
        """An address that the server takes for this gateway's."""
        network = ipaddress.ip_network(gateway.address)
        for candidate in (network.network_address, network.broadcast_address):
            if any(one.id == gateway.id for one in self._admin.gateways_at(str(candidate))):
                return str(candidate)
        return None


def _user_name(packet: Packet, asked: str) -> str:
    """The name of the session: as the Accept says, else as it was asked for."""
    name = packet.text(USER_NAME) or asked
    return name if name.isascii() and name.isprintable() and " " not in name else "-"

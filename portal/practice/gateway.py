"""Practice gateway: a hotspot gateway in software, for trying the portal and for tests.

It speaks CoovaChilli's UAM over HTTP (portal/practice/page.py) and real RADIUS over UDP
(radius/client.py), as one observed CoovaChilli 1.9 does, with simulated phones behind it
(portal/practice/phone.py). It forwards nothing and holds nobody back: it must never stand between
real phones and the internet.

Where it differs from CoovaChilli, on purpose: data and time are cut exactly at the limit, CoA is
answered with NAK, and a reply to an Access-Request without a Message-Authenticator is ignored.
"""

import asyncio
import logging
import re
import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from portal.practice.page import PageServer
from portal.practice.phone import (
    CHALLENGE_REFUSE_S,
    CHALLENGE_RENEW_S,
    Event,
    Phone,
    Session,
)
from portal.practice.uam import Uam, read_hand_off, uam_fields
from radius.client import (
    ACCOUNTING_OFF,
    ACCOUNTING_ON,
    FRAMED,
    INTERIM,
    LOGIN,
    START,
    STOP,
    Address,
    Client,
    CoovaPackets,
    Counters,
    Station,
    read_limits,
)
from radius.packet import (
    ACCESS_ACCEPT,
    ACCT_SESSION_ID,
    CLASS,
    DISCONNECT_REQUEST,
    REPLY_MESSAGE,
    USER_NAME,
)

log = logging.getLogger(__name__)

# Acct-Terminate-Cause, RFC 2866 section 5.10
CAUSES: Final = {
    "logoff": 1,
    "carrier": 2,
    "idle": 4,
    "time": 5,
    "quota": 5,  # CoovaChilli gives a data cut the cause of a time cut
    "disconnect": 6,
    "closed": 11,
}
# Observed with radiustimeout 3: sends at 0, 3, 6, 9, 12 s and gives up at 15 s.
RETRY_S: Final = (3.0, 3.0, 3.0, 3.0, 3.0)
# A step of simulated time waits this long for its accounting answer before it goes on.
SETTLE_S: Final = 1.0
# Names and MACs (locally administered) of the phones a newcomer plays with.
PHONES: Final = (
    ("HP Bu Sari", "02a1b2c3d401"),
    ("HP Pak Rusli", "02a1b2c3d402"),
    ("HP tamu", "02a1b2c3d403"),
)
_MAC: Final = "02-A1-B2-C3-D4-00"


@dataclass(frozen=True, slots=True)
class Note:
    """One line of the gateway's log for people: what happened to which phone."""

    at: float
    phone: str
    kind: str
    detail: Mapping[str, Any] = field(default_factory=dict)


class PracticeGateway:
    """The gateway. `listen` and `coa_port` may be 0; after start() `port` and `coa_port` are real.

    `clock` gives epoch seconds. `view_point` is CoovaChilli-Acct-View-Point: 2 (default) counts
    Input/Output from the client as stock chilli does, 1 from the NAS (its `swapoctets`).
    `zone` is for the times on its page. `retry_s` are the waits before each retransmission and the
    last before giving up.
    """

    def __init__(
        self,
        *,
        radius_auth: Address,
        radius_acct: Address,
        secret: str,
        uam_secret: str | None,
        portal_url: str,
        nas_id: str,
        clock: Callable[[], float],
        listen: Address = ("127.0.0.1", 3990),
        coa_port: int = 0,
        mac_auth: bool = True,
        view_point: int = 2,
        phones: Sequence[tuple[str, str]] = PHONES,
        zone: str = "Asia/Makassar",
        retry_s: Sequence[float] = RETRY_S,
        random_octets: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.host, self.port = listen
        self.coa_port = coa_port
        self.notes: deque[Note] = deque(maxlen=40)
        self.phones: list[Phone] = []
        self.clock = clock
        self.zone = zone
        self.radius_auth, self.radius_acct = radius_auth, radius_acct
        self._packets = CoovaPackets(
            secret.encode(), nas_id, listen[0], _MAC, view_point=view_point
        )
        self.uam = Uam(listen[0], _MAC, nas_id, portal_url, uam_secret, view_point)
        self._mac_auth = mac_auth
        self._retry_s = tuple(retry_s)
        self._random_octets = random_octets
        self._stamp = 0
        self._client: Client | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._background: asyncio.Task[None] | None = None
        self._pages = PageServer(self)
        for name, mac in phones:
            self._add_phone(name, mac)

    # Life

    async def start(self) -> None:
        """Open the sockets, announce Accounting-On, serve. Raises OSError when a port is taken."""
        self._client = await Client.open(self.host, self.coa_port, self._on_request)
        self.coa_port = self._client.port
        try:
            await self._pages.start()
        except OSError:
            await self._close()
            raise
        await self._settle(self._announce(ACCOUNTING_ON))
        self._background = asyncio.create_task(self._keep_time())

    async def stop(self) -> None:
        """As CoovaChilli on SIGTERM: a Stop (NAS-Reboot) per session, then Accounting-Off. Waits at
        most 5 s for answers and browsers."""
        if self._client is None:
            return
        if self._background is not None:
            self._background.cancel()
        await self._pages.stop()
        for phone in self.phones:
            if phone.session is not None:
                self._end(phone, "closed")
        await self._settle(*self._tasks)
        await self._settle(self._announce(ACCOUNTING_OFF))
        self._cancel_tasks()
        await self.settled()
        await self._close()

    async def _close(self) -> None:
        self._udp.close()
        self._client = None
        await asyncio.sleep(0)  # asyncio closes a datagram socket in its next turn

    async def power_cut(self) -> None:
        """The gateway loses power and comes back: no Stop, no Off, only a new Accounting-On.
        Phones lose the Wi-Fi and come back when woken or used."""
        self._cancel_tasks()
        for phone in self.phones:
            if phone.session is not None:
                self._forget_session(phone, "power")
            phone.is_joined = False
            phone.session_id = ""
        self._note(None, "power_cut")
        await self._settle(self._announce(ACCOUNTING_ON))

    async def settled(self) -> None:
        """Wait until every packet sent so far is answered or given up."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def tick(self) -> None:
        """Do what is due now: interims, and cuts by Session-Timeout."""
        for phone in self.phones:
            if phone.session is not None and not phone.lock.locked():
                async with phone.lock:
                    await self._spend(phone, 0.0, 0)

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            try:
                await self.tick()
            except Exception:
                log.exception("practice_tick_failed")

    @property
    def _udp(self) -> Client:
        if self._client is None:
            raise RuntimeError("the practice gateway is not running; expected start() before")
        return self._client

    def _cancel_tasks(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()

    # Phones

    def phone(self, mac: str) -> Phone:
        """The phone with this MAC (any notation), made when new."""
        digits = re.sub("[^0-9a-f]", "", mac.lower())
        if len(digits) != 12:
            raise ValueError(f"MAC is {mac!r}; expected 12 hex digits")
        for phone in self.phones:
            if phone.mac == digits:
                return phone
        return self._add_phone(f"HP {len(self.phones) + 1}", digits)

    def _add_phone(self, name: str, mac: str) -> Phone:
        number = len(self.phones) + 1
        phone = Phone(number, name, mac, f"10.8.0.{number + 1}", self.port)
        self.phones.append(phone)
        return phone

    async def connect(self, phone: Phone) -> bool:
        """Join the Wi-Fi; True when the MAC return put the phone online. After a cut at a limit,
        ask anew (macreauth): a throttled card goes on.

        CoovaChilli with macauth asks at DHCP, twice within 0.1 s with one Acct-Session-Id.
        """
        async with phone.lock:
            if phone.session is not None or (phone.is_joined and not phone.asks_again):
                return phone.session is not None
            phone.is_joined, phone.asks_again = True, False
            self._keep_challenge(phone)
            if not self._mac_auth:
                return False
            name = phone.calling_station_id
            asked = [
                self._ask_auth(
                    self._udp, phone, name.encode(), service_type=FRAMED, password=name.encode()
                )
                for _ in range(2)
            ]
            self._note(phone, "mac_request")
            answer = None
            for next_answer in asyncio.as_completed(asked):
                answer = await next_answer
                if answer is not None:
                    break
            if answer is not None and answer.code == ACCESS_ACCEPT:
                self._open(phone, name, answer, is_mac_return=True)
            else:
                self._note(phone, "mac_refused" if answer is not None else "no_answer")
            return phone.session is not None

    async def sleep_phone(self, phone: Phone) -> None:
        """The phone goes quiet: its session runs on until Idle-Timeout ends it (cause 4), or ends
        at once with Lost-Carrier when there is none."""
        async with phone.lock:
            phone.is_joined = False
            session = phone.session
            if session is None:
                return
            idle_s = session.limits.idle_timeout_s
            if idle_s:
                await self._spend(phone, float(idle_s), 0)
            if phone.session is session:
                await self._settle(self._end(phone, "idle" if idle_s else "carrier"))

    async def wake_phone(self, phone: Phone) -> bool:
        """The phone looks for the Wi-Fi again; True when it is online without typing."""
        return await self.connect(phone)

    async def download(self, phone: Phone, octets: int) -> int:
        """Move octets to the phone at the allowed rate; returns how many were given. The session's
        clock moves on by the time it takes; without a rate it takes none."""
        return await self._transfer(phone, octets, upload=False)

    async def upload(self, phone: Phone, octets: int) -> int:
        """Move octets from the phone, as download()."""
        return await self._transfer(phone, octets, upload=True)

    async def _transfer(self, phone: Phone, octets: int, *, upload: bool) -> int:
        async with phone.lock:
            session = phone.session
            if session is None:
                self._note(phone, "offline", {"octets": octets})
                return 0
            rate_bps = session.limits.rate_up_bps if upload else session.limits.rate_down_bps
            seconds = octets * 8 / rate_bps if rate_bps else 0.0
            given = await self._spend(phone, seconds, octets, upload=upload)
            self._note(
                phone,
                "upload" if upload else "download",
                {"octets": octets, "given": given, "seconds": round(seconds)},
            )
            return given

    async def skip(self, phone: Phone, seconds: float) -> None:
        """Move the session's clock on; what falls due on the way happens at its moment."""
        async with phone.lock:
            if phone.session is not None:
                await self._spend(phone, seconds, 0)
                self._note(phone, "skip", {"seconds": round(seconds)})

    async def interim(self, phone: Phone) -> None:
        """Send an interim update now."""
        async with phone.lock:
            if phone.session is not None:
                await self._send_interim(phone, phone.session)

    async def _spend(
        self, phone: Phone, seconds: float, octets: int, *, upload: bool = False
    ) -> int:
        session = phone.session
        given = 0
        while session is not None and phone.session is session:
            step = session.step(self.clock(), seconds, octets, upload=upload)
            seconds -= step.passed_s
            octets -= step.moved_octets
            given += step.moved_octets
            match step.event:
                case Event.INTERIM:
                    await self._send_interim(phone, session)
                case Event.QUOTA | Event.TIME:
                    await self._settle(self._end(phone, str(step.event)))
                case None:
                    break
        return given

    # UAM: each returns the URL the phone is redirected to

    def arrival_url(self, phone: Phone, user_url: str | None = None) -> str:
        """Where a phone that is not logged in is sent: `res=notyet` with a challenge."""
        if user_url is not None:
            phone.user_url = user_url
        self._keep_challenge(phone)
        return self._redirect(phone, "notyet", has_challenge=True)

    def prelogin(self, phone: Phone, query: str = "") -> str:
        """GET /prelogin: an arrival with a usable challenge, or `res=already`. A `userurl` in the
        query comes back with it."""
        _take_user_url(phone, uam_fields(query))
        return self._redirect(phone, "already") if phone.session else self.arrival_url(phone)

    def status_url(self, phone: Phone) -> str:
        """GET /status: `already` or `notyet` with the session's figures."""
        self._keep_challenge(phone)
        self._session_id(phone)
        return self.uam.status_url(phone, self.clock())

    def status_json(self, phone: Phone) -> dict[str, Any]:
        """GET /json/status."""
        self._keep_challenge(phone)
        return self.uam.status_json(phone, self.clock())

    async def logon(self, phone: Phone, query: str) -> str:
        """GET /logon?query, as the portal's hand-off writes it.

        Raises UamError when the query carries neither `password` nor `response` or they cannot be
        read; a real CoovaChilli then closes the connection without an answer.
        """
        fields = uam_fields(query)
        async with phone.lock:
            # MAC authentication belongs to DHCP: a phone that kept its lease over a restart of the
            # gateway gets none.
            phone.is_joined = True
            if phone.session is not None:
                return self._redirect(phone, "already")
            if not phone.challenge:
                self._renew_challenge(phone)
            user_name, proof = read_hand_off(fields, phone.challenge, self.uam.secret)
            _take_user_url(phone, fields)
            if self.clock() - phone.challenge_at >= CHALLENGE_REFUSE_S:
                self._renew_challenge(phone)
                self._note(phone, "stale_challenge")
                return self._redirect(phone, "failed", reason="other", has_challenge=True)
            self._note(phone, "access_request", {"user_name": _text(user_name)})
            # CoovaChilli's forked child asks from a new ephemeral port.
            client = await Client.open(self.host, 0)
            try:
                answer = await self._ask_auth(
                    client,
                    phone,
                    user_name,
                    service_type=LOGIN,
                    logoff_url=f"http://{self.host}:{phone.port}/logoff",
                    **proof,
                )
            finally:
                client.close()
            if answer is None:
                self._renew_challenge(phone)
                self._note(phone, "no_answer")
                return self._redirect(phone, "failed", reason="timeout", has_challenge=True)
            reply = _text(b"".join(answer.get(REPLY_MESSAGE, [])))
            if answer.code != ACCESS_ACCEPT:
                self._renew_challenge(phone)
                phone.session_id = ""
                self._note(phone, "access_reject", {"reply": reply})
                return self._redirect(
                    phone, "failed", reason="reject", has_challenge=True, reply=reply
                )
            session = self._open(phone, _text(user_name), answer)
            return self._redirect(
                phone,
                "success",
                user_name=session.user_name,
                time_left_s=session.limits.session_timeout_s,
                reply=reply,
            )

    async def logoff(self, phone: Phone) -> str:
        """GET /logoff: ends the session (User-Request); always a fresh challenge."""
        if phone.session is not None:
            self._end(phone, "logoff")
        self._renew_challenge(phone)
        return self._redirect(phone, "logoff", has_challenge=True)

    def _redirect(self, phone: Phone, res: str, **parts: Any) -> str:
        self._session_id(phone)
        return self.uam.redirect(phone, res, **parts)

    def _keep_challenge(self, phone: Phone) -> None:
        if not phone.challenge or self.clock() - phone.challenge_at >= CHALLENGE_RENEW_S:
            self._renew_challenge(phone)

    def _renew_challenge(self, phone: Phone) -> None:
        phone.challenge = self._random_octets(16)
        phone.challenge_at = self.clock()

    def _session_id(self, phone: Phone) -> str:
        if not phone.session_id:
            # <unix time><unit>, as CoovaChilli; a second is never used twice, so that two quick
            # logins of a test do not share an id.
            self._stamp = max(int(self.clock()), self._stamp + 1)
            phone.session_id = f"{self._stamp:08d}{phone.number:08x}"
        return phone.session_id

    # Sessions

    def _open(
        self, phone: Phone, user_name: str, accept: Any, *, is_mac_return: bool = False
    ) -> Session:
        # A User-Name in the Accept replaces the asked one (CoovaChilli, chilli.c:3946).
        name = _text(accept[USER_NAME][0]) if USER_NAME in accept else user_name
        session = Session(
            id=self._session_id(phone),
            user_name=name,
            class_values=tuple(accept.get(CLASS, [])),
            limits=read_limits(accept),
            started_at=self.clock(),
            is_mac_return=is_mac_return,
        )
        phone.session = session
        phone.last_user_name = name
        self._note(phone, "access_accept", {"user_name": name, "limits": session.limits})
        self._account(phone, session, START)
        return session

    def _end(self, phone: Phone, why: str) -> asyncio.Task[Any]:
        session = phone.session
        assert session is not None
        self._forget_session(phone, why)
        return self._account(phone, session, STOP, CAUSES[why])

    def _forget_session(self, phone: Phone, why: str) -> None:
        assert phone.session is not None
        phone.last_end = why
        phone.asks_again = why in ("quota", "time")
        phone.last_octets = phone.session.octets
        phone.last_time_s = phone.session.time_s(self.clock())
        phone.session = None
        phone.session_id = ""
        self._renew_challenge(phone)

    async def _send_interim(self, phone: Phone, session: Session) -> None:
        session.interim_sent(self.clock())
        await self._settle(self._account(phone, session, INTERIM))

    async def _settle(self, *tasks: asyncio.Task[Any]) -> None:
        if tasks:
            await asyncio.wait(tasks, timeout=SETTLE_S)

    def _note(
        self, phone: Phone | None, kind: str, detail: Mapping[str, Any] | None = None
    ) -> None:
        self.notes.append(Note(self.clock(), phone.name if phone else "", kind, detail or {}))

    # RADIUS

    def _ask_auth(
        self, client: Client, phone: Phone, user_name: bytes, **parts: Any
    ) -> asyncio.Task[Any]:
        request = self._packets.access_request(
            client.identifier(), _station(phone), self._session_id(phone), user_name, **parts
        )
        return self._keep(client.ask(request, self.radius_auth, self._retry_s))

    def _keep(self, task: asyncio.Task[Any]) -> asyncio.Task[Any]:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _account(
        self, phone: Phone, session: Session, status: int, cause: int | None = None
    ) -> asyncio.Task[Any]:
        now = self.clock()
        counters = (
            None if status == START else Counters(*self.uam.view(session), session.time_s(now))
        )
        request = self._packets.accounting(
            self._udp.identifier(),
            int(now),
            status,
            _station(phone),
            session.id,
            session.user_name,
            session.class_values,
            counters=counters,
            cause=cause,
        )
        detail = {
            "status": status,
            "octets": session.octets,
            "seconds": session.time_s(now),
            "why": phone.last_end if status == STOP else "",
        }
        return self._send_accounting(request, phone, detail)

    def _announce(self, status: int) -> asyncio.Task[Any]:
        request = self._packets.announcement(self._udp.identifier(), int(self.clock()), status)
        return self._send_accounting(request, None, {"status": status})

    def _send_accounting(
        self, request: Any, phone: Phone | None, detail: Mapping[str, Any]
    ) -> asyncio.Task[Any]:
        self._note(phone, "accounting", detail)
        task = self._keep(self._udp.ask(request, self.radius_acct, self._retry_s))

        def done(task: asyncio.Task[Any]) -> None:
            if not task.cancelled() and task.result() is None:
                self._note(phone, "accounting_lost", detail)

        task.add_done_callback(done)
        return task

    def _on_request(self, data: bytes, source: Address) -> None:
        """Disconnect-Request and CoA-Request (RFC 5176), answered as CoovaChilli does: silence to
        a stranger, a wrong secret and a packet without User-Name; NAK without Error-Cause. The Stop
        leaves before the ACK."""
        if source[0] not in (self.radius_auth[0], self.radius_acct[0]):
            return
        request = self._packets.dynamic_request(data)
        if request is None or USER_NAME not in request:
            return
        user_name, session_id = request[USER_NAME][0], request.get(ACCT_SESSION_ID, [b""])[0]
        ended = []
        for phone in self.phones if request.code == DISCONNECT_REQUEST else ():
            session = phone.session
            if (
                session is not None
                and session.user_name.encode() == user_name
                and session_id.lower() in (b"", session.id.lower().encode())
            ):
                self._end(phone, "disconnect")
                ended.append(phone)
        self._udp.send(self._packets.dynamic_answer(request, is_done=bool(ended)), source)
        self._note(
            ended[0] if ended else None,
            "disconnect" if request.code == DISCONNECT_REQUEST else "coa",
            {"user_name": _text(user_name), "is_done": bool(ended)},
        )


def _take_user_url(phone: Phone, fields: Mapping[str, bytes]) -> None:
    if "userurl" in fields:
        phone.user_url = _text(fields["userurl"])


def _station(phone: Phone) -> Station:
    return Station(phone.calling_station_id, phone.ip, phone.number)


def _text(octets: bytes) -> str:
    return octets.decode(errors="replace")

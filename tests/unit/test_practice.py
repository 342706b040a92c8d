"""The practice gateway against a small RADIUS server of the test: real UDP and HTTP, a clock that
the test moves."""

import asyncio
import hashlib
import http.client
import json
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import pytest

from portal.practice import PracticeGateway
from portal.practice_phone import Event, Phone, Session
from portal.practice_uam import UamError, chap_password, uam_key, uam_quote
from radius import packet as radius
from radius.client import Limits

SECRET = b"a shared secret of 22+"
UAM_SECRET = "greatsecret"
PORTAL = "http://127.0.0.1:8080/"
CODE = b"482917305515"
Address = tuple[str, int]
Answer = tuple[int, bytes] | None


class Node(asyncio.DatagramProtocol):
    """Answers what `answers` says, and keeps every datagram."""

    def __init__(self) -> None:
        self.accept = radius.attribute(radius.CLASS, b"\x00class\xff")
        self.answers: Callable[[radius.Packet], Answer] = self.usual
        self.datagrams: list[tuple[bytes, Address]] = []
        self.arrived = asyncio.Event()
        self.transport: asyncio.DatagramTransport | None = None

    def usual(self, packet: radius.Packet) -> Answer:
        if packet.code == radius.ACCOUNTING_REQUEST:
            assert radius.verify_accounting(packet, SECRET)
            return radius.ACCOUNTING_RESPONSE, b""
        if packet.integer(radius.SERVICE_TYPE) == 2:
            return radius.ACCESS_REJECT, b""
        return radius.ACCESS_ACCEPT, self.accept

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        assert self.transport is not None
        self.datagrams.append((data, (str(addr[0]), addr[1])))
        self.arrived.set()
        packet = radius.parse(data)
        if packet.code in (radius.ACCESS_REQUEST, radius.ACCOUNTING_REQUEST):
            answer = self.answers(packet)
            if answer is not None:
                reply = radius.build_reply(packet, answer[0], answer[1], SECRET)
                self.transport.sendto(reply, addr)

    @property
    def address(self) -> Address:
        assert self.transport is not None
        host, port = self.transport.get_extra_info("sockname")
        return str(host), int(port)

    def packets(self, code: int | None = None, status: int | None = None) -> list[radius.Packet]:
        """What arrived, in order, of this code and this Acct-Status-Type."""
        found = [radius.parse(data) for data, _ in self.datagrams]
        return [
            packet
            for packet in found
            if code in (None, packet.code)
            and status in (None, packet.integer(radius.ACCT_STATUS_TYPE))
        ]

    async def until(self, is_true: Callable[[], bool]) -> None:
        """Wait for datagrams until the condition holds, at most 5 s."""
        async with asyncio.timeout(5):
            while not is_true():
                self.arrived.clear()
                await self.arrived.wait()


START, STOP, INTERIM, ON, OFF = 1, 2, 3, 7, 8


class Clock:
    def __init__(self) -> None:
        self.at = 1_795_300_000.0

    def __call__(self) -> float:
        return self.at


class World:
    """A node, a gateway and a first phone on the Wi-Fi."""

    def __init__(self, node: Node, gateway: PracticeGateway, clock: Clock) -> None:
        self.node = node
        self.gateway = gateway
        self.clock = clock
        self.phone = gateway.phones[0]

    async def logon(self, phone: Phone | None = None, user_name: str = "A017-23") -> str:
        """Log in as a portal would, with PAP."""
        phone = phone or self.phone
        self.gateway.arrival_url(phone)
        return await self.gateway.logon(phone, hand_off(phone, user_name))

    async def stops(self) -> list[radius.Packet]:
        await self.gateway.settled()
        return self.node.packets(status=STOP)


@asynccontextmanager
async def world(**options: Any) -> AsyncIterator[World]:
    node, clock = Node(), Clock()
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: node, local_addr=("127.0.0.1", 0)
    )
    settings: dict[str, Any] = {
        "radius_auth": node.address,
        "radius_acct": node.address,
        "secret": SECRET.decode(),
        "uam_secret": UAM_SECRET,
        "portal_url": PORTAL,
        "nas_id": "latihan",
        "clock": clock,
        "listen": ("127.0.0.1", 0),
        "retry_s": (0.05, 0.05, 0.05),
    }
    gateway = PracticeGateway(**(settings | options))
    try:
        await gateway.start()
        yield World(node, gateway, clock)
    finally:
        await gateway.stop()
        transport.close()
        await asyncio.sleep(0)


def hand_off(phone: Phone, user_name: str, password: bytes = CODE, size: int = 16) -> str:
    key = uam_key(phone.challenge, UAM_SECRET)
    padded = password.ljust(size, b"\0")
    hidden = bytes(octet ^ key[i % 16] for i, octet in enumerate(padded)).hex()
    return f"username={uam_quote(user_name)}&password={hidden}&userurl="


def query_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))


def run(test: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


async def fetch(
    url: str, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], str]:
    """Status, headers (lower case) and body of one request; redirects are not followed."""

    def ask() -> tuple[int, dict[str, str], str]:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=10)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, headers=headers or {})
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, body

    return await asyncio.to_thread(ask)


# Announcements and UAM


def test_start_announces_on_and_stop_ends_every_session_then_announces_off() -> None:
    async def check() -> None:
        async with world() as w:
            (on,) = w.node.packets(status=ON)
            assert on.text(radius.ACCT_SESSION_ID) is None and on.text(radius.USER_NAME) is None
            assert on.text(radius.CALLING_STATION_ID) == "00-00-00-00-00-00"
            assert on.text(radius.NAS_IDENTIFIER) == "latihan"
            await w.logon()
            node = w.node
        last = node.packets(radius.ACCOUNTING_REQUEST)[-2:]
        assert [packet.integer(radius.ACCT_STATUS_TYPE) for packet in last] == [STOP, OFF]
        assert last[0].integer(radius.ACCT_TERMINATE_CAUSE) == 11
        assert last[1].integer(radius.ACCT_TERMINATE_CAUSE) == 0

    run(check)


def test_arrival_is_written_and_signed_as_coovachilli_does() -> None:
    async def check() -> None:
        async with world() as w:
            url = w.gateway.arrival_url(w.phone, "http://example.com/a b")
            port = w.phone.port
            before, signature = url.split("&md=")
            expected = hashlib.md5((before + UAM_SECRET).encode()).hexdigest().upper()
            assert signature == expected
            assert re.fullmatch(
                re.escape(f"{PORTAL}?res=notyet&uamip=127.0.0.1&uamport={port}&challenge=")
                + "[0-9a-f]{32}"
                + re.escape("&called=02-A1-B2-C3-D4-00&mac=02-A1-B2-C3-D4-01&ip=10.8.0.2")
                + "&nasid=latihan&sessionid=[0-9a-f]{18}"
                + re.escape("&userurl=http%3a%2f%2fexample.com%2fa%20b"),
                before,
            )

    run(check)


def test_arrival_is_unsigned_without_uam_secret() -> None:
    async def check() -> None:
        async with world(uam_secret=None) as w:
            assert "&md=" not in w.gateway.arrival_url(w.phone)

    run(check)


@pytest.mark.parametrize(("password", "size"), [(CODE, 12), (CODE, 16), (b"p" * 40, 48)])
def test_pap_password_reaches_radius_decoded(password: bytes, size: int) -> None:
    async def check() -> None:
        async with world() as w:
            arrival = query_of(w.gateway.arrival_url(w.phone))
            url = await w.gateway.logon(w.phone, hand_off(w.phone, "A017-23", password, size))
            (request,) = w.node.packets(radius.ACCESS_REQUEST)
            assert radius.decrypt_password(request, SECRET) == password
            assert request.text(radius.USER_NAME) == "A017-23"
            assert request.integer(radius.SERVICE_TYPE) == 1
            assert request.text(radius.ACCT_SESSION_ID) == arrival["sessionid"]
            assert request.text(radius.CALLING_STATION_ID) == "02-A1-B2-C3-D4-01"
            assert request.address(radius.FRAMED_IP_ADDRESS) == "10.8.0.2"
            assert request.raw[-18:-16] == b"\x50\x12"  # Message-Authenticator is last
            assert radius.message_authenticator_state(request, SECRET) == "valid"
            answer = query_of(url)
            assert (answer["res"], answer["uid"]) == ("success", "A017-23")
            assert "challenge" not in answer

    run(check)


def test_pap_without_uam_secret_uses_the_bare_challenge() -> None:
    async def check() -> None:
        async with world(uam_secret=None) as w:
            w.gateway.arrival_url(w.phone)
            hidden = bytes(
                a ^ b for a, b in zip(CODE.ljust(16, b"\0"), w.phone.challenge, strict=True)
            )
            await w.gateway.logon(w.phone, f"username=x&password={hidden.hex()}")
            (request,) = w.node.packets(radius.ACCESS_REQUEST)
            assert radius.decrypt_password(request, SECRET) == CODE

    run(check)


@pytest.mark.parametrize("ident", [0, 7])
def test_chap_response_reaches_radius_with_its_challenge(ident: int) -> None:
    async def check() -> None:
        async with world() as w:
            w.gateway.arrival_url(w.phone)
            key = uam_key(w.phone.challenge, UAM_SECRET)
            response = hashlib.md5(bytes([ident]) + CODE + key).hexdigest()
            extra = f"&ident={ident}" if ident else ""
            await w.gateway.logon(w.phone, f"username=x&response={response}{extra}")
            (request,) = w.node.packets(radius.ACCESS_REQUEST)
            assert radius.verify_chap(request, CODE)
            assert not radius.verify_chap(request, b"another")
            assert request.first[radius.CHAP_CHALLENGE] == key

    run(check)


def test_logon_decodes_percent_but_keeps_plus() -> None:
    async def check() -> None:
        async with world() as w:
            w.gateway.arrival_url(w.phone)
            query = hand_off(w.phone, "x").replace("username=x", "username=a+b%20c%2bd")
            await w.gateway.logon(w.phone, query)
            (request,) = w.node.packets(radius.ACCESS_REQUEST)
            assert request.text(radius.USER_NAME) == "a+b c+d"

    run(check)


@pytest.mark.parametrize(
    "query", ["", "username=x", "password=00", "username=x&password=0g", "username=x&response=00"]
)
def test_unreadable_hand_off_asks_nobody(query: str) -> None:
    async def check() -> None:
        async with world() as w:
            w.gateway.arrival_url(w.phone)
            with pytest.raises(UamError):
                await w.gateway.logon(w.phone, query)
            assert w.node.packets(radius.ACCESS_REQUEST) == []

    run(check)


def test_chap_identifier_out_of_range_is_refused() -> None:
    with pytest.raises(UamError, match="expected 0 to 255"):
        chap_password(b"0" * 32, b"256")


def test_reject_gives_reason_reply_and_a_fresh_challenge() -> None:
    async def check() -> None:
        async with world() as w:
            text = radius.text_attribute(radius.REPLY_MESSAGE, "Kuota habis & selesai")
            w.node.answers = lambda packet: (radius.ACCESS_REJECT, text)
            before = query_of(w.gateway.arrival_url(w.phone))
            url = await w.gateway.logon(w.phone, hand_off(w.phone, "A017-23"))
            answer = query_of(url)
            assert (answer["res"], answer["reason"]) == ("failed", "reject")
            assert answer["reply"] == "Kuota habis & selesai"
            assert "reply=Kuota%20habis%20%26%20selesai" in url
            assert answer["challenge"] != before["challenge"]
            assert answer["sessionid"] != before["sessionid"]
            assert w.phone.session is None

    run(check)


def test_silent_server_gets_the_same_octets_again_and_the_phone_a_timeout() -> None:
    async def check() -> None:
        async with world() as w:
            w.node.answers = lambda packet: None
            answer = query_of(await w.logon())
            assert (answer["res"], answer["reason"]) == ("failed", "timeout")
            sent = [d for d in w.node.datagrams if d[0][0] == radius.ACCESS_REQUEST]
            assert len(sent) == 3 and len(set(sent)) == 1

    run(check)


def test_accept_without_message_authenticator_is_ignored() -> None:
    async def check() -> None:
        async with world() as w:
            w.node.answers = lambda packet: None

            def answer_bare(packet: radius.Packet) -> Answer:
                header = bytes([2, packet.identifier, 0, 20])
                digest = hashlib.md5(header + packet.authenticator + SECRET).digest()
                assert w.node.transport is not None
                w.node.transport.sendto(header + digest, w.node.datagrams[-1][1])
                return None

            w.node.answers = answer_bare
            assert query_of(await w.logon())["reason"] == "timeout"
            assert w.phone.session is None

    run(check)


def test_logon_while_online_says_already_and_asks_nobody() -> None:
    async def check() -> None:
        async with world() as w:
            await w.logon()
            answer = query_of(await w.gateway.logon(w.phone, hand_off(w.phone, "B001-01")))
            assert answer["res"] == "already" and "challenge" not in answer
            assert len(w.node.packets(radius.ACCESS_REQUEST)) == 1
            assert query_of(w.gateway.prelogin(w.phone))["res"] == "already"

    run(check)


def test_prelogin_brings_its_userurl_back() -> None:
    async def check() -> None:
        async with world() as w:
            base = f"http://127.0.0.1:{w.phone.port}"
            wanted = "http://127.0.0.1:8080/v/1?a=b&c"
            _, headers, _ = await fetch(f"{base}/prelogin?userurl={uam_quote(wanted)}")
            assert query_of(headers["location"])["userurl"] == wanted
            assert query_of(w.gateway.prelogin(w.phone))["userurl"] == wanted

    run(check)


def test_challenge_is_renewed_after_ten_minutes_and_refused_after_twenty() -> None:
    async def check() -> None:
        async with world() as w:
            first = query_of(w.gateway.prelogin(w.phone))["challenge"]
            old = hand_off(w.phone, "A017-23")
            w.clock.at += 599
            assert query_of(w.gateway.prelogin(w.phone))["challenge"] == first
            w.clock.at += 601
            answer = query_of(await w.gateway.logon(w.phone, old))
            assert (answer["res"], answer["reason"]) == ("failed", "other")
            assert answer["challenge"] != first
            w.clock.at += 600
            assert query_of(w.gateway.prelogin(w.phone))["challenge"] != answer["challenge"]

    run(check)


def test_status_tells_the_session() -> None:
    async def check() -> None:
        async with world() as w:
            offline = query_of(w.gateway.status_url(w.phone))
            assert offline["res"] == "notyet" and "challenge" in offline
            w.node.accept = radius.integer_attribute(radius.SESSION_TIMEOUT, 3600)
            await w.logon()
            w.clock.at += 90
            online = query_of(w.gateway.status_url(w.phone))
            assert online["res"] == "already" and online["uid"] == "A017-23"
            assert (online["sessiontime"], online["timeleft"]) == ("90", "3510")

    run(check)


# Limits


def octets_limit(octets: int) -> bytes:
    limit = radius.vendor_attribute(14559, 3, (octets & 0xFFFFFFFF).to_bytes(4))
    return limit + radius.vendor_attribute(14559, 23, (octets >> 32).to_bytes(4))


@pytest.mark.parametrize("limit", [20_000_001, (1 << 32) + 5])
def test_download_is_cut_exactly_at_the_octet(limit: int) -> None:
    async def check() -> None:
        async with world() as w:
            w.node.accept += octets_limit(limit)
            await w.logon()
            assert await w.gateway.upload(w.phone, 1_000_000) == 1_000_000
            assert await w.gateway.download(w.phone, 10_000_000) == 10_000_000
            assert await w.gateway.download(w.phone, 1 << 40) == limit - 11_000_000
            assert w.phone.session is None and w.phone.last_end == "quota"
            assert await w.gateway.download(w.phone, 1) == 0
            (stop,) = await w.stops()
            assert stop.integer(radius.ACCT_TERMINATE_CAUSE) == 5
            down = (stop.integer(radius.ACCT_INPUT_GIGAWORDS) or 0) << 32
            down += stop.integer(radius.ACCT_INPUT_OCTETS) or 0
            assert down == limit - 1_000_000  # stock CoovaChilli: input is the download
            assert stop.integer(radius.ACCT_OUTPUT_OCTETS) == 1_000_000
            assert stop.vendor(14559, 10) == b"\0\0\0\2"
            assert stop.first[radius.CLASS] == b"\x00class\xff"

    run(check)


def test_view_point_of_the_nas_reports_the_upload_as_input() -> None:
    async def check() -> None:
        async with world(view_point=1) as w:
            await w.logon()
            await w.gateway.upload(w.phone, 7)
            await w.gateway.download(w.phone, 11)
            await w.gateway.interim(w.phone)
            (interim,) = w.node.packets(status=INTERIM)
            assert interim.integer(radius.ACCT_INPUT_OCTETS) == 7
            assert interim.integer(radius.ACCT_OUTPUT_OCTETS) == 11
            assert interim.vendor(14559, 10) == b"\0\0\0\1"

    run(check)


def test_download_takes_the_time_of_its_rate_and_reports_on_the_way() -> None:
    async def check() -> None:
        async with world() as w:
            w.node.accept += radius.vendor_attribute(14122, 8, (800_000).to_bytes(4))
            w.node.accept += radius.integer_attribute(radius.ACCT_INTERIM_INTERVAL, 300)
            await w.logon()
            assert await w.gateway.download(w.phone, 70_000_000) == 70_000_000  # 700 s
            reports = [
                (p.integer(radius.ACCT_SESSION_TIME), p.integer(radius.ACCT_INPUT_OCTETS))
                for p in w.node.packets(status=INTERIM)
            ]
            assert reports == [(300, 30_000_000), (600, 60_000_000)]
            assert w.phone.session is not None
            assert w.phone.session.time_s(w.clock()) == 700

    run(check)


def test_session_ends_exactly_at_session_timeout_in_the_middle_of_a_download() -> None:
    async def check() -> None:
        async with world() as w:
            w.node.accept += radius.vendor_attribute(14122, 8, (800_000).to_bytes(4))
            w.node.accept += radius.integer_attribute(radius.SESSION_TIMEOUT, 100)
            await w.logon()
            assert await w.gateway.download(w.phone, 70_000_000) == 10_000_000
            (stop,) = await w.stops()
            assert stop.integer(radius.ACCT_SESSION_TIME) == 100
            assert stop.integer(radius.ACCT_TERMINATE_CAUSE) == 5
            assert w.phone.last_end == "time"

    run(check)


def test_session_timeout_by_the_clock_reports_no_more_than_was_allowed() -> None:
    async def check() -> None:
        async with world() as w:
            w.node.accept += radius.integer_attribute(radius.SESSION_TIMEOUT, 60)
            await w.logon()
            w.clock.at += 59.5
            await w.gateway.tick()
            assert w.phone.session is not None
            w.clock.at += 10
            await w.gateway.tick()
            (stop,) = await w.stops()
            assert stop.integer(radius.ACCT_SESSION_TIME) == 60

    run(check)


@pytest.mark.parametrize(("asked", "kept"), [(60, 60), (59, 300), (None, 300)])
def test_interim_interval_is_honoured_from_a_minute_on(asked: int | None, kept: int) -> None:
    async def check() -> None:
        async with world() as w:
            if asked is not None:
                w.node.accept += radius.integer_attribute(radius.ACCT_INTERIM_INTERVAL, asked)
            await w.logon()
            w.clock.at += kept - 1
            await w.gateway.tick()
            assert w.node.packets(status=INTERIM) == []
            w.clock.at += 1
            await w.gateway.tick()
            await w.gateway.tick()
            assert len(w.node.packets(status=INTERIM)) == 1

    run(check)


def test_skipped_time_sends_each_interim_at_its_moment() -> None:
    async def check() -> None:
        async with world() as w:
            await w.logon()
            await w.gateway.skip(w.phone, 1000)
            times = [p.integer(radius.ACCT_SESSION_TIME) for p in w.node.packets(status=INTERIM)]
            assert times == [300, 600, 900]

    run(check)


def test_unanswered_accounting_is_repeated_with_identical_octets() -> None:
    async def check() -> None:
        async with world() as w:
            seen: list[bytes] = []

            def answer_third(packet: radius.Packet) -> Answer:
                if packet.integer(radius.ACCT_STATUS_TYPE) == START:
                    seen.append(packet.raw)
                    return None if len(seen) < 3 else w.node.usual(packet)
                return w.node.usual(packet)

            w.node.answers = answer_third
            await w.logon()
            await w.gateway.settled()
            assert len(seen) == 3 and len(set(seen)) == 1
            assert [n.kind for n in w.gateway.notes].count("accounting_lost") == 0
            ports = {a for d, a in w.node.datagrams if d[0] == radius.ACCOUNTING_REQUEST}
            assert ports == {("127.0.0.1", w.gateway.coa_port)}

    run(check)


def test_step_never_gives_more_than_the_limit_whatever_the_events_on_the_way() -> None:
    limits = Limits(
        session_timeout_s=1000, interim_s=60, octets=12_345_678, rate_down_bps=1_000_003
    )
    session = Session("1", "x", (), limits, 0.0)
    octets, seconds, given, events = 100_000_000, 100_000_000 * 8 / 1_000_003, 0, []
    while True:
        step = session.step(0.0, seconds, octets)
        octets -= step.moved_octets
        seconds -= step.passed_s
        given += step.moved_octets
        events.append(step.event)
        if step.event is not Event.INTERIM:
            break
        session.interim_sent(0.0)
    assert events == [Event.INTERIM] * 1 + [Event.QUOTA]
    assert given == session.octets == 12_345_678
    assert session.time_s(0.0) == 12_345_678 * 8 // 1_000_003


# Ends, sleep, power


def test_logoff_stops_with_user_request_and_a_fresh_challenge() -> None:
    async def check() -> None:
        async with world() as w:
            old = query_of(w.gateway.arrival_url(w.phone))
            await w.logon()
            answer = query_of(await w.gateway.logoff(w.phone))
            assert answer["res"] == "logoff"
            assert answer["challenge"] != old["challenge"]
            assert answer["sessionid"] != old["sessionid"]
            (stop,) = await w.stops()
            assert stop.integer(radius.ACCT_TERMINATE_CAUSE) == 1
            assert stop.text(radius.ACCT_SESSION_ID) == old["sessionid"]

    run(check)


@pytest.mark.parametrize(("idle_s", "cause", "time_s"), [(900, 4, 900), (None, 2, 0)])
def test_sleeping_phone_is_ended_by_idle_timeout_else_by_lost_carrier(
    idle_s: int | None, cause: int, time_s: int
) -> None:
    async def check() -> None:
        async with world() as w:
            if idle_s is not None:
                w.node.accept += radius.integer_attribute(radius.IDLE_TIMEOUT, idle_s)
            await w.logon()
            await w.gateway.sleep_phone(w.phone)
            (stop,) = await w.stops()
            assert stop.integer(radius.ACCT_TERMINATE_CAUSE) == cause
            assert stop.integer(radius.ACCT_SESSION_TIME) == time_s
            assert not w.phone.is_joined

    run(check)


def test_waking_phone_asks_twice_by_mac_and_takes_the_name_it_is_given() -> None:
    async def check() -> None:
        async with world() as w:
            w.node.accept += radius.text_attribute(radius.USER_NAME, "A017-23")
            w.node.answers = lambda p: (
                (radius.ACCESS_ACCEPT, w.node.accept)
                if p.code == radius.ACCESS_REQUEST
                else w.node.usual(p)
            )
            assert await w.gateway.wake_phone(w.phone)
            await w.gateway.settled()
            first, second = w.node.packets(radius.ACCESS_REQUEST)
            for packet in (first, second):
                assert packet.text(radius.USER_NAME) == "02-A1-B2-C3-D4-01"
                assert radius.decrypt_password(packet, SECRET) == b"02-A1-B2-C3-D4-01"
                assert packet.integer(radius.SERVICE_TYPE) == 2
            assert first.identifier != second.identifier
            assert first.text(radius.ACCT_SESSION_ID) == second.text(radius.ACCT_SESSION_ID)
            (start,) = w.node.packets(status=START)
            assert start.text(radius.USER_NAME) == "A017-23"
            assert w.phone.session is not None and w.phone.session.is_mac_return

    run(check)


def test_unknown_phone_stays_offline_and_is_asked_once_per_join() -> None:
    async def check() -> None:
        async with world() as w:
            assert not await w.gateway.connect(w.phone)
            assert not await w.gateway.connect(w.phone)
            assert len(w.node.packets(radius.ACCESS_REQUEST)) == 2
            other = w.gateway.phone("AA:BB:CC:DD:EE:FF")
            assert w.gateway.phone("aa-bb-cc-dd-ee-ff") is other
            assert other.ip != w.phone.ip

    run(check)


def test_gateway_without_mac_authentication_never_asks_by_mac() -> None:
    async def check() -> None:
        async with world(mac_auth=False) as w:
            assert not await w.gateway.connect(w.phone)
            assert w.node.packets(radius.ACCESS_REQUEST) == []

    run(check)


def test_power_cut_forgets_sessions_without_a_stop_and_announces_on_again() -> None:
    async def check() -> None:
        async with world() as w:
            await w.logon()
            await w.gateway.download(w.phone, 1000)
            await w.gateway.power_cut()
            assert await w.stops() == []
            assert len(w.node.packets(status=ON)) == 2
            assert w.phone.session is None and not w.phone.is_joined
            assert w.phone.last_end == "power"

    run(check)


# Disconnect


def attributes(**parts: str) -> bytes:
    kinds = {
        "user": radius.USER_NAME,
        "session": radius.ACCT_SESSION_ID,
        "station": radius.CALLING_STATION_ID,
        "nas": radius.NAS_IDENTIFIER,
    }
    return b"".join(radius.text_attribute(kinds[name], text) for name, text in parts.items())


def test_disconnect_is_answered_as_the_observed_coovachilli_does() -> None:
    ack, nak = radius.DISCONNECT_ACK, radius.DISCONNECT_NAK
    table: list[tuple[dict[str, str], bytes, bool, int | None]] = [
        ({"user": "A017-23"}, SECRET, False, ack),
        ({"user": "A017-23"}, SECRET, True, ack),
        ({"user": "A017-23", "session": "right", "station": "x", "nas": "y"}, SECRET, False, ack),
        ({"user": "A017-23", "session": "wrong"}, SECRET, False, nak),
        ({"user": "nobody"}, SECRET, False, nak),
        ({"session": "right"}, SECRET, False, None),
        ({"station": "02-A1-B2-C3-D4-01"}, SECRET, False, None),
        ({"user": "A017-23"}, b"another secret", False, None),
    ]

    async def check() -> None:
        async with world() as w:
            assert w.node.transport is not None
            for number, (parts, secret, is_marked, expected) in enumerate(table):
                if w.phone.session is None:
                    await w.logon()
                    await w.gateway.settled()
                assert w.phone.session is not None
                if parts.get("session") == "right":
                    parts = parts | {"session": w.phone.session.id.upper()}
                w.node.datagrams.clear()
                request = radius.sign_request(
                    radius.DISCONNECT_REQUEST,
                    number,
                    attributes(**parts),
                    secret,
                    message_authenticator=is_marked,
                )
                # Asked before it, answered after it: proof that nothing else will come.
                probe = radius.sign_request(
                    radius.DISCONNECT_REQUEST, 200, attributes(user="nobody"), SECRET
                )
                for datagram in (request, probe):
                    w.node.transport.sendto(datagram, ("127.0.0.1", w.gateway.coa_port))
                await w.node.until(lambda: any(d[1] == 200 for d, _ in w.node.datagrams))
                codes = [
                    (d[0], d[1]) for d, _ in w.node.datagrams if d[0] != radius.ACCOUNTING_REQUEST
                ]
                wanted = [] if expected is None else [(expected, number)]
                assert codes == [*wanted, (nak, 200)], parts
                for data, _ in w.node.datagrams:
                    if (data[0], data[1]) == (expected, number):
                        reply = radius.verify_response(request[4:20], data, SECRET)
                        assert not reply.first
                if expected == ack:
                    # The Stop leaves before the ACK.
                    assert w.node.datagrams[0][0][0] == radius.ACCOUNTING_REQUEST
                    (stop,) = await w.stops()
                    assert stop.integer(radius.ACCT_TERMINATE_CAUSE) == 6
                assert (w.phone.session is None) == (expected == ack)

    run(check)


def test_change_of_authorization_gets_a_nak_and_changes_nothing() -> None:
    async def check() -> None:
        async with world() as w:
            await w.logon()
            assert w.node.transport is not None
            request = radius.sign_request(
                radius.COA_REQUEST,
                9,
                attributes(user="A017-23") + radius.integer_attribute(radius.SESSION_TIMEOUT, 5),
                SECRET,
            )
            w.node.transport.sendto(request, ("127.0.0.1", w.gateway.coa_port))
            await w.node.until(lambda: w.node.datagrams[-1][0][0] == radius.COA_NAK)
            assert w.phone.session is not None

    run(check)


def test_disconnect_from_a_stranger_is_not_answered() -> None:
    async def check() -> None:
        async with world() as w:
            await w.logon()
            stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            stranger.bind(("127.0.0.2", 0))
            request = radius.sign_request(
                radius.DISCONNECT_REQUEST, 1, attributes(user="A017-23"), SECRET
            )
            stranger.sendto(request, ("127.0.0.1", w.gateway.coa_port))
            stranger.close()
            assert w.node.transport is not None
            probe = radius.sign_request(
                radius.DISCONNECT_REQUEST, 200, attributes(user="nobody"), SECRET
            )
            w.node.transport.sendto(probe, ("127.0.0.1", w.gateway.coa_port))
            await w.node.until(lambda: w.node.datagrams[-1][0][0] == radius.DISCONNECT_NAK)
            assert w.phone.session is not None

    run(check)


# HTTP


@pytest.mark.parametrize(
    "path",
    [
        "/generate_204",
        "/gen_204",
        "/hotspot-detect.html",
        "/connecttest.txt",
        "/ncsi.txt",
        "/success.txt",
        "/anything/else",
    ],
)
def test_probe_of_an_offline_phone_is_redirected_with_a_body(path: str) -> None:
    async def check() -> None:
        async with world() as w:
            for host in (f"127.0.0.1:{w.gateway.port}", "connectivitycheck.gstatic.com"):
                url = f"http://127.0.0.1:{w.gateway.port}{path}"
                status, headers, body = await fetch(url, headers={"Host": host})
                assert status == 302
                assert headers["location"].startswith(f"{PORTAL}?res=notyet&")
                assert headers["cache-control"] == "no-store"
                assert len(body) > 4
                assert query_of(headers["location"])["userurl"] == f"http://{host}{path}"

    run(check)


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/generate_204", 204, ""),
        ("/connecttest.txt", 200, "Microsoft Connect Test"),
        ("/success.txt", 200, "success\n"),
    ],
)
def test_probe_of_an_online_phone_succeeds(path: str, status: int, body: str) -> None:
    async def check() -> None:
        async with world() as w:
            await w.logon()
            url = f"http://127.0.0.1:{w.phone.port}{path}"
            assert (await fetch(url))[::2] == (status, body)

    run(check)


def test_each_phone_is_told_apart_by_its_port() -> None:
    async def check() -> None:
        async with world() as w:
            second = w.gateway.phones[1]
            w.gateway.arrival_url(second)
            base = f"http://127.0.0.1:{second.port}"
            status, headers, _ = await fetch(f"{base}/logon?{hand_off(second, 'A017-24')}")
            answer = query_of(headers["location"])
            assert (status, answer["res"], answer["uamport"]) == (302, "success", str(second.port))
            assert second.session is not None and w.phone.session is None
            told = json.loads((await fetch(f"{base}/json/status"))[2])
            assert (told["clientState"], told["session"]["userName"]) == (1, "A017-24")
            script = (await fetch(f"{base}/json/status?callback=cb"))[2]
            assert script.startswith("cb({") and script.endswith("})")
            _, headers, _ = await fetch(f"{base}/logoff")
            assert query_of(headers["location"])["res"] == "logoff"
            for path in ("/prelogin", "/status"):
                _, headers, _ = await fetch(base + path)
                assert query_of(headers["location"])["res"] == "notyet"

    run(check)


def test_logon_without_credentials_is_a_bad_request() -> None:
    async def check() -> None:
        async with world() as w:
            url = f"http://127.0.0.1:{w.phone.port}/logon?username=x"
            status, _, body = await fetch(url)
            assert status == 400 and "expected one of them" in body

    run(check)


def test_page_plays_every_button_and_says_that_it_is_practice() -> None:
    async def check() -> None:
        async with world() as w:
            w.node.accept += octets_limit(50_000_000)
            w.node.accept += radius.integer_attribute(radius.SESSION_TIMEOUT, 7200)
            base = f"http://127.0.0.1:{w.gateway.port}"
            _, headers, page = await fetch(base + "/")
            assert "Hanya untuk latihan" in page and "<script" not in page
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "For practice and tests only" in (await fetch(base + "/?lang=en"))[2]
            assert f"http://127.0.0.1:{w.gateway.phones[2].port}/internet" in page
            await w.logon()
            pressed = set()
            for _ in range(12):
                _, _, page = await fetch(base + "/")
                buttons = re.findall(r'method="post" action="([^"]+)"', page)
                fresh = [b for b in buttons if b.startswith("/phone/1/") and b not in pressed]
                if not fresh:
                    break
                fresh.sort(key=lambda b: ("sleep" in b, "download-100" in b))
                pressed.add(fresh[0])
                status, headers, _ = await fetch(base + fresh[0], "POST")
                assert (status, headers["location"]) == (303, "/#hp-1"), fresh[0]
            assert {b.rsplit("/", 1)[1] for b in pressed} == {
                *("download-1", "download-10", "download-100", "upload-1"),
                *("skip", "interim", "sleep", "wake"),
            }
            assert w.phone.last_end == "quota"
            status, headers, _ = await fetch(base + "/gateway/power-cut?lang=en", "POST")
            assert (status, headers["location"]) == (303, "/?lang=en#gateway")
            _, _, page = await fetch(base + "/?lang=en")
            assert "data quota used up" in page and "Power lost" in page

    run(check)


def test_form_of_another_site_is_refused() -> None:
    async def check() -> None:
        async with world() as w:
            base = f"http://127.0.0.1:{w.gateway.port}"
            foreign = {"Sec-Fetch-Site": "cross-site"}
            for path in ("/gateway/power-cut", "/phone/1/wake"):
                assert (await fetch(base + path, "POST", foreign))[0] == 403
            assert len(w.node.packets(status=ON)) == 1
            assert (await fetch(base + "/phone/9/wake", "POST"))[0] == 404
            assert (await fetch(base + "/phone/1/fly", "POST"))[0] == 404
            assert (await fetch(base + "/phone/1/wake"))[0] == 302  # a GET changes nothing

    run(check)


def test_taken_port_is_an_error_and_leaves_nothing_open() -> None:
    async def check() -> None:
        async with world() as w:
            with pytest.raises(OSError):
                async with world(listen=("127.0.0.1", w.gateway.port)):
                    pass

    run(check)

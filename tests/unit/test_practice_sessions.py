"""What the practice gateway counts, when its sessions end, how it answers Disconnect-Requests."""

import socket

import pytest

from portal.practice.phone import Event, Session
from radius import packet as radius
from radius.client import Limits
from tests.unit.practice_world import (
    INTERIM,
    ON,
    SECRET,
    START,
    Answer,
    octets_limit,
    query_of,
    run,
    world,
)

# Limits


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

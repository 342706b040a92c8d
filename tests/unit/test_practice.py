"""The practice gateway logs phones in as CoovaChilli does."""

import hashlib
import re

import pytest

from portal.practice.uam import UamError, chap_password, uam_key, uam_quote
from radius import packet as radius
from tests.unit.practice_world import (
    CODE,
    OFF,
    ON,
    PORTAL,
    SECRET,
    STOP,
    UAM_SECRET,
    Answer,
    fetch,
    hand_off,
    query_of,
    run,
    world,
)

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

"""Logging in: what an Access-Request gets, item by item of the conformance checklist A2 and A3."""

import asyncio
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portal import aaa
from portal.domain.quota import Reason
from portal.door import Phone
from radius.packet import (
    ACCESS_ACCEPT,
    ACCESS_REJECT,
    ACCESS_REQUEST,
    ACCT_INTERIM_INTERVAL,
    CHAP_CHALLENGE,
    CHAP_PASSWORD,
    CLASS,
    IDLE_TIMEOUT,
    MESSAGE_AUTHENTICATOR,
    NAS_IDENTIFIER,
    PROXY_STATE,
    REPLY_MESSAGE,
    SERVICE_TYPE,
    SESSION_TIMEOUT,
    STATE,
    USER_NAME,
    USER_PASSWORD,
    PacketError,
    attribute,
    integer_attribute,
    sign_request,
)
from radius.password import hide
from tests.unit.aaa.rig import SECRET, NodeRig, octets_granted, play

GW = "10.20.0.1"
PHONE_A, PHONE_B = "02-AA-BB-CC-DD-01", "02-AA-BB-CC-DD-02"
MAX_TOTAL, MAX_TOTAL_GIGAWORDS = (14559, 3), (14559, 23)


def run(tmp_path: Path, story: Callable[[NodeRig], Any]) -> None:
    play(tmp_path, story, GW)


def here(gateway_id: int | None = 1, mac: str | None = "02aabbccdd01") -> Phone:
    return Phone(mac, mac is not None, gateway_id, "10.1.0.9")


def test_a_code_as_name_and_password_is_accepted_with_every_limit(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_day="5GB", time_day="2h")
        reply = await rig.access(GW, code, code, PHONE_A, acct_session_id="s1")
        assert reply is not None and reply.code == ACCESS_ACCEPT
        assert reply.raw[20] == MESSAGE_AUTHENTICATOR
        assert reply.integer(SESSION_TIMEOUT) == 7200
        assert reply.integer(IDLE_TIMEOUT) == 900
        assert 300 <= (reply.integer(ACCT_INTERIM_INTERVAL) or 0) <= 330
        assert octets_granted(reply) == 5_000_000_000
        assert len(reply.all(CLASS)) == 1 and len(reply.first[CLASS]) <= 64
        assert reply.text(USER_NAME) == serial
        assert rig.show(serial)["state"] == "active"

    run(tmp_path, story)


def test_without_any_quota_the_session_still_ends_within_a_day(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("free")
        reply = await rig.access(GW, code, code, PHONE_A)
        assert reply is not None
        assert reply.integer(SESSION_TIMEOUT) == 86_400
        assert reply.vendor(*MAX_TOTAL) is None

    run(tmp_path, story)


@pytest.mark.parametrize(
    "typed", ["4829 1730 5515", "482917305515", "rahasia", "A001-01", "' OR 1=1"]
)
def test_unknown_codes_and_wrong_passwords_get_one_text_half_a_second_later(
    tmp_path: Path, typed: str
) -> None:
    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("p")
        rig.node.aaa.reject_after_s = aaa.REJECT_AFTER_S
        took_s: list[float] = []
        while not took_s or (min(took_s) >= 1 and len(took_s) < 5):
            # One of them may have waited for the machine.
            began = asyncio.get_running_loop().time()
            wrong_password = await rig.access(GW, code, "salah", f"02-00-00-00-0F-0{len(took_s)}")
            took_s.append(asyncio.get_running_loop().time() - began)
        unknown = await rig.access(GW, typed, typed, PHONE_B)
        assert wrong_password is not None and unknown is not None
        assert wrong_password.code == unknown.code == ACCESS_REJECT
        assert wrong_password.text(REPLY_MESSAGE) == unknown.text(REPLY_MESSAGE)
        assert 0.45 <= min(took_s) < 1.0

    run(tmp_path, story)


def test_a_reject_carries_nothing_but_text_proxy_state_and_signature(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        plain = await rig.access(GW, "111111111111", "x", PHONE_A)
        assert plain is not None and plain.code == ACCESS_REJECT
        assert set(plain.first) == {MESSAGE_AUTHENTICATOR, REPLY_MESSAGE}
        proxied = attribute(PROXY_STATE, b"\x01") + attribute(PROXY_STATE, b"\x02")
        # Our check of replies refuses a Proxy-State; that it does shows that one came back.
        with pytest.raises(PacketError, match="Proxy-State"):
            await rig.access(GW, "111111111111", "x", PHONE_A, more=proxied)

    run(tmp_path, story)


def test_every_reply_message_is_plain_short_ascii() -> None:
    for text in [*aaa.REPLY_MESSAGES.values(), aaa._WRONG]:
        assert len(text) < 100
        assert all(c.isalnum() or c in " .,-" for c in text) and text.isascii()


def test_a_one_time_password_works_once_by_pap_and_by_chap(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p")
        ticket = rig.ticket(code, here())
        first = await rig.access(GW, serial, ticket.password, PHONE_A, acct_session_id="s1")
        again = await rig.access(GW, serial, ticket.password, PHONE_A, acct_session_id="s2")
        assert first is not None and first.code == ACCESS_ACCEPT
        assert again is not None and again.code == ACCESS_REJECT
        ticket = rig.ticket(code, here())
        challenge = os.urandom(16)
        response = hashlib.md5(b"\x07" + ticket.password.encode() + challenge).digest()
        by_chap = await rig.access(
            GW,
            serial,
            None,
            PHONE_A,
            acct_session_id="s3",
            more=attribute(CHAP_PASSWORD, b"\x07" + response)
            + attribute(CHAP_CHALLENGE, challenge),
        )
        assert by_chap is not None and by_chap.code == ACCESS_ACCEPT

    run(tmp_path, story)


def test_a_one_time_password_is_good_for_a_minute_one_gateway_and_the_signed_phone(
    tmp_path: Path,
) -> None:
    async def story(rig: NodeRig) -> None:
        await rig.gateway("pos-2", "10.20.0.2")
        [(serial, code)] = await rig.cards("p", devices="3")
        ticket = rig.ticket(code, here())
        elsewhere = await rig.access("10.20.0.2", serial, ticket.password, PHONE_A)
        other_phone = await rig.access(GW, serial, ticket.password, PHONE_B)
        assert elsewhere is not None and elsewhere.code == ACCESS_REJECT
        assert other_phone is not None and other_phone.code == ACCESS_REJECT
        rig.sleep(61)
        late = await rig.access(GW, serial, ticket.password, PHONE_A)
        assert late is not None and late.code == ACCESS_REJECT
        problem = rig.door.last_refusal(1, serial, None)
        assert problem is not None and problem.reason is Reason.CHALLENGE_STALE

    run(tmp_path, story)


def test_chap_with_a_code_is_refused_since_codes_are_stored_hashed(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("p")
        challenge = os.urandom(16)
        response = hashlib.md5(b"\x01" + code.encode() + challenge).digest()
        reply = await rig.access(
            GW,
            code,
            None,
            PHONE_A,
            more=attribute(CHAP_PASSWORD, b"\x01" + response)
            + attribute(CHAP_CHALLENGE, challenge),
        )
        assert reply is not None and reply.code == ACCESS_REJECT

    run(tmp_path, story)


def test_a_retransmission_with_a_new_identifier_gets_the_decision_already_made(
    tmp_path: Path,
) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", data_total="10MB")
        ticket = rig.ticket(code, here())
        first = await rig.access(GW, serial, ticket.password, PHONE_A, acct_session_id="s1")
        second = await rig.access(GW, serial, ticket.password, PHONE_A, acct_session_id="s1")
        assert first is not None and second is not None
        assert second.code == ACCESS_ACCEPT
        assert second.first[CLASS] == first.first[CLASS]
        assert rig.show(serial)["devices_in_use"] == 1
        wrong = await rig.access(GW, serial, "x", PHONE_A, acct_session_id="s1")
        assert wrong is not None and wrong.code == ACCESS_REJECT

    run(tmp_path, story)


def test_administrative_service_is_never_given_to_a_card(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("p")
        for service in (6, 7):
            reply = await rig.access(
                GW, code, code, PHONE_A, more=integer_attribute(SERVICE_TYPE, service)
            )
            assert reply is not None and reply.code == ACCESS_REJECT

    run(tmp_path, story)


def test_misses_at_the_radius_door_make_a_phone_wait_but_not_its_neighbour(tmp_path: Path) -> None:
    async def story(rig: NodeRig) -> None:
        [(serial, code)] = await rig.cards("p", devices="5")
        ticket = rig.ticket(code, Phone("02aabbccdd01", True, 1, "10.1.0.9"))
        for n in range(5):
            wrong = _well_formed(n)
            await rig.access(GW, wrong, wrong, PHONE_A)
        limited = await rig.access(GW, code, code, PHONE_A)
        neighbour = await rig.access(GW, code, code, PHONE_B)
        assert limited is not None and limited.code == ACCESS_REJECT
        assert neighbour is not None and neighbour.code == ACCESS_ACCEPT
        by_ticket = await rig.access(GW, serial, ticket.password, PHONE_A)
        assert by_ticket is not None and by_ticket.code == ACCESS_ACCEPT
        rig.sleep(61)
        after = await rig.access(GW, code, code, PHONE_A)
        assert after is not None and after.code == ACCESS_ACCEPT

    run(tmp_path, story)


def _well_formed(n: int) -> str:
    from portal.domain.voucher import make_code

    return make_code(10_000_000_000 + n * 7919)


def test_an_unsigned_password_that_is_noise_hints_at_a_wrong_secret_without_showing_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Conformance item 13: without Message-Authenticator nothing else gives a wrong secret away."""

    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("p")
        for secret in (SECRET, "another-secret"):
            authenticator = bytes(range(16))
            hidden = hide(b"111111111111", authenticator, secret.encode())
            body = attribute(USER_NAME, code.encode()) + attribute(USER_PASSWORD, hidden)
            datagram = sign_request(
                ACCESS_REQUEST, 7, body, SECRET.encode(), authenticator=authenticator
            )
            reply = await rig.send(datagram, GW, is_acct=False)
            assert reply is not None and reply.code == ACCESS_REJECT
            assert ("possible_wrong_secret gateway=pos-1" in caplog.text) == (secret != SECRET)
        assert SECRET not in caplog.text and code not in caplog.text

    run(tmp_path, story)


def test_a_state_that_was_never_sent_is_refused(tmp_path: Path) -> None:
    """Conformance item 19."""

    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("p")
        reply = await rig.access(GW, code, code, PHONE_A, more=attribute(STATE, b"old"))
        assert reply is not None and reply.code == ACCESS_REJECT
        assert rig.show(code)["state"] == "unused"

    run(tmp_path, story)


def test_a_gateway_that_does_not_name_itself_is_answered_and_noted_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Conformance item 16."""

    async def story(rig: NodeRig) -> None:
        [(_, code)] = await rig.cards("p")
        for named in (b"pos-1", b"", b""):
            more = attribute(NAS_IDENTIFIER, named) if named else b""
            reply = await rig.access(GW, code, code, PHONE_A, more=more)
            assert reply is not None and reply.code == ACCESS_ACCEPT
            assert caplog.text.count("nas_not_named") == (0 if named else 1)

    run(tmp_path, story)

"""The RADIUS checklist A7 (dynamic authorization, items 47 to 54), item by item, against gateways
that answer over real UDP; what the node makes of the answers is in tests/unit/aaa/test_dynauth.py.
"""

import asyncio
import hmac
import struct
from collections.abc import Awaitable, Callable
from hashlib import md5
from typing import Any

import pytest
from pyrad.dictionary import Dictionary
from pyrad.packet import CoAPacket

from radius.dynauth import ERROR_CAUSES, DynamicAuthorization, Outcome
from radius.nas import Limits, SessionKeys, coova, family, family_names
from radius.packet import (
    ACCT_SESSION_ID,
    COA_ACK,
    COA_NAK,
    COA_REQUEST,
    DISCONNECT_ACK,
    DISCONNECT_NAK,
    DISCONNECT_REQUEST,
    ERROR_CAUSE,
    EVENT_TIMESTAMP,
    MESSAGE_AUTHENTICATOR,
    PROXY_STATE,
    SESSION_TIMEOUT,
    USER_NAME,
    USER_PASSWORD,
    integer_attribute,
    parse,
    verify_accounting,
)
from tests.unit.radius.rig import Rig, gateway, raw_packet
from tests.unit.radius.test_dynauth import SECRET, Gateway, answers, nothing, reply

AT = 1_795_278_849
KEYS = SessionKeys(
    "A017-23", "179527884900000001", "10.10.0.2", "02aabbccdd01", "kamal", "10.1.0.1"
)
LIMITS = Limits(3_600, 300, 900, 5_000_000_000, 2_000, 512)
NAMING = frozenset((1, 4, 5, 8, 26, 30, 31, 32, 44, 87, 89, 95, 96, 97))
Ask = Callable[..., Awaitable[Outcome]]


def run(
    answer: Callable[[Gateway, bytes], None],
    use: Callable[[DynamicAuthorization, Gateway], Awaitable[None]],
    *,
    waits_s: tuple[float, ...] = (0.05, 0.05, 0.05),
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, found = await loop.create_datagram_endpoint(
            lambda: Gateway(answer), local_addr=("127.0.0.1", 0)
        )
        asker = DynamicAuthorization(waits_s=waits_s, now=lambda: AT)
        try:
            await use(asker, found)
        finally:
            asker.close()
            transport.close()

    asyncio.run(main())


def end(asker: DynamicAuthorization, found: Gateway, **options: Any) -> Awaitable[Outcome]:
    attributes = coova.disconnect_attributes(KEYS)
    return asker.disconnect(found.address, found.port, SECRET, attributes, **options)


def change(asker: DynamicAuthorization, found: Gateway, **options: Any) -> Awaitable[Outcome]:
    attributes = coova.coa_attributes(KEYS, LIMITS)
    return asker.change(found.address, found.port, SECRET, attributes, **options)


BOTH = pytest.mark.parametrize(
    ("ask", "code", "ack", "nak"),
    [
        (end, DISCONNECT_REQUEST, DISCONNECT_ACK, DISCONNECT_NAK),
        (change, COA_REQUEST, COA_ACK, COA_NAK),
    ],
    ids=["Disconnect", "CoA"],
)


# 47


@BOTH
def test_item_47_codes_authenticator_and_matching(ask: Ask, code: int, ack: int, nak: int) -> None:
    async def use(asker: DynamicAuthorization, found: Gateway) -> None:
        assert (await ask(asker, found)).kind == "ack"
        packet = parse(found.requests[0])
        assert packet.code == code
        assert verify_accounting(packet, SECRET)
        oracle = CoAPacket(secret=SECRET, dict=Dictionary(), packet=found.requests[0])
        assert oracle.VerifyCoARequest()

    run(answers(ack), use, waits_s=(5,))


@BOTH
def test_item_47_only_the_codes_that_answer_the_request_are_taken(
    ask: Ask, code: int, ack: int, nak: int
) -> None:
    wrong = {DISCONNECT_REQUEST: (COA_ACK, COA_NAK), COA_REQUEST: (DISCONNECT_ACK, DISCONNECT_NAK)}

    def send(found: Gateway, request: bytes) -> None:
        for other in wrong[code]:
            found.send(reply(request, other))
        found.send(reply(request, nak))

    async def use(asker: DynamicAuthorization, found: Gateway) -> None:
        assert (await ask(asker, found)).kind == "nak"
        assert asker.stats["wrong_code"] == 2

    run(send, use, waits_s=(5,))


def test_item_47_disconnect_and_coa_share_the_identifiers_of_a_gateway() -> None:
    held: list[bytes] = []

    def hold(found: Gateway, request: bytes) -> None:
        held.append(request)
        if len(held) == 2:
            # The answers in the other order.
            found.send(reply(held[1], COA_NAK if held[1][0] == COA_REQUEST else DISCONNECT_NAK))
            found.send(reply(held[0], COA_ACK if held[0][0] == COA_REQUEST else DISCONNECT_ACK))

    async def use(asker: DynamicAuthorization, found: Gateway) -> None:
        first = asyncio.ensure_future(end(asker, found))
        await found.arrived.wait()
        second = asyncio.ensure_future(change(asker, found))
        outcomes = await asyncio.gather(first, second)
        assert [outcome.kind for outcome in outcomes] == ["ack", "nak"]
        assert held[0][1] != held[1][1]

    run(hold, use, waits_s=(5,))


# 48


@pytest.mark.parametrize("name", family_names())
def test_item_48_every_family_names_a_session_and_nothing_else(name: str) -> None:
    one = family(name)
    kinds = [kind for kind, _ in one.disconnect_attributes(KEYS)]
    assert set(kinds) <= NAMING
    assert len(kinds) == len(set(kinds))
    if one.CAN_DISCONNECT and one.USES_RADIUS:
        assert {USER_NAME, ACCT_SESSION_ID} <= set(kinds)


def test_item_48_limits_in_a_disconnect_request_are_refused() -> None:
    async def use(asker: DynamicAuthorization, found: Gateway) -> None:
        attributes = [*coova.disconnect_attributes(KEYS), (SESSION_TIMEOUT, bytes(4))]
        with pytest.raises(ValueError, match="attribute 27 in a Disconnect-Request"):
            await asker.disconnect(found.address, found.port, SECRET, attributes)
        assert found.requests == []

    run(nothing, use)


# 49


@pytest.mark.parametrize("name", [name for name in family_names() if family(name).COA != "none"])
def test_item_49_a_coa_request_names_one_session_and_carries_full_limits(name: str) -> None:
    async def use(asker: DynamicAuthorization, found: Gateway) -> None:
        attributes = family(name).coa_attributes(KEYS, LIMITS)
        outcome = await asker.change(found.address, found.port, SECRET, attributes)
        assert outcome.kind == "ack"
        packet = parse(found.requests[0])
        assert packet.first[USER_NAME] == b"A017-23"
        assert packet.first[ACCT_SESSION_ID] == b"179527884900000001"
        assert packet.integer(SESSION_TIMEOUT) == 3_600

    run(answers(COA_ACK), use, waits_s=(5,))


@pytest.mark.parametrize("missing", [USER_NAME, ACCT_SESSION_ID])
def test_item_49_a_coa_request_that_would_fit_several_sessions_is_refused(missing: int) -> None:
    async def use(asker: DynamicAuthorization, found: Gateway) -> None:
        full = coova.coa_attributes(KEYS, LIMITS)
        attributes = [(kind, value) for kind, value in full if kind != missing]
        with pytest.raises(ValueError, match="expected both"):
            await asker.change(found.address, found.port, SECRET, attributes)
        assert found.requests == []

    run(nothing, use)


@pytest.mark.parametrize("kind", [USER_PASSWORD, MESSAGE_AUTHENTICATOR, PROXY_STATE, ERROR_CAUSE])
def test_item_49_a_coa_request_carries_no_secret_and_no_second_signature(kind: int) -> None:
    async def use(asker: DynamicAuthorization, found: Gateway) -> None:
        attributes = [*coova.coa_attributes(KEYS, LIMITS), (kind, bytes(16))]
        with pytest.raises(ValueError, match=f"attribute {kind} in a CoA-Request"):
            await asker.change(found.address, found.port, SECRET, attributes)

    run(nothing, use)


# 50


@BOTH
def test_item_50_event_timestamp_goes_along_and_stays_the_same(
    ask: Ask, code: int, ack: int, nak: int
) -> None:
    async def use(asker: DynamicAuthorization, found: Gateway) -> None:
        assert await ask(asker, found, event_timestamp=AT) == Outcome("timeout")
        assert len(found.requests) == 3 and len(set(found.requests)) == 1
        assert parse(found.requests[0]).integer(EVENT_TIMESTAMP) == AT

    run(nothing, use)


@pytest.mark.parametrize("name", family_names())
def test_item_50_and_51_no_stamp_and_no_signature_for_uspot(name: str) -> None:
    one = family(name)
    if name == "uspot":
        assert not one.STAMPS_DISCONNECT and not one.SIGNS_DISCONNECT
    if name == "mikrotik":
        assert one.SIGNS_DISCONNECT


@pytest.mark.parametrize(
    ("stamp", "kind", "ignored"),
    [
        (AT, "ack", 0),
        (AT - 300, "ack", 0),
        (AT + 300, "ack", 0),
        (AT - 301, "timeout", 1),
        (AT + 301, "timeout", 1),
        (100_000, "ack", 0),  # a router without a clock, in 1970
    ],
)
def test_item_50_an_answers_event_timestamp_is_checked(stamp: int, kind: str, ignored: int) -> None:
    async def use(asker: DynamicAuthorization, found: Gateway) -> None:
        assert (await end(asker, found)).kind == kind
        assert asker.stats["stale"] == ignored

    stamped = answers(DISCONNECT_ACK, integer_attribute(EVENT_TIMESTAMP, stamp))
    run(stamped, use, waits_s=(0.2,))


def test_item_50_the_same_request_goes_under_another_identifier() -> None:
    async def use(asker: DynamicAuthorization, found: Gateway) -> None:
        for _ in range(255):
            assert (await end(asker, found)).kind == "ack"
        other = [*coova.disconnect_attributes(KEYS)[:1], (ACCT_SESSION_ID, b"another")]
        outcome = await asker.disconnect(found.address, found.port, SECRET, other)
        assert outcome.kind == "ack"
        # Identifier 256 went to another session: for this one it is the only one not used up.
        assert (await end(asker, found)).kind == "ack"
        assert found.requests[-1][1] == found.requests[-2][1]

    run(answers(DISCONNECT_ACK), use, waits_s=(5,))


def test_item_50_a_replayed_answer_is_no_answer() -> None:
    """An ACK heard before, sent again by somebody on the way when the same is asked once more."""
    heard: list[bytes] = []

    def replay(found: Gateway, request: bytes) -> None:
        if not heard:
            heard.append(reply(request, DISCONNECT_ACK))
            found.send(heard[0])
            return
        found.send(heard[0])
        found.send(heard[0][:1] + request[1:2] + heard[0][2:])
        found.send(reply(request, DISCONNECT_NAK))

    async def use(asker: DynamicAuthorization, found: Gateway) -> None:
        assert (await end(asker, found)).kind == "ack"
        assert (await end(asker, found)).kind == "nak"
        assert asker.stats["unexpected"] == 1 and asker.stats["not_authentic"] == 1

    run(replay, use, waits_s=(5,))


# 51


def signed(request: bytes, code: int, key: bytes) -> bytes:
    """An answer with a fitting Response Authenticator and a Message-Authenticator made with key."""
    header = struct.pack("!BBH", code, request[1], 38)
    mark = hmac.digest(key, header + request[4:20] + b"\x50\x12" + bytes(16), "md5")
    attribute = b"\x50\x12" + mark
    return header + md5(header + request[4:20] + attribute + SECRET).digest() + attribute


@BOTH
@pytest.mark.parametrize(("key", "kind"), [(SECRET, "ack"), (b"another", "timeout")])
def test_item_51_a_message_authenticator_in_an_answer_must_fit(
    ask: Ask, code: int, ack: int, nak: int, key: bytes, kind: str
) -> None:
    async def use(asker: DynamicAuthorization, found: Gateway) -> None:
        assert (await ask(asker, found)).kind == kind

    run(lambda found, request: found.send(signed(request, ack, key)), use)


@BOTH
def test_item_51_ours_is_made_over_zeros(ask: Ask, code: int, ack: int, nak: int) -> None:
    async def use(asker: DynamicAuthorization, found: Gateway) -> None:
        assert (await ask(asker, found, message_authenticator=True)).kind == "ack"
        oracle = CoAPacket(secret=SECRET, dict=Dictionary(), packet=found.requests[0])
        assert oracle.verify_message_authenticator()

    run(answers(ack), use, waits_s=(5,))


# 52


@BOTH
@pytest.mark.parametrize("cause", [*ERROR_CAUSES, 0, 999, 4_294_967_295, None])
def test_item_52_every_error_cause_is_understood(
    ask: Ask, code: int, ack: int, nak: int, cause: int | None
) -> None:
    async def use(asker: DynamicAuthorization, found: Gateway) -> None:
        outcome = await ask(asker, found)
        assert (outcome.kind, outcome.error_cause) == ("nak", cause)
        assert outcome.is_session_unknown is (cause == 503)
        words = outcome.describe()
        if cause is None:
            assert words == "nak"
        else:
            meaning = ERROR_CAUSES.get(cause, "unknown Error-Cause")
            assert words == f"nak: {meaning} ({cause})"

    body = b"" if cause is None else integer_attribute(ERROR_CAUSE, cause)
    run(answers(nak, body), use, waits_s=(5,))


@pytest.mark.parametrize("value", [b"", b"\1", b"\0\0\1\xf7\0"])
def test_item_52_an_error_cause_of_the_wrong_size_is_none(value: bytes) -> None:
    def send(found: Gateway, request: bytes) -> None:
        body = bytes((ERROR_CAUSE, len(value) + 2)) + value
        header = struct.pack("!BBH", DISCONNECT_NAK, request[1], 20 + len(body))
        found.send(header + md5(header + request[4:20] + body + SECRET).digest() + body)

    async def use(asker: DynamicAuthorization, found: Gateway) -> None:
        outcome = await end(asker, found)
        assert (outcome.kind, outcome.error_cause) == ("nak", None)

    run(send, use, waits_s=(5,))


# 53


@BOTH
def test_item_53_three_identical_tries_within_ten_seconds(
    ask: Ask, code: int, ack: int, nak: int
) -> None:
    assert DynamicAuthorization()._waits_s == (2, 3, 5)

    def third(found: Gateway, request: bytes) -> None:
        if len(found.requests) == 3:
            found.send(reply(request, ack))

    async def use(asker: DynamicAuthorization, found: Gateway) -> None:
        outcome = await ask(asker, found)
        assert outcome.kind == "ack"
        assert len(found.requests) == 3 and len(set(found.requests)) == 1

    run(third, use, waits_s=(0.05, 0.05, 5))


@BOTH
def test_item_53_lost_answers_are_a_timeout_and_no_proof(
    ask: Ask, code: int, ack: int, nak: int
) -> None:
    async def use(asker: DynamicAuthorization, found: Gateway) -> None:
        outcome = await ask(asker, found)
        assert outcome == Outcome("timeout")
        assert not outcome.is_session_unknown

    run(nothing, use)


# 54


@BOTH
def test_item_54_the_source_address_is_the_servers(ask: Ask, code: int, ack: int, nak: int) -> None:
    async def use(asker: DynamicAuthorization, found: Gateway) -> None:
        assert (await ask(asker, found, local_address="127.0.0.9")).kind == "ack"
        assert found.sources[0][0] == "127.0.0.9"

    run(answers(ack), use, waits_s=(5,))


@BOTH
def test_item_54_an_answer_from_another_port_or_address_is_ignored(
    ask: Ask, code: int, ack: int, nak: int
) -> None:
    async def use(asker: DynamicAuthorization, found: Gateway) -> None:
        loop = asyncio.get_running_loop()
        places = (("127.0.0.1", 0), ("127.0.0.2", found.port))
        others = [
            (await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=place))[0]
            for place in places
        ]
        asking = asyncio.ensure_future(ask(asker, found))
        await found.arrived.wait()
        for transport in others:
            transport.sendto(reply(found.requests[0], ack), found.sources[0])
        assert await asking == Outcome("timeout")
        assert asker.stats["wrong_source"] == 2
        for transport in others:
            transport.close()

    run(nothing, use, waits_s=(0.2,))


@BOTH
def test_item_54_through_the_socket_that_hears_accounting(
    ask: Ask, code: int, ack: int, nak: int
) -> None:
    """Sent by a way of its own; the answer comes to `hear`, from the asked port or not at all."""
    sent: list[bytes] = []

    async def use(asker: DynamicAuthorization, found: Gateway) -> None:
        is_sent = asyncio.Event()

        def send(datagram: bytes) -> None:
            sent.append(datagram)
            is_sent.set()

        asking = asyncio.ensure_future(ask(asker, found, through=send))
        await is_sent.wait()
        asker.hear(reply(sent[0], ack), (found.address, found.port + 1))
        asker.hear(reply(sent[0], nak, secret=b"another"), (found.address, found.port))
        asker.hear(reply(sent[0], ack), (found.address, found.port))
        assert (await asking).kind == "ack"
        assert found.requests == [], "nothing left by a socket of its own"
        assert asker.stats["wrong_source"] == 1 and asker.stats["not_authentic"] == 1

    run(nothing, use, waits_s=(5,))


@BOTH
def test_item_54_a_way_that_fails_is_tried_again(ask: Ask, code: int, ack: int, nak: int) -> None:
    tries: list[bytes] = []

    def fails(datagram: bytes) -> None:
        tries.append(datagram)
        raise OSError("no route")

    async def use(asker: DynamicAuthorization, found: Gateway) -> None:
        assert await ask(asker, found, through=fails) == Outcome("timeout")
        assert len(tries) == 3 and asker.stats["send_error"] == 3

    run(nothing, use)


@pytest.mark.parametrize("code", [DISCONNECT_REQUEST, COA_REQUEST])
@pytest.mark.parametrize("is_acct", [True, False])
def test_item_54_requests_to_us_are_not_served(code: int, is_acct: bool) -> None:
    """We are no NAS, and nothing listens on 3799."""
    with Rig(gateway()) as rig:
        authenticator = md5(struct.pack("!BBH", code, 7, 20) + bytes(16) + SECRET).digest()
        assert rig.ask(raw_packet(code, 7, authenticator, b""), is_acct=is_acct) == []
        assert rig.stats["wrong_code"] == 1

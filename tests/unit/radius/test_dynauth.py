import asyncio
import hashlib
import hmac
import logging
import struct
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

import pytest
from pyrad.dictionary import Dictionary
from pyrad.packet import CoAPacket

from radius.dynauth import DynamicAuthorization, Outcome
from radius.nas import SessionKeys, coova, mikrotik
from radius.packet import ERROR_CAUSE, integer_attribute, parse, verify_accounting

SECRET = b"rahasia-desa-kamal-2026"
KEYS = SessionKeys("A017-23", "179527884900000001", "10.10.0.2", "02aabbccdd01", None, None)
ATTRIBUTES = coova.disconnect_attributes(KEYS)
ACK, NAK = 41, 42

Answer = Callable[["Gateway", bytes], None]


class Gateway(asyncio.DatagramProtocol):
    """A socket that keeps what it gets and answers as told; pyrad makes the answers."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.requests: list[bytes] = []
        self.sources: list[tuple[str, int]] = []
        self.arrived = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)
        self.address, self.port = transport.get_extra_info("sockname")[:2]

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self.requests.append(data)
        self.sources.append(addr)
        self.arrived.set()
        self._answer(self, data)

    def send(self, datagram: bytes) -> None:
        self.transport.sendto(datagram, self.sources[-1])


def reply(request: bytes, code: int, attributes: bytes = b"", secret: bytes = SECRET) -> bytes:
    """The reply pyrad makes."""
    packet = CoAPacket(secret=secret, dict=Dictionary(), packet=request)
    answer = packet.CreateReply()
    answer.code = code
    position = 0
    while position < len(attributes):
        kind, length = attributes[position], attributes[position + 1]
        answer[kind] = [attributes[position + 2 : position + length]]
        position += length
    made = answer.ReplyPacket()
    assert isinstance(made, bytes)
    return made


def answers(code: int, attributes: bytes = b"", secret: bytes = SECRET) -> Answer:
    return lambda gateway, request: gateway.send(reply(request, code, attributes, secret))


def nothing(gateway: Gateway, request: bytes) -> None:
    pass


def run(
    answer: Answer,
    use: Callable[[DynamicAuthorization, Gateway], Awaitable[None]],
    *,
    waits_s: tuple[float, ...] = (0.05, 0.05, 0.05),
    address: str = "127.0.0.1",
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, gateway = await loop.create_datagram_endpoint(
            lambda: Gateway(answer), local_addr=(address, 0)
        )
        asker = DynamicAuthorization(waits_s=waits_s)
        try:
            await use(asker, gateway)
        finally:
            asker.close()
            transport.close()

    asyncio.run(main())


def ask(
    asker: DynamicAuthorization, gateway: Gateway, **options: Any
) -> Coroutine[Any, Any, Outcome]:
    return asker.disconnect(gateway.address, gateway.port, SECRET, ATTRIBUTES, **options)


def test_an_ack_is_matched() -> None:
    async def use(asker: DynamicAuthorization, gateway: Gateway) -> None:
        outcome = await ask(asker, gateway)
        assert (outcome.kind, outcome.error_cause) == ("ack", None)
        assert outcome.round_trip_s is not None and 0 <= outcome.round_trip_s < 5
        assert outcome.describe() == "ack"
        assert len(gateway.requests) == 1

    run(answers(ACK), use, waits_s=(5,))


def test_the_request_is_what_rfc_5176_asks_for() -> None:
    async def use(asker: DynamicAuthorization, gateway: Gateway) -> None:
        await ask(asker, gateway)
        raw = gateway.requests[0]
        packet = parse(raw)
        assert packet.code == 40
        assert packet.first == {1: b"A017-23", 44: b"179527884900000001"}
        assert verify_accounting(packet, SECRET)
        assert CoAPacket(secret=SECRET, dict=Dictionary(), packet=raw).VerifyCoARequest()

    run(answers(ACK), use, waits_s=(5,))


def test_message_authenticator_and_event_timestamp_go_along_when_asked_for() -> None:
    async def use(asker: DynamicAuthorization, gateway: Gateway) -> None:
        attributes = mikrotik.disconnect_attributes(KEYS)
        outcome = await asker.disconnect(
            gateway.address,
            gateway.port,
            SECRET,
            attributes,
            message_authenticator=mikrotik.SIGNS_DISCONNECT,
            event_timestamp=1795278849,
        )
        assert outcome.kind == "ack"
        raw = gateway.requests[0]
        packet = parse(raw)
        assert list(packet.first) == [80, 1, 8, 44, 55]
        assert packet.first[8] == bytes((10, 10, 0, 2))
        assert packet.integer(55) == 1795278849
        oracle = CoAPacket(secret=SECRET, dict=Dictionary(), packet=raw)
        assert oracle.VerifyCoARequest()
        assert oracle.verify_message_authenticator()

    run(answers(ACK), use, waits_s=(5,))


def test_a_nak_brings_its_error_cause() -> None:
    async def use(asker: DynamicAuthorization, gateway: Gateway) -> None:
        outcome = await ask(asker, gateway)
        assert (outcome.kind, outcome.error_cause) == ("nak", 503)
        assert outcome.is_session_unknown
        assert outcome.describe() == "nak: session context not found (503)"

    run(answers(NAK, integer_attribute(ERROR_CAUSE, 503)), use, waits_s=(5,))


def test_a_nak_without_error_cause_is_a_nak() -> None:
    async def use(asker: DynamicAuthorization, gateway: Gateway) -> None:
        outcome = await ask(asker, gateway)
        assert (outcome.kind, outcome.error_cause) == ("nak", None)
        assert not outcome.is_session_unknown

    run(answers(NAK), use, waits_s=(5,))


def test_an_unknown_error_cause_is_shown_as_a_number() -> None:
    assert Outcome("nak", 999).describe() == "nak: unknown Error-Cause (999)"
    assert not Outcome("ack", 503).is_session_unknown


def test_silence_is_a_timeout_after_three_identical_requests() -> None:
    async def use(asker: DynamicAuthorization, gateway: Gateway) -> None:
        outcome = await ask(asker, gateway)
        assert outcome == Outcome("timeout")
        assert len(gateway.requests) == 3
        assert len(set(gateway.requests)) == 1
        assert asker.stats["sent"] == 3
        assert asker.stats["timeout"] == 1

    run(nothing, use)


def test_the_waits_are_two_three_and_five_seconds() -> None:
    assert DynamicAuthorization()._waits_s == (2, 3, 5)


def test_the_second_try_is_enough() -> None:
    def second(gateway: Gateway, request: bytes) -> None:
        if len(gateway.requests) == 2:
            gateway.send(reply(request, ACK))

    async def use(asker: DynamicAuthorization, gateway: Gateway) -> None:
        outcome = await ask(asker, gateway)
        assert outcome.kind == "ack"
        assert outcome.round_trip_s is not None and outcome.round_trip_s >= 0.05
        assert len(gateway.requests) == 2

    run(second, use, waits_s=(0.05, 5, 5))


def test_a_wrong_authenticator_is_ignored_and_the_right_one_still_taken(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def both(gateway: Gateway, request: bytes) -> None:
        gateway.send(reply(request, ACK, secret=b"another-secret"))
        gateway.send(reply(request, NAK))

    async def use(asker: DynamicAuthorization, gateway: Gateway) -> None:
        outcome = await ask(asker, gateway)
        assert outcome.kind == "nak"
        assert asker.stats["not_authentic"] == 1

    with caplog.at_level(logging.WARNING):
        run(both, use, waits_s=(5,))
    assert "does not fit" in caplog.text
    assert "rahasia" not in caplog.text and "A017-23" not in caplog.text


def test_only_wrong_authenticators_are_a_timeout() -> None:
    async def use(asker: DynamicAuthorization, gateway: Gateway) -> None:
        assert await ask(asker, gateway) == Outcome("timeout")
        assert asker.stats["not_authentic"] == 3

    run(answers(ACK, secret=b"another-secret"), use)


def with_message_authenticator(request: bytes, key: bytes) -> bytes:
    """An ACK with a fitting Response Authenticator over a Message-Authenticator made with `key`."""
    header = struct.pack("!BBH", ACK, request[1], 38)
    empty = header + request[4:20] + b"\x50\x12" + bytes(16)
    attribute = b"\x50\x12" + hmac.digest(key, empty, "md5")
    authenticator = hashlib.md5(header + request[4:20] + attribute + SECRET).digest()
    return header + authenticator + attribute


@pytest.mark.parametrize(("key", "kind"), [(SECRET, "ack"), (b"another-secret", "timeout")])
def test_a_message_authenticator_in_the_answer_must_fit(key: bytes, kind: str) -> None:
    def send(gateway: Gateway, request: bytes) -> None:
        gateway.send(with_message_authenticator(request, key))

    async def use(asker: DynamicAuthorization, gateway: Gateway) -> None:
        assert (await ask(asker, gateway)).kind == kind

    run(send, use)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda datagram: b"",
        lambda datagram: datagram[:1],
        lambda datagram: datagram[:19],
        lambda datagram: bytes((2,)) + datagram[1:],
        lambda datagram: bytes((datagram[0], datagram[1] ^ 1)) + datagram[2:],
        lambda datagram: datagram[:2] + b"\xff\xff" + datagram[4:],
    ],
    ids=["empty", "one octet", "cut", "Access-Accept", "another identifier", "wrong length"],
)
def test_a_spoilt_answer_is_ignored(spoil: Callable[[bytes], bytes]) -> None:
    def send(gateway: Gateway, request: bytes) -> None:
        gateway.send(spoil(reply(request, ACK)))

    async def use(asker: DynamicAuthorization, gateway: Gateway) -> None:
        assert await ask(asker, gateway) == Outcome("timeout")

    run(send, use)


def test_an_answer_from_another_port_or_address_is_ignored() -> None:
    async def use(asker: DynamicAuthorization, gateway: Gateway) -> None:
        loop = asyncio.get_running_loop()
        others = []
        for place in (("127.0.0.1", 0), ("127.0.0.2", gateway.port)):
            transport, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=place
            )
            others.append(transport)
        asking = asyncio.create_task(ask(asker, gateway))
        await gateway.arrived.wait()
        for transport in others:
            transport.sendto(reply(gateway.requests[0], ACK), gateway.sources[0])
        assert await asking == Outcome("timeout")
        assert asker.stats["wrong_source"] == 2
        for transport in others:
            transport.close()

    run(nothing, use, waits_s=(0.2,))


def test_identifiers_under_way_are_different_and_are_used_again_after_the_answer() -> None:
    async def use(asker: DynamicAuthorization, gateway: Gateway) -> None:
        seen: list[int] = []
        for _ in range(300):
            assert (await ask(asker, gateway)).kind == "ack"
            seen.append(gateway.requests[-1][1])
        assert len(set(seen[:256])) == 256
        assert seen[256:300] == seen[:44]

    run(answers(ACK), use, waits_s=(5,))


def test_an_identifier_without_an_answer_yet_is_passed_over() -> None:
    held: list[bytes] = []

    def hold_the_first(gateway: Gateway, request: bytes) -> None:
        if gateway.requests[0] == request:
            held.append(request)
        else:
            gateway.send(reply(request, ACK))

    async def use(asker: DynamicAuthorization, gateway: Gateway) -> None:
        waiting = asyncio.create_task(ask(asker, gateway))
        await gateway.arrived.wait()
        for _ in range(260):
            assert (await ask(asker, gateway)).kind == "ack"
        identifiers = [request[1] for request in gateway.requests]
        assert identifiers.count(held[0][1]) == 1
        gateway.send(reply(held[0], NAK))
        assert (await waiting).kind == "nak"

    run(hold_the_first, use, waits_s=(5,))


def test_many_requests_at_once_are_all_answered() -> None:
    async def use(asker: DynamicAuthorization, gateway: Gateway) -> None:
        outcomes = await asyncio.gather(*(ask(asker, gateway) for _ in range(500)))
        assert [outcome.kind for outcome in outcomes] == ["ack"] * 500

    run(answers(ACK), use, waits_s=(2, 3, 5))


def test_a_late_answer_meets_no_later_request() -> None:
    async def use(asker: DynamicAuthorization, gateway: Gateway) -> None:
        assert await ask(asker, gateway) == Outcome("timeout")
        late = reply(gateway.requests[0], ACK)
        asking = asyncio.create_task(ask(asker, gateway))
        gateway.arrived.clear()
        await gateway.arrived.wait()
        gateway.send(late)
        assert await asking == Outcome("timeout")
        assert asker.stats["unexpected"] == 1

    run(nothing, use, waits_s=(0.1,))


def test_the_sending_address_can_be_set() -> None:
    async def use(asker: DynamicAuthorization, gateway: Gateway) -> None:
        assert (await ask(asker, gateway, local_address="127.0.0.3")).kind == "ack"
        assert (await ask(asker, gateway, local_address="127.0.0.4")).kind == "ack"
        assert (await ask(asker, gateway, local_address="127.0.0.3")).kind == "ack"
        hosts = [source[0] for source in gateway.sources]
        assert hosts == ["127.0.0.3", "127.0.0.4", "127.0.0.3"]
        assert gateway.sources[0] == gateway.sources[2]

    run(answers(ACK), use, waits_s=(5,))


def test_a_sending_address_that_is_gone_falls_back_to_the_systems_choice(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def use(asker: DynamicAuthorization, gateway: Gateway) -> None:
        assert (await ask(asker, gateway, local_address="192.0.2.77")).kind == "ack"
        assert (await ask(asker, gateway, local_address="::1")).kind == "ack"

    with caplog.at_level(logging.WARNING):
        run(answers(ACK), use, waits_s=(5,))
    assert "cannot send Disconnect-Requests from 192.0.2.77" in caplog.text


def test_ipv6() -> None:
    async def use(asker: DynamicAuthorization, gateway: Gateway) -> None:
        assert (await ask(asker, gateway)).kind == "ack"
        assert (await ask(asker, gateway, local_address="::1")).kind == "ack"

    run(answers(ACK), use, waits_s=(5,), address="::1")


def test_an_ipv4_mapped_address_is_ipv4() -> None:
    async def use(asker: DynamicAuthorization, gateway: Gateway) -> None:
        outcome = await asker.disconnect("::ffff:127.0.0.1", gateway.port, SECRET, ATTRIBUTES)
        assert outcome.kind == "ack"

    run(answers(ACK), use, waits_s=(5,))


def test_what_names_no_session_is_refused() -> None:
    async def use(asker: DynamicAuthorization, gateway: Gateway) -> None:
        with pytest.raises(ValueError, match="attribute 27 in a Disconnect-Request"):
            await asker.disconnect(gateway.address, gateway.port, SECRET, [(27, bytes(4))])
        with pytest.raises(ValueError, match="'gw.desa', expected an IP address"):
            await asker.disconnect("gw.desa", 3799, SECRET, ATTRIBUTES)
        assert gateway.requests == []

    run(nothing, use)


def test_closing_ends_what_is_under_way() -> None:
    async def use(asker: DynamicAuthorization, gateway: Gateway) -> None:
        asking = asyncio.create_task(ask(asker, gateway))
        await gateway.arrived.wait()
        asker.close()
        assert await asking == Outcome("timeout")
        assert await ask(asker, gateway) == Outcome("timeout")
        assert len(gateway.requests) == 1

    run(nothing, use, waits_s=(60,))


def test_a_cancelled_request_frees_its_identifier() -> None:
    async def use(asker: DynamicAuthorization, gateway: Gateway) -> None:
        asking = asyncio.create_task(ask(asker, gateway))
        await gateway.arrived.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        endpoint = next(iter(asker._endpoints.values()))
        assert endpoint.peer(gateway.address, gateway.port).pending == {}

    run(nothing, use, waits_s=(60,))

"""Ten thousand broken packets: no exception, no leak, no answer to a signature that is off."""

import logging
import os
import random
import tracemalloc
from collections.abc import Iterator

from radius.clients import Clients
from radius.packet import (
    ACCOUNTING_RESPONSE,
    EAP_MESSAGE,
    PROXY_STATE,
    attribute,
    integer_attribute,
    sign_request,
    vendor_attribute,
)
from radius.server import Exchange, Server
from tests.unit.radius.rig import (
    SECRET,
    Desk,
    Outbox,
    Rig,
    access_request,
    accounting_request,
    gateway,
    nas_identifier,
    status_server,
)

SEED = 20261121
BODY = (
    vendor_attribute(14559, 8, b"1.9")
    + integer_attribute(6, 1)
    + attribute(44, b"179528091300000001")
    + attribute(31, b"02-AA-BB-CC-DD-01")
    + nas_identifier("bench-nas")
    + attribute(PROXY_STATE, b"\x01\x02")
    + vendor_attribute(14122, 2, b"Bench_Lobby")
)
ORIGINALS = (
    access_request(1, BODY),
    access_request(2, BODY, password=b"p" * 40),
    access_request(3, attribute(EAP_MESSAGE, b"\x02\x05\x00\x06\x01x"), password=None),
    sign_request(1, 4, BODY, SECRET, authenticator=os.urandom(16), message_authenticator=True),
    status_server(5),
    accounting_request(6, integer_attribute(40, 1) + BODY),
    sign_request(4, 7, integer_attribute(40, 2) + BODY, SECRET, message_authenticator=True),
)


def mutations(dice: random.Random, originals: tuple[bytes, ...], count: int) -> Iterator[bytes]:
    """Originals with one to four blows each; now and then one that is whole."""
    for _ in range(count):
        packet = bytearray(dice.choice(originals))
        for _ in range(dice.choice((0, 1, 1, 1, 2, 4))):
            if not packet:
                break
            at = dice.randrange(len(packet))
            match dice.randrange(9):
                case 0:
                    packet[at] ^= 1 << dice.randrange(8)
                case 1:
                    packet[at] = dice.randrange(256)
                case 2:
                    del packet[at:]
                case 3:
                    packet += dice.randbytes(dice.randrange(1, 40))
                case 4:
                    packet[2:4] = dice.choice(
                        (0, 19, 20, 21, len(packet), 4096, 4097, 65535)
                    ).to_bytes(2, "big")
                case 5:
                    packet[at:at] = packet[at : at + dice.randrange(1, 30)]
                case 6:
                    del packet[at : at + dice.randrange(1, 30)]
                case 7:
                    other = dice.choice(originals)
                    packet[at:] = other[at:]
                case 8:
                    packet[20:] = dice.randbytes(len(packet[20:]))
        yield bytes(packet)


def whole(datagram: bytes) -> bytes:
    """What counts of a datagram: Length octets."""
    return datagram[: int.from_bytes(datagram[2:4], "big")]


class Forgetful(Desk):
    """Decodes what a handler would, answers at once, keeps nothing."""

    def access(self, exchange: Exchange) -> None:
        self.read(exchange)
        exchange.answer(2, BODY)

    def accounting(self, exchange: Exchange) -> None:
        self.read(exchange)
        exchange.answer(ACCOUNTING_RESPONSE)

    def read(self, exchange: Exchange) -> None:
        packet = exchange.packet
        for kind in packet.first:
            packet.text(kind)
            packet.integer(kind)
            packet.address(kind)
            packet.ipv6_address(kind)
            packet.ipv6_prefix(kind)
            packet.interface_id(kind)
            packet.all(kind)
        packet.vendor(14559, 8)


def feed(server: Server, datagrams: Iterator[bytes]) -> int:
    """Hand every datagram to both ports; the number of answers, each to an original only."""
    outboxes = (Outbox(0), Outbox(1, is_acct=True))
    answers = 0
    for number, datagram in enumerate(datagrams):
        for outbox in outboxes:
            server.receive(outbox, datagram, ("127.0.0.1", 1024 + number % 64), None)
            if outbox.sent:
                assert whole(datagram) in ORIGINALS
                answers += len(outbox.sent)
                outbox.sent.clear()
    return answers


def test_ten_thousand_mutations_raise_nothing_leak_nothing_and_are_not_answered() -> None:
    server = Server(Clients([gateway(policy="yes")]), Forgetful())
    dice = random.Random(SEED)
    feed(server, mutations(dice, ORIGINALS, 1500))
    tracemalloc.start()
    try:
        before, _peak = tracemalloc.get_traced_memory()
        answers = feed(server, mutations(dice, ORIGINALS, 10_000))
        after, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    stats = server.stats
    assert stats["handler_failed"] == 0
    assert stats["malformed"] > 1000
    assert stats["wrong_message_authenticator"] > 1000
    assert stats["wrong_authenticator"] > 500
    # one in six is whole, and some blows only add padding: the server did answer those
    assert answers > 1000
    assert after - before < 200_000


def test_unsigned_mutations_where_the_policy_allows_them_raise_nothing() -> None:
    logging.disable(logging.WARNING)
    try:
        server = Server(Clients([gateway(policy="no")]), Forgetful())
        unsigned = tuple(access_request(n, BODY, is_signed=False) for n in range(3))
        outbox = Outbox()
        for number, datagram in enumerate(mutations(random.Random(SEED), unsigned, 3000)):
            server.receive(outbox, datagram, ("127.0.0.1", 1024 + number % 64), None)
        assert server.stats["handler_failed"] == 0
        assert server.stats["malformed"] > 500
        assert len(outbox.sent) > 500
    finally:
        logging.disable(logging.NOTSET)


def test_mutations_over_udp_are_answered_only_when_whole() -> None:
    with Rig(gateway(policy="yes"), auth="0.0.0.0:0", acct="0.0.0.0:0") as rig:
        dice = random.Random(SEED)
        sent = list(mutations(dice, ORIGINALS, 1200))
        for is_acct, codes in ((False, b"\x01\x0c"), (True, b"\x04\x0c")):
            answers = 0
            for at in range(0, len(sent), 60):
                # a new second for the limit on Status-Server
                rig.now_s += 1
                answers += len(rig.ask(*sent[at : at + 60], is_acct=is_acct))
            fit = [datagram for datagram in sent if whole(datagram) in ORIGINALS]
            assert answers == sum(datagram[0] in codes for datagram in fit) > 100
        assert rig.stats["handler_failed"] == 0
        # still in service
        assert len(rig.ask(access_request(99))) == 1

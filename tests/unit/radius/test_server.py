"""The server beyond the checklist: sockets, gateways, life and death, memory, log lines."""

import asyncio
import errno
import logging
import os
import socket
from ipaddress import ip_network

import pytest

from radius.clients import Clients, plain_address
from radius.listener import Control, Peer, open_listeners, parse_listen, reply_control
from radius.packet import (
    ACCESS_ACCEPT,
    ACCOUNTING_RESPONSE,
    CLASS,
    DISCONNECT_ACK,
    SESSION_TIMEOUT,
    attribute,
    integer_attribute,
)
from radius.server import MAX_SOURCES, Client, Exchange, Server
from tests.ports import free_port
from tests.unit.radius.rig import (
    SECRET,
    Desk,
    Outbox,
    Rig,
    access_request,
    accounting_request,
    gateway,
    nas_identifier,
    raw_packet,
    reply_fits,
    status_server,
)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


# Addresses and sockets


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.0.0.0:1812", ("0.0.0.0", 1812)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::]:1812", ("::", 1812)),
        ("[2001:db8:0::1]:65535", ("2001:db8::1", 65535)),
    ],
)
def test_listen_addresses_are_read(text: str, expected: tuple[str, int]) -> None:
    assert parse_listen(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "1812", ":1812", "0.0.0.0", "0.0.0.0:", "0.0.0.0:70000", "0.0.0.0:-1", "::1:1812"]
    + ["localhost:1812", "[0.0.0.0]:1812", "0.0.0.0:1812 ", "0.0.0.0:१२"],
)
def test_other_listen_texts_are_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(OSError, match="expected an address and a port like") as caught:
        parse_listen(text)
    assert repr(text) in str(caught.value)


def test_a_port_in_use_is_one_plain_sentence_with_address_port_and_advice() -> None:
    with Rig() as rig:
        port = rig.port(is_acct=False)
        with pytest.raises(OSError) as caught, Rig(auth=f"127.0.0.1:{port}"):
            pass
        assert str(caught.value) == (
            f"cannot listen on UDP 127.0.0.1:{port}: the port is already in use, "
            "stop the other RADIUS server or choose another port in [radius]"
        )
        assert caught.value.errno == errno.EADDRINUSE


def test_an_address_of_another_machine_is_one_plain_sentence() -> None:
    with pytest.raises(OSError) as caught:
        open_listeners(["192.0.2.1:0"], [])
    assert "this machine has no such address" in str(caught.value)


def test_a_start_that_fails_leaves_no_socket_open() -> None:
    with Rig() as rig:
        taken = rig.port(is_acct=True)
        free = free_port(socket.SOCK_DGRAM)
        with pytest.raises(OSError, match=f":{taken}: the port is already in use"):
            open_listeners([f"127.0.0.1:{free}"], [f"127.0.0.1:{taken}"])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", free))


def test_the_real_addresses_are_known_after_the_start() -> None:
    with Rig(auth="127.0.0.1:0", acct="0.0.0.0:0") as rig:
        [(auth_host, auth_port)] = rig.server.auth_addresses
        [(acct_host, acct_port)] = rig.server.acct_addresses
        assert (auth_host, acct_host) == ("127.0.0.1", "0.0.0.0")
        assert auth_port > 0 < acct_port
        assert rig.server.acct_socket().getsockname() == ("0.0.0.0", acct_port)


def test_the_accounting_socket_is_there_only_after_the_start() -> None:
    with pytest.raises(OSError, match="no accounting socket"):
        Server(Clients([]), Desk()).acct_socket()


def test_several_sockets_of_each_kind_are_served() -> None:
    async def scenario() -> None:
        desk = Desk()
        server = Server(Clients([gateway()]), desk)
        await server.start(["127.0.0.1:0", "127.0.0.1:0"], ["127.0.0.1:0", "127.0.0.1:0"])
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            request, record = access_request(), accounting_request(1, attribute(44, b"x"))
            for datagram, addresses in (
                (request, server.auth_addresses),
                (record, server.acct_addresses),
            ):
                assert len(set(addresses)) == 2
                for address in addresses:
                    sock.sendto(datagram, address)
                    reply = await asyncio.wait_for(loop.sock_recv(sock, 5000), 30)
                    assert reply_fits(datagram, reply)
        server.close()
        # each socket has its own duplicates
        assert len(desk.seen) == 4

    asyncio.run(scenario())


@needs_ipv6
def test_both_wildcards_can_be_given_with_the_same_port() -> None:
    with Rig(auth="0.0.0.0:0") as rig:
        port = rig.port(is_acct=False)
        [listener] = open_listeners([f"[::]:{port}"], [])
        assert listener.address == ("::", port)
        listener.close(None)


def test_a_burst_larger_than_one_turn_is_drained() -> None:
    for listen in ("127.0.0.1:0", "0.0.0.0:0"):
        with Rig(auth=listen) as rig:
            assert len(rig.ask(*(access_request(number) for number in range(200)))) == 200


def test_the_receive_buffer_is_larger_than_the_system_gives() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain, Rig() as rig:
        default = plain.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        assert rig.server.acct_socket().getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) > default


def test_a_gateway_that_is_gone_before_its_answer_does_no_harm() -> None:
    with Rig(gateway("127.0.0.0/24")) as rig:
        rig.desk.on_access = lambda exchange: None
        rig.ask(access_request(1), source="127.0.0.2")
        rig.socket_at("127.0.0.2").close()
        rig.desk.seen[0].answer(ACCESS_ACCEPT)
        rig.desk.on_access = lambda exchange: exchange.answer(ACCESS_ACCEPT)
        for number in range(5):
            assert len(rig.ask(access_request(number))) == 1


def test_a_reply_that_cannot_be_sent_is_kept_for_the_retransmission() -> None:
    class Full(Outbox):
        is_full = True

        def send(self, datagram: bytes, peer: Peer, control: Control | None) -> None:
            if self.is_full:
                raise BlockingIOError(errno.EAGAIN, "send buffer full")
            super().send(datagram, peer, control)

    desk, outbox = Desk(), Full()
    server = Server(Clients([gateway()]), desk)
    request = access_request()
    server.receive(outbox, request, ("127.0.0.1", 4000), None)
    assert (server.stats["send_failed"], server.stats["answers"]) == (1, 0)
    outbox.is_full = False
    server.receive(outbox, request, ("127.0.0.1", 4000), None)
    assert len(desk.seen) == 1
    assert reply_fits(request, outbox.sent[0])


def test_close_is_final_and_harmless_when_repeated() -> None:
    with Rig() as rig:
        rig.desk.on_access = lambda exchange: None
        rig.ask(access_request())
        rig.server.close()
        rig.desk.seen[0].answer(ACCESS_ACCEPT)
        assert rig.received() == []
        assert rig.stats["send_failed"] == 1
        rig.server.close()


def test_replies_give_the_interface_back_only_for_link_local_addresses() -> None:
    v4 = bytes((3, 0, 0, 0, 10, 0, 0, 1, 10, 0, 0, 1))
    assert reply_control(socket.IPPROTO_IP, 8, v4)[0][2] == bytes(4) + v4[4:8] + bytes(4)
    local = socket.inet_pton(socket.AF_INET6, "fe80::1") + b"\x03\0\0\0"
    assert reply_control(socket.IPPROTO_IPV6, 50, local)[0][2] == local
    wide = socket.inet_pton(socket.AF_INET6, "2001:db8::1") + b"\x03\0\0\0"
    assert reply_control(socket.IPPROTO_IPV6, 50, wide)[0][2] == wide[:16] + bytes(4)


# Gateways


def test_the_longest_prefix_wins() -> None:
    clients = Clients(
        [
            gateway("0.0.0.0/0", number=1, name="any"),
            gateway("10.0.0.0/8", number=2, name="ten"),
            gateway("10.1.2.0/24", number=3, name="net"),
            gateway("10.1.2.3/32", number=4, name="host"),
            gateway("2001:db8::/32", number=5, name="six"),
        ]
    )

    def found(address: str) -> str | None:
        group = clients.at(address)
        client = group.choose(None) if group else None
        return client.name if client else None

    assert found("10.1.2.3") == "host"
    assert found("10.1.2.4") == "net"
    assert found("10.200.0.1") == "ten"
    assert found("192.168.1.1") == "any"
    assert found("2001:db8:1::1") == "six"
    assert found("2001:db9::1") is None
    assert found("not an address") is None


def test_v4_mapped_sources_find_their_ipv4_gateway() -> None:
    assert plain_address("::ffff:10.1.2.3") == "10.1.2.3"
    assert plain_address("fe80::1%eth0") == "fe80::1"
    desk, outbox = Desk(), Outbox()
    learned: list[str] = []
    server = Server(Clients([gateway("10.1.2.3/32")]), desk, on_learned=learned.append)
    server.receive(outbox, access_request(1), ("::ffff:10.1.2.3", 4000, 0, 0), None)
    assert desk.seen[0].source == ("10.1.2.3", 4000)
    assert learned == ["10.1.2.3"]
    # what the mapped spelling taught holds for the plain one
    server.receive(outbox, access_request(2, is_signed=False), ("10.1.2.3", 4000), None)
    assert len(desk.seen) == 1


def test_replaced_gateways_count_from_the_next_packet() -> None:
    with Rig() as rig:
        assert len(rig.ask(access_request(1))) == 1
        new = gateway(name="baru", secret=b"a-new-secret-0123456789")
        rig.replace_clients(new)
        assert rig.ask(access_request(2)) == []
        assert len(rig.ask(access_request(3, secret=new.secret))) == 1
        assert rig.desk.seen[-1].client.name == "baru"
        rig.replace_clients()
        assert rig.ask(access_request(4, secret=new.secret)) == []
        assert rig.stats["unknown_client"] == 1


def test_answers_signed_with_an_old_secret_are_not_repeated() -> None:
    with Rig() as rig:
        authenticator = os.urandom(16)
        assert len(rig.ask(access_request(1, authenticator=authenticator))) == 1
        new = gateway(secret=b"a-new-secret-0123456789")
        rig.replace_clients(new)
        request = access_request(1, authenticator=authenticator, secret=new.secret)
        [reply] = rig.ask(request)
        assert reply_fits(request, reply, new.secret)


def test_a_renamed_gateway_keeps_its_duplicates() -> None:
    with Rig() as rig:
        request = access_request()
        [reply] = rig.ask(request)
        rig.replace_clients(gateway(name="baru"))
        assert rig.ask(request) == [reply]
        assert len(rig.desk.seen) == 1


def test_gateways_at_one_address_use_the_first_ones_secret(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = gateway(number=1, name="utara", nas_id="a")
    second = gateway(number=2, name="selatan", nas_id="b", secret=b"other-secret-0123456789")
    with Rig(first, second) as rig:
        request = access_request(1, nas_identifier("b"))
        [reply] = rig.ask(request)
        assert reply_fits(request, reply)
        assert rig.desk.seen[0].client.name == "selatan"
        assert rig.desk.seen[0].client.secret == SECRET
    assert "gateways utara and selatan share the address 127.0.0.1/32" in caplog.text
    assert "secret-0123456789" not in caplog.text


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="'maybe', expected no, auto or yes"):
        gateway(policy="maybe")


def test_the_repr_of_a_gateway_hides_the_secret() -> None:
    assert repr(gateway()) == "Client(id=1, name='warung', network=127.0.0.1/32)"


# Exchanges


def test_only_the_first_answer_counts() -> None:
    with Rig() as rig:

        def twice(exchange: Exchange) -> None:
            exchange.answer(ACCESS_ACCEPT, integer_attribute(SESSION_TIMEOUT, 60))
            exchange.answer(ACCESS_ACCEPT, integer_attribute(SESSION_TIMEOUT, 120))

        rig.desk.on_access = twice
        [reply] = rig.ask(access_request())
        assert reply.endswith(b"\x1b\x06\x00\x00\x00\x3c")


def test_a_dropped_exchange_cannot_be_answered() -> None:
    with Rig() as rig:
        rig.desk.on_access = lambda exchange: exchange.drop()
        request = access_request()
        assert rig.ask(request) == []
        rig.desk.seen[0].answer(ACCESS_ACCEPT)
        assert rig.received() == []
        rig.ask(request)
        assert len(rig.desk.seen) == 2


def test_a_drop_after_the_answer_changes_nothing() -> None:
    with Rig() as rig:
        request = access_request()
        [reply] = rig.ask(request)
        rig.desk.seen[0].drop()
        assert rig.ask(request) == [reply]
        assert len(rig.desk.seen) == 1


def test_an_old_exchange_that_is_dropped_does_not_forget_its_successor() -> None:
    with Rig() as rig:
        rig.desk.on_access = lambda exchange: None
        old, new = access_request(5), access_request(5)
        rig.ask(old, new)
        rig.desk.seen[0].drop()
        assert rig.ask(new) == []
        assert len(rig.desk.seen) == 2
        rig.desk.seen[1].answer(ACCESS_ACCEPT)
        [(reply, _sender)] = rig.received()
        assert reply_fits(new, reply)


def test_a_late_answer_to_an_old_request_is_not_kept_for_the_new_one() -> None:
    with Rig() as rig:
        rig.desk.on_access = lambda exchange: None
        old, new = access_request(5), access_request(5)
        rig.ask(old, new)
        rig.desk.seen[0].answer(ACCESS_ACCEPT)
        [(reply, _sender)] = rig.received()
        assert reply_fits(old, reply)
        assert rig.ask(new) == []
        assert rig.stats["duplicate_in_progress"] == 1


def test_a_handler_that_fails_after_its_answer_keeps_the_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def answer_and_fail(exchange: Exchange) -> None:
        exchange.answer(ACCESS_ACCEPT)
        raise RuntimeError("after the answer")

    with Rig() as rig:
        rig.desk.on_access = answer_and_fail
        request = access_request()
        [reply] = rig.ask(request)
        assert rig.ask(request) == [reply]
        assert rig.stats["handler_failed"] == 1
    assert "after the answer" in caplog.text


def test_a_failing_callback_never_stops_the_server(caplog: pytest.LogCaptureFixture) -> None:
    class Sick(Desk):
        def is_healthy(self) -> bool:
            raise RuntimeError("health is broken")

    def fail(address: str) -> None:
        raise RuntimeError("learning is broken")

    outbox = Outbox()
    server = Server(Clients([gateway()]), Sick(), on_learned=fail)
    server.receive(outbox, status_server(), ("127.0.0.1", 4000), None)
    server.receive(outbox, access_request(1), ("127.0.0.1", 4000), None)
    assert server.stats["handler_failed"] == 2
    assert outbox.sent == []
    server.receive(outbox, access_request(2), ("127.0.0.1", 4000), None)
    assert len(outbox.sent) == 1
    assert "health is broken" in caplog.text
    assert "learning is broken" in caplog.text


def test_the_local_address_is_the_sockets_own_when_it_is_bound_to_one() -> None:
    with Rig() as rig:
        rig.ask(access_request())
        assert rig.desk.seen[0].local_address == "127.0.0.1"


# Answers to our own Disconnects


def test_disconnect_answers_at_the_accounting_port_reach_who_listens_for_them() -> None:
    answer = raw_packet(DISCONNECT_ACK, 9, os.urandom(16), b"")
    with Rig() as rig:
        assert rig.ask(answer, is_acct=True) == []
        assert rig.stats["wrong_code"] == 1
        heard: list[tuple[bytes, tuple[str, int]]] = []
        rig.server.hear_answers(lambda datagram, sender: heard.append((datagram, sender)))
        sender = rig.socket_at("127.0.0.1").getsockname()
        assert rig.ask(answer + b"padding", is_acct=True) == []
        assert heard == [(answer, sender)]
        rig.ask(answer)
        rig.ask(answer, source="127.0.0.2", is_acct=True)
        assert len(heard) == 1


# Memory


def test_the_duplicate_cache_of_a_source_is_bounded() -> None:
    desk, outbox = Desk(), Outbox()
    desk.on_access = lambda exchange: desk.seen.clear()
    server = Server(Clients([gateway()]), desk)
    for number in range(10_000):
        request = access_request(number % 256, is_signed=False, password=None)
        server.receive(outbox, request, ("127.0.0.1", 1024 + number // 256), None)
    assert 3000 <= len(server._sources["127.0.0.1"].duplicates) <= 4096


def test_the_number_of_remembered_sources_is_bounded_and_busy_ones_stay() -> None:
    now_s = 1000.0
    desk, outbox = Desk(), Outbox()
    server = Server(Clients([gateway("10.0.0.0/8")]), desk, clock=lambda: now_s)
    busy = access_request(1)
    for number in range(MAX_SOURCES + 500):
        now_s += 0.001
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        server.receive(outbox, accounting_request(1, b""), (address, 4000), None)
        if number % 100 == 0:
            server.receive(outbox, busy, ("10.255.0.1", 4000), None)
    assert len(server._sources) <= MAX_SOURCES
    assert len(desk.seen) == 1
    assert "10.255.0.1" in server._sources


def test_idle_sources_are_forgotten_and_what_was_learned_is_not() -> None:
    with Rig() as rig:
        rig.ask(access_request(1))
        rig.now_s += 31
        rig.server._sweep(rig.now_s)
        assert rig.server._sources == {}
        assert rig.ask(access_request(2, is_signed=False)) == []
        assert len(rig.ask(access_request(3))) == 1
        assert rig.learned == ["127.0.0.1"]


def test_the_sweep_spares_what_is_young() -> None:
    with Rig() as rig:
        old, young = access_request(1), access_request(2)
        rig.ask(old)
        rig.now_s += 20
        rig.ask(young)
        rig.now_s += 15
        rig.server._sweep(rig.now_s)
        assert len(rig.server._sources["127.0.0.1"].duplicates) == 1
        rig.ask(young)
        assert len(rig.desk.seen) == 2


def test_the_sweep_finds_old_requests_behind_a_renewed_one() -> None:
    with Rig() as rig:
        rig.ask(access_request(1))
        rig.ask(access_request(2))
        rig.now_s += 25
        rig.ask(access_request(1))
        rig.now_s += 10
        rig.server._sweep(rig.now_s)
        assert len(rig.server._sources["127.0.0.1"].duplicates) == 1


# Log lines


def test_dropped_packets_are_logged_once_a_minute_per_reason_and_address(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Rig() as rig:
        for _ in range(5):
            rig.ask(access_request(secret=b"wrong"))
        rig.ask(access_request(), source="127.0.0.2")
        assert len(caplog.records) == 2
        rig.now_s += 61
        rig.ask(access_request(secret=b"wrong"))
        assert len(caplog.records) == 3
        assert "4 more like it since the last line" in caplog.messages[-1]
        assert rig.stats["wrong_message_authenticator"] == 6
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_a_flood_of_spoofed_addresses_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now_s = 1000.0
    server = Server(Clients([]), Desk(), clock=lambda: now_s)
    for number in range(3000):
        server.receive(Outbox(), b"junk", (f"10.0.{number >> 8}.{number & 255}", 4000), None)
    assert len(caplog.records) == 256
    assert server.stats["unknown_client"] == 3000
    now_s += 61
    server.receive(Outbox(), b"junk", ("10.9.9.9", 4000), None)
    assert len(caplog.records) == 257


def test_log_lines_show_the_header_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    code, password = b"482917305515", b"rahasia-sekali"
    broken = raw_packet(1, 1, os.urandom(16), attribute(1, code) + b"\x02\x40abc")
    with Rig() as rig:
        rig.ask(access_request(1, user=code, password=password))
        rig.ask(access_request(2, user=code, password=password, secret=b"wrong"))
        rig.ask(broken, accounting_request(3, attribute(1, code)))
        rig.ask(access_request(4, user=code, password=password), source="127.0.0.2")
        assert rig.stats["malformed"] == rig.stats["wrong_code"] == 1
    assert len(caplog.records) >= 5
    for secret in (code, password, SECRET):
        assert secret.decode() not in caplog.text
        assert secret.hex() not in caplog.text


def test_nothing_is_logged_per_packet_above_debug(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), Rig() as rig:
        rig.ask(access_request(), status_server())
        rig.ask(accounting_request(1, attribute(44, b"x")), is_acct=True)
    assert caplog.records == []


# Numbers for the metrics page


def test_what_became_of_the_packets_is_counted() -> None:
    with Rig() as rig:
        request = access_request()
        rig.ask(request, request, status_server())
        rig.ask(accounting_request(1, attribute(CLASS, b"x")), is_acct=True)
        # the fences of the rig: one for each ask
        assert rig.stats["access_requests"] == 3
        assert rig.stats["accounting_requests"] == 2
        assert rig.stats["status_requests"] == 1
        assert rig.stats["duplicate"] == 1
        assert rig.stats["answers"] == 6


def test_a_client_may_be_made_for_an_ipv6_network() -> None:
    client = Client(1, "enam", ip_network("2001:db8::/64"), SECRET)
    group = Clients([client]).at("2001:db8::9")
    assert group is not None and group.choose(None) == client


def test_unanswered_accounting_stays_in_progress_until_it_is_stored() -> None:
    with Rig() as rig:
        waiting: list[Exchange] = []
        rig.desk.on_accounting = waiting.append
        records = [accounting_request(number, attribute(44, b"x")) for number in range(50)]
        assert rig.ask(*records, *records, is_acct=True) == []
        assert len(waiting) == 50
        for exchange in waiting:
            exchange.answer(ACCOUNTING_RESPONSE)
        assert len(rig.received()) == 50

"""The load generator of the benchmarks: its packets are what a gateway would send."""

import threading
from collections import Counter
from hashlib import md5
from socket import AF_INET, SOCK_DGRAM, socket

import pytest

from radius import packet as radius
from tests.bench import load
from tests.bench.load import Codec, Plan

SECRET = b"secret-of-the-bench"
CODES = ["100000000017", "100000000024"]


def plan(kind: str, **options: int) -> Plan:
    return Plan(kind, CODES, Codec(SECRET), tag=7, **options)


def packets(kind: str) -> list[radius.Packet]:
    made = plan(kind, ports=1)
    script = made.next(0)
    script.echo = load.attribute(25, b"opaque")
    return [radius.parse(made.packet(script, step)) for step in range(made.steps())]


@pytest.mark.parametrize("password", [b"482917305515", b"p" * 16, b"p" * 40])
def test_an_access_request_is_signed_and_its_password_can_be_read(password: bytes) -> None:
    datagram = Codec(SECRET).access_request(9, bytes(range(16)), b"somebody", password, b"")
    packet = radius.parse(datagram)
    state = radius.message_authenticator_state(packet, SECRET)
    assert state is radius.MessageAuthenticator.valid
    assert radius.decrypt_password(packet, SECRET) == password
    assert packet.text(radius.USER_NAME) == "somebody"
    wrong = radius.message_authenticator_state(packet, b"another-secret")
    assert wrong is radius.MessageAuthenticator.wrong


def test_auth_sends_the_code_as_name_and_password_with_the_phone_and_the_gateway() -> None:
    [request] = packets("auth")
    assert request.text(radius.USER_NAME) == CODES[0]
    assert radius.decrypt_password(request, SECRET) == CODES[0].encode()
    assert request.text(radius.CALLING_STATION_ID) == "02-00-00-00-00-00"
    assert request.text(radius.NAS_IDENTIFIER) == "bench-gateway"
    assert request.text(radius.ACCT_SESSION_ID) == "0000000700000000"


def test_acct_is_one_session_in_order_with_rising_counters() -> None:
    sent = packets("acct")
    assert [each.integer(radius.ACCT_STATUS_TYPE) for each in sent] == [1, 3, 3, 3, 2]
    assert all(radius.verify_accounting(each, SECRET) for each in sent)
    assert len({each.text(radius.ACCT_SESSION_ID) for each in sent}) == 1
    assert [each.integer(radius.ACCT_SESSION_TIME) for each in sent[1:]] == [60, 120, 180, 240]
    assert len({each.identifier for each in sent}) == 5
    assert all(radius.CLASS not in each.first for each in sent)


def test_mix_sends_back_the_class_of_the_accept() -> None:
    request, *accounting = packets("mix")
    assert request.code == radius.ACCESS_REQUEST
    assert [each.first[radius.CLASS] for each in accounting] == [b"opaque"] * 5
    assert all(radius.verify_accounting(each, SECRET) for each in accounting)


def test_sessions_and_phones_differ_and_a_socket_does_not_reuse_identifiers_at_once() -> None:
    made = plan("acct", ports=2)
    scripts = [made.next(number % 2) for number in range(80)]
    sessions = {
        radius.parse(made.packet(script, 0)).text(radius.ACCT_SESSION_ID) for script in scripts
    }
    assert len(sessions) == 80
    used = [(script.port, made.packet(script, step)[1]) for script in scripts for step in range(5)]
    assert Counter(used).most_common(1)[0][1] == 1


class Server:
    """Answers on a port of its own; `codes` are the answers to Access-Requests, then Accepts."""

    def __init__(self, secret: bytes, codes: tuple[int, ...] = (), is_silent: bool = False) -> None:
        self.socket = socket(AF_INET, SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address: tuple[str, int] = self.socket.getsockname()
        self.secret = secret
        self.codes = list(codes)
        self.is_silent = is_silent
        self.seen: list[bytes] = []
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            request, source = self.socket.recvfrom(4096)
            if not request:
                return
            self.seen.append(request)
            if self.is_silent:
                continue
            code, body = 5, b""
            if request[0] == 1:
                code = self.codes.pop(0) if self.codes else 2
                body = b"\x19\x08opaque"
            head = bytes((code, request[1], 0, 20 + len(body)))
            mark = md5(head + request[4:20] + body + self.secret).digest()
            self.socket.sendto(head + mark + body, source)

    def close(self) -> None:
        with socket(AF_INET, SOCK_DGRAM) as last:
            last.sendto(b"", self.address)
        self.thread.join()
        self.socket.close()


def run(kind: str, server: Server, **options: float) -> load.Result:
    made = plan(kind, ports=4)
    made.prepare(40)
    try:
        return load.run(made, server.address, server.address, **options)
    finally:
        server.close()


def test_a_closed_loop_counts_every_answer_and_finishes_the_sessions_it_began() -> None:
    made = plan("mix", ports=4)
    made.prepare(48)
    server = Server(SECRET)
    try:
        result = load.run(made, server.address, server.address, seconds=None)
    finally:
        server.close()
    assert (result.sent, result.answered, result.lost, result.bad) == (48, 48, 0, 0)
    assert Counter(each[0] for each in server.seen) == {1: 8, 4: 40}
    assert result.p50_ms > 0
    classes = {radius.parse(each).first.get(25) for each in server.seen if each[0] == 4}
    assert classes == {b"opaque"}


def test_a_reject_is_a_bad_answer_and_its_session_goes_no_further() -> None:
    server = Server(SECRET, codes=(3,))
    result = run("mix", server, rate=200.0, seconds=0.2)
    assert result.bad == 1
    assert result.lost == 0


def test_a_wrong_response_authenticator_is_noticed() -> None:
    result = run("auth", Server(b"another-secret"), rate=400.0, seconds=0.1)
    assert result.answered == 40
    assert result.checked == result.bad == 2


def test_an_open_loop_keeps_its_rate_and_counts_the_unanswered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(load, "LOST_AFTER_S", 0.1)
    result = run("acct", Server(SECRET, is_silent=True), rate=200.0, seconds=0.1)
    assert (result.sent, result.answered, result.lost) == (20, 0, 20)

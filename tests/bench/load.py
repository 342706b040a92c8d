"""A RADIUS load generator: a process of its own that sends prepared packets and times the answers.

Three kinds of work, as in `docs/performance.md`:

- ``auth``: Access-Request with User-Name = User-Password = the 12-digit code, as from a gateway's
  own login page, with Message-Authenticator; every one has its own Acct-Session-Id;
- ``acct``: Start, three Interim-Updates and a Stop of distinct sessions, in order, without Class;
- ``mix``: Access-Request, Start, three Interim-Updates, Stop, with the Accept's Class sent back.

*Closed loop* keeps N requests outstanding (one lane each, a lane sends its next packet when the
answer to its last one arrives). *Open loop* sends at a fixed rate, whatever the answers do, and
measures each latency from the moment the packet was due, so that a late generator cannot hide a
slow server. Nothing is ever sent twice: an unanswered request is counted as lost.

It shares no code with the server: its own codec (struct, hashlib), plain sockets, epoll.
Packets are built before the clock starts; only the Class of ``mix`` is put in on the way.
"""

import argparse
import gc
import json
import os
import select
import socket
import struct
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from hashlib import md5
from pathlib import Path

KINDS = ("auth", "acct", "mix")
INTERIMS = 3
SOCKETS = 64
LOST_AFTER_S = 5.0
CHECK_ONE_IN = 16

ACCESS_REQUEST, ACCESS_ACCEPT = 1, 2
ACCOUNTING_REQUEST, ACCOUNTING_RESPONSE = 4, 5
_START, _STOP, _INTERIM = 1, 2, 3
_ZEROS = bytes(16)


@dataclass(frozen=True, slots=True)
class Result:
    """What one run measured. Latencies in milliseconds; ``requests_s`` counts answers only."""

    kind: str
    outstanding: int | None
    rate: float | None
    seconds: float | None
    requests_s: float
    sent: int
    answered: int
    lost: int
    bad: int
    checked: int
    p50_ms: float
    p99_ms: float
    late_p99_ms: float
    generator_cpu_s: float


def attribute(kind: int, value: bytes) -> bytes:
    """One RADIUS attribute (RFC 2865 5)."""
    return bytes((kind, len(value) + 2)) + value


def _number(kind: int, value: int) -> bytes:
    return struct.pack("!BBI", kind, 6, value)


class Codec:
    """Builds signed requests for one shared secret and checks replies."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        key = (secret if len(secret) <= 64 else md5(secret).digest()).ljust(64, b"\0")
        self._inner = md5(bytes(octet ^ 0x36 for octet in key))
        self._outer = md5(bytes(octet ^ 0x5C for octet in key))

    def _hmac(self, message: bytes) -> bytes:
        inner = self._inner.copy()
        inner.update(message)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()

    def access_request(
        self, identifier: int, authenticator: bytes, name: bytes, password: bytes, rest: bytes
    ) -> bytes:
        """An Access-Request with PAP (RFC 2865 5.2) and Message-Authenticator."""
        hidden = b""
        before = authenticator
        for at in range(0, len(password) or 1, 16):
            pad = int.from_bytes(md5(self.secret + before).digest())
            plain = int.from_bytes(password[at : at + 16].ljust(16, b"\0"))
            before = (plain ^ pad).to_bytes(16)
            hidden += before
        body = attribute(1, name) + attribute(2, hidden) + rest
        head = struct.pack("!BBH", ACCESS_REQUEST, identifier, 38 + len(body)) + authenticator
        return head + b"\x50\x12" + self._hmac(head + b"\x50\x12" + _ZEROS + body) + body

    def accounting_request(self, identifier: int, body: bytes) -> bytes:
        """An Accounting-Request around encoded attributes (RFC 2866 3)."""
        head = struct.pack("!BBH", ACCOUNTING_REQUEST, identifier, 20 + len(body))
        return head + md5(head + _ZEROS + body + self.secret).digest() + body

    def is_answer(self, reply: bytes, request: bytes) -> bool:
        """Whether the Response Authenticator fits the request (RFC 2865 3)."""
        expected = md5(reply[:4] + request[4:20] + reply[20:] + self.secret).digest()
        return expected == reply[4:20]


def class_of(reply: bytes) -> bytes:
    """The encoded Class attribute of an Accept, empty when there is none."""
    at = 20
    while at + 2 <= len(reply):
        if reply[at] == 25:
            return reply[at : at + reply[at + 1]]
        at += reply[at + 1] or len(reply)
    return b""


class Script:
    """The requests of one session, in order.

    ``packets`` are ready to send; a step that waits for the Accept's Class is kept as bare
    attributes in ``bodies`` and signed when its turn comes. ``port`` is its socket; identifiers
    count up per socket, so that no two outstanding requests share one.
    """

    __slots__ = ("bodies", "echo", "first_identifier", "packets", "port")

    def __init__(self, packets: list[bytes], bodies: list[bytes], port: int, first: int) -> None:
        self.packets = packets
        self.bodies = bodies
        self.port = port
        self.first_identifier = first
        self.echo = b""


class Plan:
    """Endless sessions over the given codes; ``prepare`` builds the first ones ahead of time.

    Sessions are dealt to ``ports`` sockets in turn. ``tag`` makes the Acct-Session-Ids of this
    run distinct from those of every other run; ``offset`` is the first voucher used.
    """

    def __init__(
        self,
        kind: str,
        codes: Sequence[str],
        codec: Codec,
        *,
        tag: int,
        offset: int = 0,
        ports: int = SOCKETS,
    ) -> None:
        self.kind = kind
        self.codes = codes
        self.codec = codec
        self.offset = offset
        self._tag = tag
        self._steps = {"auth": 1, "acct": INTERIMS + 2, "mix": INTERIMS + 3}[kind]
        self.ports = ports
        self._ready: list[deque[Script]] = [deque() for _ in range(ports)]
        self._made = [0] * ports
        self._event_at = int(time.time())

    def is_spent(self, port: int) -> bool:
        """Whether no prepared script is left for this socket."""
        return not self._ready[port]

    def prepare(self, requests: int) -> None:
        """Build the scripts of about this many requests."""
        for number in range(-(-requests // self._steps)):
            port = number % self.ports
            self._ready[port].append(self._make(port))

    def next(self, port: int) -> Script:
        """The next session's script for this socket."""
        return self._ready[port].popleft() if self._ready[port] else self._make(port)

    def _make(self, port: int) -> Script:
        turn = self._made[port]
        self._made[port] += 1
        number = turn * self.ports + port
        voucher = (self.offset + number) % len(self.codes)
        code = self.codes[voucher].encode()
        first = turn * self._steps % 256
        mac = f"02-00-{voucher >> 24 & 255:02X}-{voucher >> 16 & 255:02X}"
        mac += f"-{voucher >> 8 & 255:02X}-{voucher & 255:02X}"
        session = f"{self._tag & 0xFFFFFFFF:08x}{number:08x}".encode()
        rest = (
            attribute(4, b"\x7f\x00\x00\x01")
            + _number(5, voucher)
            + attribute(8, struct.pack("!I", 0x0A010000 + voucher % 65000 + 2))
            + attribute(30, b"02-AA-BB-CC-DD-EE:desa")
            + attribute(31, mac.encode())
            + attribute(32, b"bench-gateway")
            + _number(61, 19)
            + attribute(44, session)
        )
        packets: list[bytes] = []
        if self.kind != "acct":
            packets.append(
                self.codec.access_request(first, os.urandom(16), code, code, rest + _number(6, 1))
            )
        bodies: list[bytes] = []
        if self.kind != "auth":
            common = attribute(1, code) + rest + _number(55, self._event_at)
            bodies.append(_number(40, _START) + common)
            for step in range(1, INTERIMS + 1):
                bodies.append(_number(40, _INTERIM) + common + self._counters(step))
            last = self._counters(INTERIMS + 1) + _number(49, 1)
            bodies.append(_number(40, _STOP) + common + last)
        if self.kind == "acct":
            for step, body in enumerate(bodies):
                packets.append(self.codec.accounting_request((first + step) % 256, body))
            bodies = []
        return Script(packets, bodies, port, first)

    @staticmethod
    def _counters(step: int) -> bytes:
        return (
            _number(46, 60 * step)
            + _number(42, 20_000 * step)
            + _number(43, 180_000 * step)
            + _number(47, 100 * step)
            + _number(48, 150 * step)
            + _number(52, 0)
            + _number(53, 0)
        )

    def steps(self) -> int:
        """Requests in one session."""
        return self._steps

    def packet(self, script: Script, step: int) -> bytes:
        """The packet of one step, signed now if it had to wait for the Class."""
        if step < len(script.packets):
            return script.packets[step]
        body = script.bodies[step - 1] + script.echo
        return self.codec.accounting_request((script.first_identifier + step) % 256, body)


class Ports:
    """Connected sockets, one pair (authentication, accounting) per lane, in one epoll."""

    def __init__(self, count: int, auth: tuple[str, int], acct: tuple[str, int]) -> None:
        self.poller = select.epoll()
        self.auth_send: list[Callable[[bytes], int]] = []
        self.acct_send: list[Callable[[bytes], int]] = []
        self.receive: dict[int, Callable[[int], bytes]] = {}
        self.lane: dict[int, int] = {}
        self._sockets: list[socket.socket] = []
        for lane in range(count):
            self.auth_send.append(self._open(lane, auth).send)
            self.acct_send.append(self._open(lane, acct).send)

    def _open(self, lane: int, address: tuple[str, int]) -> socket.socket:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        made = socket.socket(family, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        made.connect(address)
        made.setblocking(False)
        self.receive[made.fileno()] = made.recv
        self.lane[made.fileno()] = lane
        self.poller.register(made.fileno(), select.EPOLLIN)
        self._sockets.append(made)
        return made

    def close(self) -> None:
        """Close every socket."""
        self.poller.close()
        for each in self._sockets:
            each.close()


class Tally:
    """Counts and latencies of a run."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.sent = 0
        self.answered = 0
        self.lost = 0
        self.bad = 0
        self.checked = 0
        self.latencies = array("d")
        self.lateness = array("d")

    def take(self, reply: bytes, request: bytes, latency_s: float) -> bool:
        """Count one reply: the code is always checked, the authenticator of one in sixteen."""
        self.answered += 1
        self.latencies.append(latency_s)
        good = reply[0] == (ACCESS_ACCEPT if request[0] == ACCESS_REQUEST else ACCOUNTING_RESPONSE)
        if good and not self.answered % CHECK_ONE_IN:
            self.checked += 1
            good = self.codec.is_answer(reply, request)
        if not good:
            self.bad += 1
        return good


def closed_loop(plan: Plan, ports: Ports, seconds: float | None) -> tuple[Tally, float]:
    """Keep one request per socket in flight for ``seconds``, then let open sessions finish.

    Without ``seconds`` it ends when everything prepared has been sent. Returns the tally, whose
    counts include the finish, and the answers per second up to the deadline.
    """
    outstanding = plan.ports
    clock = time.perf_counter
    tally = Tally(plan.codec)
    steps = plan.steps()
    scripts = [plan.next(lane) for lane in range(outstanding)]
    at_step = [0] * outstanding
    requests = [b""] * outstanding
    sent_at = [0.0] * outstanding
    idle = [False] * outstanding
    started_at = clock()
    deadline = started_at + (seconds or 3600)
    in_time = 0

    def send(lane: int, now: float) -> None:
        request = plan.packet(scripts[lane], at_step[lane])
        requests[lane] = request
        sent_at[lane] = now
        tally.sent += 1
        try:
            (ports.auth_send if request[0] == ACCESS_REQUEST else ports.acct_send)[lane](request)
        except OSError:
            return

    def begin_next(lane: int, now: float) -> None:
        if now >= deadline or (seconds is None and plan.is_spent(lane)):
            idle[lane] = True
            return
        scripts[lane] = plan.next(lane)
        at_step[lane] = 0
        send(lane, now)

    for lane in range(outstanding):
        send(lane, clock())
    sweep_at = started_at + 1
    while not all(idle):
        for fd, _ in ports.poller.poll(0.25):
            try:
                reply = ports.receive[fd](4096)
            except OSError:
                continue
            now = clock()
            lane = ports.lane[fd]
            request = requests[lane]
            if idle[lane] or reply[1] != request[1]:
                continue
            good = tally.take(reply, request, now - sent_at[lane])
            if now < deadline:
                in_time += 1
            step = at_step[lane] + 1
            if step == steps or not good:
                begin_next(lane, now)
                continue
            if step == 1 and request[0] == ACCESS_REQUEST:
                scripts[lane].echo = class_of(reply)
            at_step[lane] = step
            send(lane, now)
        now = clock()
        if now > sweep_at:
            sweep_at = now + 0.5
            for lane in range(outstanding):
                if not idle[lane] and now - sent_at[lane] > LOST_AFTER_S:
                    tally.lost += 1
                    begin_next(lane, now)
    return tally, in_time / (seconds or clock() - started_at)


def open_loop(plan: Plan, ports: Ports, rate: float, seconds: float) -> tuple[Tally, float]:
    """Send ``rate`` requests a second for ``seconds``; a request answered after 5 s is lost.

    A session's next request is due at the first tick after the answer to its last one.
    """
    clock = time.perf_counter
    tally = Tally(plan.codec)
    steps = plan.steps()
    waiting: dict[tuple[int, int], tuple[Script, int, bytes, float]] = {}
    ready: deque[tuple[Script, int]] = deque()
    started_at = clock()
    total = int(rate * seconds)
    sent = begun = 0
    poller = [ports.poller.fileno()]
    finish_at = started_at + seconds + LOST_AFTER_S

    def drain() -> None:
        for fd, _ in ports.poller.poll(0):
            while True:
                try:
                    reply = ports.receive[fd](4096)
                except OSError:
                    break
                entry = waiting.pop((ports.lane[fd], reply[1]), None)
                if entry is None:
                    continue
                script, step, request, due_at = entry
                good = tally.take(reply, request, clock() - due_at)
                if good and step + 1 < steps:
                    if request[0] == ACCESS_REQUEST:
                        script.echo = class_of(reply)
                    ready.append((script, step + 1))

    while sent < total or waiting or (ready and clock() < finish_at):
        due_at = started_at + sent / rate
        pause = due_at - clock()
        if pause > 0:
            if select.select(poller, (), (), min(pause, 0.5))[0]:
                drain()
            if clock() > finish_at:
                break
            continue
        if sent >= total and not ready:
            if select.select(poller, (), (), 0.1)[0]:
                drain()
            if clock() > finish_at:
                break
            continue
        if ready:
            script, step = ready.popleft()
        else:
            script, step = plan.next(begun % plan.ports), 0
            begun += 1
        request = plan.packet(script, step)
        waiting[script.port, request[1]] = (script, step, request, due_at)
        tally.lateness.append(clock() - due_at)
        send = (ports.auth_send if request[0] == ACCESS_REQUEST else ports.acct_send)[script.port]
        try:
            send(request)
        except OSError:
            pass
        sent += 1
        drain()
    tally.sent = sent
    tally.lost = len(waiting)
    return tally, tally.answered / max(clock() - started_at, 1e-9)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the sorted values lie; 0 when there are none."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def result_of(
    kind: str,
    tally: Tally,
    requests_s: float,
    *,
    outstanding: int | None,
    rate: float | None,
    seconds: float | None,
    cpu_s: float,
) -> Result:
    """Sum up a run."""
    latencies = sorted(tally.latencies)
    return Result(
        kind=kind,
        outstanding=outstanding,
        rate=rate,
        seconds=seconds,
        requests_s=requests_s,
        sent=tally.sent,
        answered=tally.answered,
        lost=tally.lost,
        bad=tally.bad,
        checked=tally.checked,
        p50_ms=percentile(latencies, 0.50) * 1000,
        p99_ms=percentile(latencies, 0.99) * 1000,
        late_p99_ms=percentile(sorted(tally.lateness), 0.99) * 1000,
        generator_cpu_s=cpu_s,
    )


def run(
    plan: Plan,
    auth: tuple[str, int],
    acct: tuple[str, int],
    *,
    rate: float | None = None,
    seconds: float | None = 3.0,
) -> Result:
    """One run in this process: open loop at ``rate``, without it closed loop, a lane a socket."""
    ports = Ports(plan.ports, auth, acct)
    gc.collect()
    gc.disable()
    before = time.process_time()
    try:
        if rate:
            tally, requests_s = open_loop(plan, ports, rate, seconds or 3.0)
        else:
            tally, requests_s = closed_loop(plan, ports, seconds)
    finally:
        gc.enable()
        ports.close()
    return result_of(
        plan.kind,
        tally,
        requests_s,
        outstanding=None if rate else plan.ports,
        rate=rate,
        seconds=seconds,
        cpu_s=time.process_time() - before,
    )


def echo(codec: Codec, announce: Callable[[int], None]) -> None:
    """Answer everything at one port for ever, doing nothing else: shows the generator's ceiling."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 << 20)
    server.bind(("127.0.0.1", 0))
    announce(server.getsockname()[1])
    while True:
        request, source = server.recvfrom(4096)
        code = ACCESS_ACCEPT if request[0] == ACCESS_REQUEST else ACCOUNTING_RESPONSE
        head = bytes((code, request[1], 0, 20))
        server.sendto(head + md5(head + request[4:20] + codec.secret).digest(), source)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare, print "ready", wait for a line on stdin, run, print "done" and the JSON result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("kind", choices=(*KINDS, "echo"))
    parser.add_argument("--auth", type=_address, default=("127.0.0.1", 1812))
    parser.add_argument("--acct", type=_address, default=("127.0.0.1", 1813))
    parser.add_argument("--secret", required=True)
    parser.add_argument("--codes", type=Path, help="file with one code a line")
    parser.add_argument("--outstanding", type=int, default=64)
    parser.add_argument("--rate", type=float, help="requests a second: open loop")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--prepare", type=int, default=50_000, help="requests built ahead")
    parser.add_argument("--once", action="store_true", help="send what was prepared, no clock")
    parser.add_argument("--offset", type=int, default=0, help="first voucher to use")
    parser.add_argument("--wait", action="store_true", help="wait for a line before starting")
    chosen = parser.parse_args(arguments)
    codec = Codec(chosen.secret.encode())
    if chosen.kind == "echo":
        echo(codec, lambda port: print(port, flush=True))
    if chosen.codes is None:
        parser.error("--codes FILE is needed: one 12-digit code a line")
    codes = chosen.codes.read_text().split()
    tag = int.from_bytes(os.urandom(4))
    sockets = SOCKETS if chosen.rate else chosen.outstanding
    plan = Plan(chosen.kind, codes, codec, tag=tag, offset=chosen.offset, ports=sockets)
    plan.prepare(int(chosen.rate * chosen.seconds) if chosen.rate else chosen.prepare)
    if chosen.wait:
        print("ready", flush=True)
        sys.stdin.readline()
    seconds = None if chosen.once else chosen.seconds
    result = run(plan, chosen.auth, chosen.acct, rate=chosen.rate, seconds=seconds)
    if chosen.wait:
        print("done", flush=True)
    print(json.dumps(asdict(result)), flush=True)


if __name__ == "__main__":
    main()

"""UDP sockets of the RADIUS server: opening, draining, and answering from the address asked.

A reply must leave from the address and port the request was sent to (RFC 2865 3; CoovaChilli drops
others). A socket bound to one address does so by itself; a wildcard socket needs the packet's
destination (IP_PKTINFO, ip(7); IPV6_PKTINFO, RFC 3542 6.2) read with the packet and given back with
the reply. Sockets are drained with `loop.add_reader`: asyncio's DatagramProtocol costs 3 times the
CPU for the same packets (measured, Python 3.11).
"""

import asyncio
import contextlib
import errno
import ipaddress
import socket
from collections.abc import Callable, Sequence

from radius.packet import MAX_PACKET_OCTETS

PACKETS_A_TURN = 64
RECEIVE_BUFFER_OCTETS = 2 * 1024 * 1024

# Python 3.11 has no names for these two options of Linux.
IP_PKTINFO = 8
SO_RCVBUFFORCE = 33

IPV4_INFO_OCTETS = 12
IPV6_INFO_OCTETS = 20
CONTROL_OCTETS = socket.CMSG_SPACE(IPV6_INFO_OCTETS)
MAX_CONTROLS = 256

Peer = tuple[str, int] | tuple[str, int, int, int]
Control = list[tuple[int, int, bytes]]
Receive = Callable[["Listener", bytes, Peer, Control | None], None]


def parse_listen(text: str) -> tuple[str, int]:
    """`"0.0.0.0:1812"` or `"[::]:1812"` as address and port; port 0 lets the system choose.

    Raises OSError with one plain sentence for anything else.
    """
    host, colon, port = text.rpartition(":")
    if colon and port.isascii() and port.isdigit() and int(port) <= 65535:
        try:
            if host.startswith("[") and host.endswith("]"):
                return str(ipaddress.IPv6Address(host[1:-1])), int(port)
            return str(ipaddress.IPv4Address(host)), int(port)
        except ValueError:
            pass
    raise OSError(
        f"cannot listen on {text!r}: expected an address and a port like 0.0.0.0:1812 or [::]:1812"
    )


def open_socket(host: str, port: int) -> socket.socket:
    """A bound, non-blocking UDP socket.

    Without SO_REUSEPORT and SO_REUSEADDR: a second server on the same port would silently take half
    of the packets. Raises OSError with one plain sentence.
    """
    is_ipv6 = ":" in host
    shown = f"[{host}]:{port}" if is_ipv6 else f"{host}:{port}"
    try:
        sock = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
    except OSError as error:
        raise _plain(error, f"cannot listen on UDP {shown}: {error.strerror}") from error
    try:
        sock.setblocking(False)
        _set_receive_buffer(sock)
        if is_ipv6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if _is_wildcard(host):
            if is_ipv6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise _plain(error, f"cannot listen on UDP {shown}: {_advice(error)}") from error
    return sock


def _plain(error: OSError, sentence: str) -> OSError:
    """An OSError whose text is the sentence alone, with the number kept for programs."""
    plain = OSError(sentence)
    plain.errno = error.errno
    return plain


def _advice(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                "the port is already in use, stop the other RADIUS server "
                "or choose another port in [radius]"
            )
        case errno.EADDRNOTAVAIL:
            return "this machine has no such address, choose one it has or 0.0.0.0 in [radius]"
        case errno.EACCES:
            return "not permitted, choose a port above 1023 in [radius]"
        case _:
            return error.strerror or str(error)


def _is_wildcard(host: str) -> bool:
    return ipaddress.ip_address(host).is_unspecified


def _set_receive_buffer(sock: socket.socket) -> None:
    """Room for some thousand packets while a commit stalls on a slow disk."""
    try:
        # As root this passes the limit in net.core.rmem_max.
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_OCTETS)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_OCTETS)


class Listener:
    """One socket that serves authentication or accounting.

    `number` tells the server's sockets apart in the duplicate cache.
    """

    def __init__(self, listen: str, number: int, *, is_acct: bool) -> None:
        """Open and bind the socket. Raises OSError with one plain sentence."""
        host, port = parse_listen(listen)
        self.number = number
        self.is_acct = is_acct
        self.socket = open_socket(host, port)
        name = self.socket.getsockname()
        self.address: tuple[str, int] = (name[0], name[1])
        self._is_wildcard = _is_wildcard(host)
        self._controls: dict[bytes, Control] = {}

    def start(self, loop: asyncio.AbstractEventLoop, receive: Receive) -> None:
        """Hand every datagram to `receive` from now on."""
        drain = self._drain_wildcard if self._is_wildcard else self._drain
        loop.add_reader(self.socket, drain, receive)

    def close(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Stop reading and close the socket."""
        if loop is not None and self.socket.fileno() >= 0:
            with contextlib.suppress(RuntimeError):
                loop.remove_reader(self.socket)
        self.socket.close()

    def send(self, datagram: bytes, peer: Peer, control: Control | None) -> None:
        """Send a reply to `peer` from the address that was asked. Raises OSError if it cannot."""
        if control is None:
            self.socket.sendto(datagram, peer)
        else:
            self.socket.sendmsg((datagram,), control, 0, peer)

    def _drain(self, receive: Receive) -> None:
        receive_from = self.socket.recvfrom
        for _ in range(PACKETS_A_TURN):
            try:
                datagram, peer = receive_from(MAX_PACKET_OCTETS)
            except BlockingIOError:
                return
            except OSError:
                # An ICMP error of an earlier reply (ECONNREFUSED, EHOSTUNREACH) is reported here.
                continue
            receive(self, datagram, peer, None)

    def _drain_wildcard(self, receive: Receive) -> None:
        receive_message = self.socket.recvmsg
        controls = self._controls
        for _ in range(PACKETS_A_TURN):
            try:
                datagram, ancillary, _flags, peer = receive_message(
                    MAX_PACKET_OCTETS, CONTROL_OCTETS
                )
            except BlockingIOError:
                return
            except OSError:
                continue
            control: Control | None = None
            if ancillary:
                control = controls.get(ancillary[0][2])
                if control is None:
                    control = self._remember_control(ancillary[0])
            receive(self, datagram, peer, control)

    def _remember_control(self, ancillary: tuple[int, int, bytes]) -> Control:
        """What to give with replies to packets that came with this packet information."""
        level, kind, info = ancillary
        control = reply_control(level, kind, info)
        if len(self._controls) >= MAX_CONTROLS:
            self._controls.clear()
        self._controls[info] = control
        return control


def reply_control(level: int, kind: int, info: bytes) -> Control:
    """Packet information of a request turned into that of its reply.

    The interface is left to the routing table, as the way back may be another one; only link-local
    addresses need it.
    """
    if level == socket.IPPROTO_IP and len(info) == IPV4_INFO_OCTETS:
        # struct in_pktinfo: interface, local address (what we want to send from), destination
        return [(level, kind, bytes(4) + info[4:8] + bytes(4))]
    if level == socket.IPPROTO_IPV6 and len(info) == IPV6_INFO_OCTETS:
        # struct in6_pktinfo: address, interface
        is_link_local = info[0] == 0xFE and info[1] & 0xC0 == 0x80
        return [(level, kind, info if is_link_local else info[:16] + bytes(4))]
    return []


def control_address(control: Control) -> str | None:
    """The local address a reply with this packet information leaves from."""
    for level, _kind, info in control:
        if level == socket.IPPROTO_IP:
            return socket.inet_ntop(socket.AF_INET, info[4:8])
        return socket.inet_ntop(socket.AF_INET6, info[:16])
    return None


def open_listeners(auth: Sequence[str], acct: Sequence[str]) -> list[Listener]:
    """All sockets, or none: if one cannot be opened the others are closed and OSError is raised."""
    opened: list[Listener] = []
    try:
        for listen in auth:
            opened.append(Listener(listen, len(opened), is_acct=False))
        for listen in acct:
            opened.append(Listener(listen, len(opened), is_acct=True))
    except OSError:
        for listener in opened:
            listener.close(None)
        raise
    return opened

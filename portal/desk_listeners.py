"""Desk listeners: where the operator's desk answers, and to whom.

In clear the desk must never be open to a guest network: who listens there would read passwords.
`[http] operator_listen` says where; when it is empty the desk answers on loopback and on those
private addresses of this box in whose network no phone can be expected: no gateway of ours has its
address there, no portal address lies there, no phone was online from there. On these addresses only
neighbours in the same network are answered, so that a guest's packet routed to them is not.

An address that is set is somebody's decision: a management network has gateways in it too. There
phones that are online, gateways that hide phones, and every network a phone was seen in get no
answer.
"""

import array
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Callable
from urllib.parse import urlsplit

from portal.admin import Admin
from portal.sessions import Sessions
from portal.setting_values import Listen
from portal.settings import Http

PORT = 8090
LOOPBACK = Listen("127.0.0.1", PORT)

_SIOCGIFCONF, _SIOCGIFNETMASK = 0x8912, 0x891B
_IFREQ_OCTETS = struct.calcsize("16s16s") + (8 if struct.calcsize("P") == 8 else 0)
_MOST_OCTETS = 128 * _IFREQ_OCTETS

# RFC 1918. What Python calls private is more: documentation, benchmarks, carriers' networks.
_PRIVATE = tuple(
    ipaddress.IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Interface = ipaddress.IPv4Interface


def own_interfaces() -> list[Interface]:
    """The IPv4 addresses of this box with their networks; [] where the system does not say."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        room = array.array("B", bytes(_MOST_OCTETS))
        try:
            answer = fcntl.ioctl(
                asked.fileno(), _SIOCGIFCONF, struct.pack("iP", len(room), room.buffer_info()[0])
            )
            filled = room.tobytes()[: struct.unpack("iP", answer)[0]]
            for start in range(0, len(filled), _IFREQ_OCTETS):
                name = filled[start : start + 16].split(b"\0")[0]
                mask = fcntl.ioctl(asked.fileno(), _SIOCGIFNETMASK, struct.pack("40s", name))
                address = socket.inet_ntoa(filled[start + 20 : start + 24])
                found.append(Interface(f"{address}/{socket.inet_ntoa(mask[20:24])}"))
        except OSError:
            return []
    return found


class DeskListeners:
    """Decides where the desk listens, and at every request whether it answers."""

    def __init__(
        self,
        http: Http,
        admin: Admin,
        sessions: Sessions,
        portal_url: Callable[[], str],
        interfaces: Callable[[], list[Interface]] = own_interfaces,
    ) -> None:
        self._http = http
        self._admin = admin
        self._sessions = sessions
        self._portal_url = portal_url
        self._interfaces = interfaces
        self._with_phones: set[ipaddress.IPv4Network] = set()
        """Networks of ours in which a phone was seen online."""

    def wanted(self) -> list[Listen]:
        """Where to listen: as set, else loopback and the private addresses away from guests."""
        if self._http.operator_listen:
            return list(self._http.operator_listen)
        return [
            LOOPBACK,
            *(
                Listen(str(interface.ip), PORT)
                for interface in self._interfaces()
                if any(interface.ip in network for network in _PRIVATE)
                and self.guests_at(interface) is None
            ),
        ]

    def guests_at(self, interface: Interface) -> str | None:
        """Why phones are to be expected in the network of this address; None when they are not."""
        network = interface.network
        for gateway in self._admin.gateways_by_id.values():
            if network.overlaps(ipaddress.ip_network(gateway.address)):
                return f"gateway {gateway.name} is in {network}"
        if any(address in network for address in self._portal_addresses()):
            return f"phones reach the portal in {network}"
        if self._has_phones(interface):
            return f"phones are online in {network}"
        return None

    def _has_phones(self, interface: Interface) -> bool:
        """Whether a phone is, or was seen, online in the network of this address."""
        network = interface.network
        if network not in self._with_phones:
            for live in self._sessions.open_sessions():
                ip = live.session.framed_ip
                address = None if ip is None else _address(ip)
                if address is not None and address in network:
                    self._with_phones.add(network)
                    break
        return network in self._with_phones

    def _is_guest(self, peer: Address, source: str) -> bool:
        """Whether this is a phone that is online, or a gateway that may hide phones."""
        if self._sessions.at_ip(source):
            return True
        return any(gateway.address == str(peer) for gateway in self._admin.gateways_by_id.values())

    def warnings(self) -> list[str]:
        """What is wrong with the addresses that were set: where phones could listen to the desk."""
        said = []
        interfaces = self._interfaces()
        for listen in self._http.operator_listen:
            if listen.is_tls:
                continue
            host = ipaddress.ip_address(listen.host)
            for interface in interfaces:
                if interface.ip.is_loopback or not (host.is_unspecified or host == interface.ip):
                    continue
                reason = self.guests_at(interface)
                if reason is None:
                    continue
                if host.is_unspecified:
                    said.append(f"{listen} does not open the desk on {interface.ip}: {reason}")
                else:
                    said.append(f"the desk on {listen} is not encrypted, and {reason}")
        return said

    def is_open(self, local: str, peer: str, source: str, *, is_tls: bool) -> bool:
        """Whether the desk answers a request.

        It came in at our address `local` from `peer`; `source` is the same past trusted proxies.
        Encrypted it always does.
        """
        if is_tls:
            return True
        here, there = _address(local), _address(peer)
        if here is None or there is None:
            return False
        if there.is_loopback and source == peer:
            return True
        if self._is_guest(there, source):
            return False
        if there.is_loopback:
            return True
        interface = next((one for one in self._interfaces() if one.ip == here), None)
        if not self._http.operator_listen:
            return (
                interface is not None
                and there in interface.network
                and self.guests_at(interface) is None
            )
        if interface is not None and self._has_phones(interface):
            return False
        if any(ipaddress.ip_address(entry.host) == here for entry in self._http.operator_listen):
            return True
        # A wildcard: this address was not named, so it has to be away from guests. Of a network of
        # IPv6 nobody knows that.
        return interface is not None and self.guests_at(interface) is None

    def _portal_addresses(self) -> list[Address]:
        """Where phones reach the portal, as far as it is an address of this box."""
        hosts = [urlsplit(self._portal_url()).hostname or ""]
        hosts += [listen.host for listen in self._http.listen]
        found = [_address(host) for host in hosts]
        return [address for address in found if address is not None and not address.is_unspecified]


def _address(text: str) -> Address | None:
    """The address a text is; an IPv4 address in IPv6's clothes is itself."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address

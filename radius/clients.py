"""Which gateway sent a packet: by source address, longest prefix first, then by NAS-Identifier.

NAS-IP-Address never decides (RFC 2865 3): behind NAT, and on every CoovaChilli box, it is a private
address that many gateways share.
"""

import ipaddress
import logging
import socket
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network

logger = logging.getLogger(__name__)

POLICIES = ("no", "auto", "yes")


@dataclass(frozen=True, slots=True)
class Client:
    """A gateway as the RADIUS server sees it.

    `require_message_authenticator` says what happens to an Access-Request without one: `yes` drops
    it, `no` takes it, `auto` drops it once the source address has sent a valid one. Raises
    ValueError for another policy or an empty secret.
    """

    id: int
    name: str
    network: IPv4Network | IPv6Network
    secret: bytes
    nas_id: str | None = None
    require_message_authenticator: str = "auto"

    def __post_init__(self) -> None:
        if self.require_message_authenticator not in POLICIES:
            raise ValueError(
                f"gateway {self.name}: require_message_authenticator is "
                f"{self.require_message_authenticator!r}, expected no, auto or yes"
            )
        if not self.secret:
            raise ValueError(f"gateway {self.name}: the shared secret is empty")

    def __repr__(self) -> str:
        """Name and place; never the secret."""
        return f"Client(id={self.id}, name={self.name!r}, network={self.network})"


class Group:
    """The clients of one network, at least one. They share a secret: the first one's."""

    __slots__ = ("_by_nas_id", "_only", "secret")

    def __init__(self, clients: list[Client]) -> None:
        self.secret = clients[0].secret
        self._only = clients[0] if len(clients) == 1 else None
        self._by_nas_id: dict[bytes | None, Client] = {}
        for client in clients:
            key = None if client.nas_id is None else client.nas_id.encode()
            self._by_nas_id.setdefault(key, replace(client, secret=self.secret))
            if client.secret != self.secret:
                logger.warning(
                    "gateways %s and %s share the address %s but not the secret: that of %s counts",
                    clients[0].name,
                    client.name,
                    client.network,
                    clients[0].name,
                )

    def choose(self, nas_id: bytes | None) -> Client | None:
        """The client with this NAS-Identifier, None if none fits; a single client takes any."""
        return self._only or self._by_nas_id.get(nas_id)


class Clients:
    """All gateways. `replace` takes effect at the next packet."""

    def __init__(self, clients: Iterable[Client]) -> None:
        self.generation = 0
        self._tables: dict[int, list[tuple[int, dict[int, Group]]]] = {}
        self.replace(clients)

    def replace(self, clients: Iterable[Client]) -> None:
        """Forget all gateways and know these."""
        networks: dict[IPv4Network | IPv6Network, list[Client]] = {}
        for client in clients:
            networks.setdefault(client.network, []).append(client)
        tables: dict[int, dict[int, dict[int, Group]]] = {4: {}, 6: {}}
        for network, members in networks.items():
            shift = network.max_prefixlen - network.prefixlen
            prefix = int(network.network_address) >> shift
            tables[network.version].setdefault(shift, {})[prefix] = Group(members)
        self._tables = {version: sorted(table.items()) for version, table in tables.items()}
        self.generation += 1

    def at(self, address: str) -> Group | None:
        """The gateways at a source address as `plain_address` gives it; None if there are none."""
        version, family = (6, socket.AF_INET6) if ":" in address else (4, socket.AF_INET)
        try:
            number = int.from_bytes(socket.inet_pton(family, address), "big")
        except OSError:
            return None
        for shift, prefixes in self._tables[version]:
            group = prefixes.get(number >> shift)
            if group is not None:
                return group
        return None


def plain_address(host: str) -> str:
    """A socket's peer address as text, without a v4-mapped prefix or a zone (`%eth0`)."""
    host = host.partition("%")[0]
    if ":" not in host:
        return host
    mapped = ipaddress.IPv6Address(host).ipv4_mapped
    return host if mapped is None else str(mapped)

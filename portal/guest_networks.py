"""Guest networks: which addresses the phones behind a gateway have.

The node sees phones by their own addresses (no gateway masquerades towards it), so two gateways of
one node must not use the same network: the portal would take one phone for another.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from portal.errors import DeskError

SPACE = IPv4Network("10.64.0.0/10")
"""Where networks are taken from when none is given: RFC 1918, seldom used by home routers."""
USUAL_PREFIX = 22
"""1,021 phones: with leases of an hour enough for a village's busiest evening."""
LONGEST_PREFIX = 29
SHORTEST_PREFIX = 12
_PRIVATE = tuple(IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))


def parse(text: str) -> str:
    """A guest network as people type it, in CIDR form.

    Raises DeskError `gateways.guest_net` for anything but a private IPv4 network of /12 to /29.
    """
    try:
        network = IPv4Network(text.strip())
    except ValueError:
        raise DeskError("gateways.guest_net", text=text[:80]) from None
    is_private = any(network.subnet_of(private) for private in _PRIVATE)
    if not is_private or not SHORTEST_PREFIX <= network.prefixlen <= LONGEST_PREFIX:
        raise DeskError("gateways.guest_net", text=text[:80])
    return str(network)


def check_free(text: str, others: Iterable[tuple[str, str]]) -> None:
    """Raise DeskError `gateways.guest_net_taken` when another gateway's network overlaps; `others`
    are names and networks.
    """
    network = IPv4Network(text)
    for name, other in others:
        if network.overlaps(IPv4Network(other)):
            raise DeskError("gateways.guest_net_taken", text=text, name=name, other=other)


def free(taken: Iterable[str]) -> str:
    """The first usual network that overlaps none of `taken` (networks and addresses)."""
    used = [network for network in map(_ipv4, taken) if network is not None]
    for network in SPACE.subnets(new_prefix=USUAL_PREFIX):
        if not any(network.overlaps(other) for other in used):
            return str(network)
    raise DeskError("gateways.guest_net_none")


def _ipv4(text: str) -> IPv4Network | None:
    network = ipaddress.ip_network(text, strict=False)
    return network if isinstance(network, IPv4Network) else None


@dataclass(frozen=True, slots=True)
class Guests:
    """A guest network as configurations write it."""

    network: IPv4Network
    reserved: tuple[IPv4Address, ...] = ()
    """Addresses in it that are no phone's: the node's, where it stands among the phones."""

    @property
    def net(self) -> str:
        """CIDR form."""
        return str(self.network)

    @property
    def prefix(self) -> int:
        """Bits of the network part."""
        return self.network.prefixlen

    @property
    def mask(self) -> str:
        """255.255.252.0"""
        return str(self.network.netmask)

    @property
    def gateway(self) -> str:
        """The router's address in it: the first, or the second where the node has the first."""
        first = self.network[1]
        return str(first if first not in self.reserved else self.network[2])

    @property
    def pools(self) -> list[tuple[str, str]]:
        """First and last address of each stretch that phones may get."""
        edges = sorted(
            {
                int(address) - int(self.network[0])
                for address in (IPv4Address(self.gateway), *self.reserved)
                if address in self.network
            }
        )
        stretches, at, last = [], 1, self.network.num_addresses - 2
        for edge in [*edges, last + 1]:
            if edge > at:
                stretches.append((str(self.network[at]), str(self.network[edge - 1])))
            at = edge + 1
        return stretches

    @property
    def pool(self) -> tuple[int, int]:
        """Offset of the longest stretch in the network and how many addresses it has, for servers
        that know one stretch only."""
        sizes = []
        for first, last in self.pools:
            start = int(IPv4Address(first)) - int(self.network[0])
            sizes.append((start, int(IPv4Address(last)) - int(IPv4Address(first)) + 1))
        return max(sizes, key=lambda stretch: stretch[1])

    def has(self, address: str | None) -> bool:
        """Whether a literal address is one of this network."""
        try:
            return address is not None and IPv4Address(address) in self.network
        except ValueError:
            return False

"""Guest networks: free ones, what people may type, and what phones get of them."""

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal import guest_networks
from portal.errors import DeskError
from portal.guest_networks import Guests


def test_each_gateway_gets_a_network_that_touches_no_other() -> None:
    taken = ["10.64.0.7", "10.64.4.0/24", "192.168.1.0/24", "fd00::1"]
    for _ in range(5):
        found = guest_networks.free(taken)
        assert not any(
            IPv4Network(found).overlaps(IPv4Network(other)) for other in taken if ":" not in other
        )
        taken.append(found)
    assert taken[-5:] == [f"10.64.{number}.0/22" for number in (8, 12, 16, 20, 24)]


def test_when_everything_is_taken_somebody_must_choose() -> None:
    with pytest.raises(DeskError, match="--guest-net"):
        guest_networks.free(["10.0.0.0/8"])


@pytest.mark.parametrize(
    "text",
    ["", "10.1.0.0", "10.1.0.5/24", "10.0.0.0/8", "10.1.0.0/30", "203.0.113.0/24", "fd00::/64"],
)
def test_a_network_phones_cannot_have_is_refused(text: str) -> None:
    with pytest.raises(DeskError, match="private IPv4 network"):
        guest_networks.parse(text)


def test_the_router_steps_aside_for_a_node_at_the_first_address() -> None:
    guests = Guests(IPv4Network("10.1.0.0/24"), (IPv4Address("10.1.0.1"),))
    assert guests.gateway == "10.1.0.2"
    assert guests.pools == [("10.1.0.3", "10.1.0.254")]


@given(
    st.integers(12, 29),
    st.lists(st.integers(0, 2**20), max_size=2),
)
def test_phones_get_every_address_but_the_routers_and_the_nodes(
    prefix: int, offsets: list[int]
) -> None:
    network = IPv4Network(f"10.16.0.0/{prefix}")
    last = network.num_addresses - 2
    reserved = tuple(network[1 + offset % last] for offset in offsets)[: max(1, last - 3)]
    if len(set(reserved)) == 2 and prefix == 29:
        reserved = reserved[:1]
    guests = Guests(network, reserved)
    if guests.gateway in map(str, reserved):
        # Two of the node's addresses at the very beginning: nobody has that.
        return
    free = {
        number
        for first, end in guests.pools
        for number in (int(IPv4Address(first)), int(IPv4Address(end)))
    }
    assert free.isdisjoint({int(IPv4Address(guests.gateway)), *map(int, reserved)})
    count = sum(int(IPv4Address(end)) - int(IPv4Address(first)) + 1 for first, end in guests.pools)
    assert count == last - len({guests.gateway, *map(str, reserved)})
    start, size = guests.pool
    assert 1 <= start and start + size - 1 <= last
    assert all(first in network and end in network for first, end in map(_pair, guests.pools))


def _pair(stretch: tuple[str, str]) -> tuple[IPv4Address, IPv4Address]:
    return IPv4Address(stretch[0]), IPv4Address(stretch[1])

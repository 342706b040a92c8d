"""Where the desk listens by itself, whom it answers there, and what it says of bad places."""

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portal.desk_listeners import DeskListeners, own_interfaces
from portal.setting_values import Listen
from tests.unit.web.counter_gateway import CounterGateway
from tests.unit.web.desk import Desk, Person, desk
from tests.unit.web.village import Browser, village

Interface = ipaddress.IPv4Interface

LOOPBACK = "127.0.0.1/8"
GUESTS, OFFICE, PUBLIC, LINK_LOCAL, TUNNEL = (
    "10.1.0.2/24",
    "192.168.7.2/24",
    "203.0.113.9/24",
    "169.254.3.4/16",
    "10.8.0.1/16",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("desk")) as found:
        CounterGateway.at(found, "pos-dermaga", "127.0.0.31")
        yield found


def listeners(
    place: Desk,
    *interfaces: str,
    set_to: tuple[str, ...] = (),
    url: str = "http://10.1.0.2",
    listen: str = "0.0.0.0:80",
) -> DeskListeners:
    """As on a box with these addresses and settings."""
    from portal import settings

    http = settings.load(
        Path("/nowhere"),
        {
            "PESISIR_HTTP_LISTEN": listen,
            "PESISIR_HTTP_URL": url,
            "PESISIR_HTTP_OPERATOR_LISTEN": ",".join(set_to),
        },
    ).http
    node = place.node
    known = [Interface(text) for text in (LOOPBACK, *interfaces)]
    return DeskListeners(http, node.admin, node.sessions, lambda: url, lambda: known)


def hosts(found: DeskListeners) -> list[str]:
    return [str(listen) for listen in found.wanted()]


def test_by_itself_it_opens_loopback_and_private_addresses_away_from_guests(place: Desk) -> None:
    found = listeners(place, GUESTS, OFFICE, PUBLIC, LINK_LOCAL)
    assert hosts(found) == ["127.0.0.1:8090", "192.168.7.2:8090"]


def test_a_box_on_the_guest_network_alone_opens_loopback_only(place: Desk) -> None:
    assert hosts(listeners(place, GUESTS)) == ["127.0.0.1:8090"]
    # Also when the residents' pages listen on a named address and have no url.
    named = listeners(place, OFFICE, url="http://127.0.0.1", listen="192.168.7.2:80")
    assert hosts(named) == ["127.0.0.1:8090"]


def test_a_network_with_a_gateway_or_a_phone_in_it_is_the_guests(place: Desk) -> None:
    node = place.node
    assert hosts(listeners(place, TUNNEL)) == ["127.0.0.1:8090", "10.8.0.1:8090"]
    place.do(node.admin.add_gateway("vpn", family="generic", address="10.8.3.0/24", site="TANJUNG"))
    try:
        found = listeners(place, TUNNEL)
        assert hosts(found) == ["127.0.0.1:8090"]
        assert found.guests_at(Interface(TUNNEL)) == "gateway vpn is in 10.8.0.0/16"
    finally:
        place.do(node.admin.remove_gateway("vpn"))


def test_what_is_set_is_what_is_opened(place: Desk) -> None:
    found = listeners(place, GUESTS, OFFICE, set_to=("10.2.0.2:9000", "127.0.0.1:9001"))
    assert hosts(found) == ["10.2.0.2:9000", "127.0.0.1:9001"]


@pytest.mark.parametrize(
    ("local", "peer", "is_open"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("192.168.7.2", "192.168.7.44", True),
        # A guest's packet that a router brings to the office's address.
        ("192.168.7.2", "10.1.0.77", False),
        ("192.168.7.2", "203.0.113.5", False),
        ("10.1.0.2", "10.1.0.77", False),
        ("::ffff:192.168.7.2", "::ffff:192.168.7.44", True),
        ("", "192.168.7.44", False),
        ("192.168.7.2", "", False),
    ],
)
def test_opened_by_itself_it_answers_neighbours_only(
    place: Desk, local: str, peer: str, is_open: bool
) -> None:
    found = listeners(place, GUESTS, OFFICE)
    assert found.is_open(local, peer, peer, is_tls=False) is is_open
    assert found.is_open(local, peer, peer, is_tls=True)


def test_a_gateway_added_later_closes_its_network(place: Desk) -> None:
    found = listeners(place, GUESTS, OFFICE)
    ask: Any = ("192.168.7.2", "192.168.7.44", "192.168.7.44")
    assert found.is_open(*ask, is_tls=False)
    place.do(
        place.node.admin.add_gateway(
            "baru", family="generic", address="192.168.7.1", site="TANJUNG"
        )
    )
    try:
        assert not found.is_open(*ask, is_tls=False)
    finally:
        place.do(place.node.admin.remove_gateway("baru"))


def test_a_named_address_is_served_to_all_but_phones_that_are_online(place: Desk) -> None:
    found = listeners(place, GUESTS, OFFICE, set_to=("10.1.0.2:8090",))
    assert found.is_open("10.1.0.2", "10.1.0.50", "10.1.0.50", is_tls=False)
    assert found.is_open("10.1.0.2", "172.16.0.9", "172.16.0.9", is_tls=False)
    # A gateway's own address may stand for every phone behind it.
    assert not found.is_open("10.1.0.2", "127.0.0.31", "10.1.0.9", is_tls=False)
    gateway = CounterGateway.at(place, "pos-tamu", "127.0.0.32")
    gateway.start("tamu-1", place.issue(site="TANJUNG")[1], "02a1b2c3d901")
    live = place.call(lambda: place.node.sessions.of_mac("02a1b2c3d901")[0])
    place.call(lambda: place.node.sessions.moved_to_ip(live, "10.1.0.50"))
    assert not found.is_open("10.1.0.2", "10.1.0.50", "10.1.0.50", is_tls=False)
    # Through a proxy on this machine it is the same phone.
    assert not found.is_open("127.0.0.1", "127.0.0.1", "10.1.0.50", is_tls=False)
    assert found.is_open("127.0.0.1", "127.0.0.1", "10.1.0.51", is_tls=False)
    # So guests are in that network: it is remembered when the phone has gone.
    assert not found.is_open("10.1.0.2", "10.1.0.51", "10.1.0.51", is_tls=False)
    gateway.end("tamu-1")
    assert not found.is_open("10.1.0.2", "10.1.0.51", "10.1.0.51", is_tls=False)
    assert found.is_open("10.1.0.2", "10.1.0.51", "10.1.0.51", is_tls=True)


def test_a_wildcard_stands_for_addresses_away_from_guests(place: Desk) -> None:
    found = listeners(place, GUESTS, OFFICE, set_to=("0.0.0.0:8090",))
    assert found.is_open("192.168.7.2", "192.168.9.9", "192.168.9.9", is_tls=False)
    assert not found.is_open("10.1.0.2", "10.1.0.50", "10.1.0.50", is_tls=False)


def test_a_wildcard_of_ipv6_opens_no_network_of_which_nobody_knows_who_is_in_it(
    place: Desk,
) -> None:
    found = listeners(place, GUESTS, OFFICE, set_to=("[::]:8090",))
    assert found.is_open("::1", "::1", "::1", is_tls=False)
    assert found.is_open("::ffff:192.168.7.2", "::ffff:192.168.7.9", "192.168.7.9", is_tls=False)
    assert not found.is_open("::ffff:10.1.0.2", "::ffff:10.1.0.50", "10.1.0.50", is_tls=False)
    # Every phone beside the box has such an address.
    assert not found.is_open("fe80::1%eth0", "fe80::50%eth0", "fe80::50", is_tls=False)
    named = listeners(place, GUESTS, OFFICE, set_to=("[fd00::2]:8090",))
    assert named.is_open("fd00::2", "fd00::9", "fd00::9", is_tls=False)
    assert found.warnings() == [
        "[::]:8090 does not open the desk on 10.1.0.2: phones reach the portal in 10.1.0.0/24"
    ]


def test_bad_places_are_warned_of(place: Desk) -> None:
    assert listeners(place, GUESTS, OFFICE).warnings() == []
    assert listeners(place, GUESTS, OFFICE, set_to=("192.168.7.2:8090",)).warnings() == []
    assert listeners(place, GUESTS, set_to=("10.1.0.2:8090",)).warnings() == [
        "the desk on 10.1.0.2:8090 is not encrypted, and phones reach the portal in 10.1.0.0/24"
    ]
    assert listeners(place, GUESTS, OFFICE, set_to=("0.0.0.0:8090",)).warnings() == [
        "0.0.0.0:8090 does not open the desk on 10.1.0.2: phones reach the portal in 10.1.0.0/24"
    ]


def test_the_addresses_of_this_machine_are_found() -> None:
    found = own_interfaces()
    assert any(one.ip.is_loopback and one.network.prefixlen == 8 for one in found)


# --- on real sockets


def test_the_residents_pages_say_that_the_desk_is_not_there(place: Desk) -> None:
    for path in ("/operator", "/operator/", "/operator/sign-in", "/operator/cards/A001-01"):
        for method in ("GET", "POST"):
            page = Browser().request(method, place.url + path)
            assert page.status == 404
            assert "Meja petugas tidak dibuka di sini" in page.text
            assert "<form" not in page.html
            assert page.headers["content-security-policy"].startswith("default-src 'none'")


def test_the_desks_listener_leads_to_the_desk_and_has_no_pages_for_residents(place: Desk) -> None:
    person = Person(place, "x")
    page = person.request("GET", "/")
    assert (page.status, page.headers["location"]) == (303, "/operator/")
    for path in ("/login", "/status", "/482917305515", "/metrics"):
        assert person.request("GET", path).status == 404


def test_the_ready_line_and_the_check_say_where_the_desk_is(place: Desk) -> None:
    assert f" desk={place.desk_url}/operator/" in place.call(place.service.ready_line)
    assert place.node.desk_urls == [f"{place.desk_url}/operator/"]


def test_a_port_that_is_taken_does_not_stop_a_node_whose_desk_is_not_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Desk
) -> None:
    taken = place.service.desk_addresses[0][1]
    listen = Listen("127.0.0.1", taken)
    monkeypatch.setattr(DeskListeners, "wanted", lambda self: [listen])
    with village(tmp_path, variables={"PESISIR_HTTP_OPERATOR_LISTEN": ""}) as other:
        host, port, _ = other.service.desk_addresses[0]
        assert (host, port != taken) == ("127.0.0.1", True)
        page = Browser().get(f"http://{host}:{port}/operator/")
        assert "Masuk" in page.text

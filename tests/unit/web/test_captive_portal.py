"""The RADIUS checklist B.1 (Captive Portal API, RFC 8908 and 8910), item by item, over real sockets
and TLS; what a phone is told in each state is in tests/unit/aaa/test_captivity.py.
"""

import http.client
import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portal import gateway_config
from portal.certificates import announcement
from portal.practice.gateway import PracticeGateway
from portal.practice.phone import Phone
from radius.nas import family_names
from tests.unit.certificates import DAY_S, HOST, Authority, phone, put
from tests.unit.web.village import NOON_AT, Browser, Village, open_internet, village

URL = f"https://{HOST}"
PROXY = "127.0.0.9"
"""Stands for the addresses of phones, which no test can have."""
CAPTIVE_JSON = "application/captive+json"
KEYS = {
    "captive": bool,
    "user-portal-url": str,
    "venue-info-url": str,
    "can-extend-session": bool,
    "seconds-remaining": int,
    "bytes-remaining": int,
}
"""RFC 8908 5 and the IANA registry."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    found = Authority()
    file = tmp_path_factory.mktemp("machine") / "authorities.pem"
    file.write_bytes(found.pem)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(file))
        yield found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Village]:
    """A village at level 1."""
    directory = tmp_path_factory.mktemp("node")
    put(directory, authority.issue(until_at=NOON_AT + 60 * DAY_S))
    variables = {
        "PESISIR_HTTP_LISTEN": '["127.0.0.1:0", "https://127.0.0.1:0"]',
        "PESISIR_HTTP_URL": URL,
        "PESISIR_HTTP_TLS_CERT": "cert.pem",
        "PESISIR_HTTP_TLS_KEY": "key.pem",
        "PESISIR_HTTP_TRUSTED_PROXIES": f'["{PROXY}"]',
        "PESISIR_BACKHAUL_PROBES": '["127.0.0.1:9"]',
    }
    with village(directory, variables=variables) as found:
        yield found


@pytest.fixture
def gateway(place: Village) -> Iterator[PracticeGateway]:
    """A gateway that is alone: two with one guest network could not be told apart."""
    found = place.add_gateway()
    yield found
    for one in found.phones:
        if one.session is not None:
            place.do(found.logoff(one))
    place.do(found.settled())


class Answer:
    """What the API said."""

    def __init__(self, response: http.client.HTTPResponse, took_s: float) -> None:
        self.status, self.headers, self.took_s = response.status, response.headers, took_s
        self.body = response.read()

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


def ask(
    place: Village,
    context: ssl.SSLContext | None,
    source: str = "10.99.0.1",
    *,
    host: str = HOST,
    path: str = "/captive-portal/api",
    method: str = "GET",
) -> Answer:
    """Ask the API as the phone at `source`; over TLS with a context, else in clear."""
    address = next(
        (host, port)
        for host, port, is_tls in place.service.http_addresses
        if is_tls is (context is not None)
    )
    connection = http.client.HTTPConnection(*address, timeout=60, source_address=(PROXY, 0))
    connection.connect()
    if context is not None:
        connection.sock = context.wrap_socket(connection.sock, server_hostname=HOST)
    began_s = time.monotonic()
    connection.request(
        method, path, headers={"host": host, "accept": CAPTIVE_JSON, "x-forwarded-for": source}
    )
    answer = Answer(connection.getresponse(), time.monotonic() - began_s)
    connection.close()
    return answer


def log_in(place: Village, gateway: PracticeGateway, profile: str = "harian") -> Phone:
    found = gateway.phones[0]
    browser = Browser()
    page = browser.submit(open_internet(browser, gateway, found), kode=place.issue(profile)[0])
    assert "Berhasil." in page.text
    place.do(gateway.settled())
    return found


@pytest.fixture
def trusting(authority: Authority) -> ssl.SSLContext:
    return phone(authority)


def test_item_62_the_answer_is_captive_json_with_the_keys_of_the_rfc(
    place: Village, gateway: PracticeGateway, trusting: ssl.SSLContext
) -> None:
    captive = ask(place, trusting)
    assert captive.status == 200 and captive.headers["content-type"] == CAPTIVE_JSON
    assert captive.json == {"captive": True, "user-portal-url": f"{URL}/"}
    found = log_in(place, gateway)
    online = ask(place, trusting, found.ip)
    assert online.status == 200 and online.headers["content-type"] == CAPTIVE_JSON
    assert online.json == {
        "captive": False,
        "user-portal-url": f"{URL}/",
        "venue-info-url": f"{URL}/status",
        "can-extend-session": True,
        "seconds-remaining": 7_200,
        "bytes-remaining": 500_000_000,
    }
    for answer in (captive, online):
        for key, value in answer.json.items():
            assert type(value) is KEYS[key], key


def test_item_62_remaining_keys_stand_only_where_there_is_a_limit(
    place: Village, gateway: PracticeGateway, trusting: ssl.SSLContext
) -> None:
    place.set_profile("bebas", rate_down="2M")
    found = log_in(place, gateway, "bebas")
    assert set(ask(place, trusting, found.ip).json) == {
        *("captive", "user-portal-url", "venue-info-url", "can-extend-session")
    }


def test_item_63_the_api_is_https_under_a_name_that_the_certificate_has(
    place: Village, trusting: ssl.SSLContext
) -> None:
    # `trusting` checks chain and name, as a phone does.
    assert ask(place, trusting).status == 200
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(place, phone(Authority()))
    http_settings = place.node.settings.http
    told = announcement(http_settings.url, http_settings.tls_cert, place.node.now())
    assert told.uri == f"{URL}/captive-portal/api"
    # No literal address in the URI.
    for url in ("https://10.1.0.2", "https://[fd00::2]"):
        assert announcement(url, http_settings.tls_cert, place.node.now()).uri is None


def test_item_64_the_answer_is_for_one_phone_small_quick_and_without_cookies(
    place: Village, gateway: PracticeGateway, trusting: ssl.SSLContext
) -> None:
    found = log_in(place, gateway)
    for source in ("10.99.0.1", found.ip):
        ask(place, trusting, source)
        answer = ask(place, trusting, source)
        assert answer.status == 200
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["vary"] == "Accept"
        assert "set-cookie" not in answer.headers and "location" not in answer.headers
        assert len(answer.body) <= 1_024
        head = sum(len(name) + len(value) + 4 for name, value in answer.headers.items())
        assert head + len(answer.body) < 4_096
        # One of them may have waited for the machine; the answer itself is quick.
        assert min(ask(place, trusting, source).took_s for _ in range(5)) < 0.3
        assert ask(place, trusting, source, method="HEAD").body == b""


def test_item_65_a_phone_is_known_by_its_address_and_by_nothing_it_says(
    place: Village, gateway: PracticeGateway, trusting: ssl.SSLContext
) -> None:
    found = log_in(place, gateway)
    assert ask(place, trusting, found.ip).json["captive"] is False
    for query in (f"?mac={found.mac}", f"?ip={found.ip}", "?nasid=pos-1&res=success&k=x&f=x"):
        answer = ask(place, trusting, "10.99.0.1", path="/captive-portal/api" + query)
        assert answer.json == {"captive": True, "user-portal-url": f"{URL}/"}
    # Behind a gateway that hides phones all come from its own address.
    hidden = ask(place, trusting, "127.0.0.1")
    assert hidden.json == {"captive": True, "user-portal-url": f"{URL}/"}


def test_item_66_gateways_announce_one_uri_and_only_while_phones_trust_it(
    place: Village, authority: Authority, tmp_path: Path
) -> None:
    node, until_at = place.node, NOON_AT + 60 * DAY_S
    uri = f"{URL}/captive-portal/api"
    assert len(uri.encode()) <= 255 and "\0" not in uri
    announcing = set()
    for number, name in enumerate(sorted(family_names())):
        gateway = place.do(
            node.admin.add_gateway(
                f"umum-{name}",
                family=name,
                address=f"10.88.0.{number + 1}",
                nas_id=f"umum-{name}",
            )
        )
        options = {"radius_host": "10.1.0.2", "portal_address": "10.1.0.2"}
        if name == "opennds":
            place.do(node.admin.remove_gateway(gateway.name))
            continue  # it announces itself, or is told not to: its own configuration's test
        for at, is_told in (
            (NOON_AT, True),
            (until_at - 7 * DAY_S, True),
            (until_at - 7 * DAY_S + 1, False),
            (until_at + 1, False),
        ):
            files = gateway_config.render(node.admin, gateway, node.settings, options, now=at)
            text = "\n".join(file["text"] for file in files)
            if uri in text:
                announcing.add(name)
                assert is_told, f"{name} announces what ends within seven days"
            assert text.replace(uri, "").count("/captive-portal/api") == 0, "another URI"
        place.do(node.admin.remove_gateway(gateway.name))
    assert announcing == {"coova", "mikrotik", "uspot", "generic"}


def test_item_67_it_follows_the_login_and_the_end_within_seconds(
    place: Village, gateway: PracticeGateway, trusting: ssl.SSLContext
) -> None:
    def flips_to(ip: str, is_captive: bool) -> None:
        began_s = time.monotonic()
        while ask(place, trusting, ip).json["captive"] is not is_captive:
            assert time.monotonic() - began_s < 10
            time.sleep(0.02)

    ip = gateway.phones[0].ip
    flips_to(ip, True)
    found = log_in(place, gateway)
    assert found.ip == ip
    flips_to(ip, False)
    place.do(gateway.logoff(found))
    flips_to(ip, True)
    # Used up: its gateway cuts it.
    log_in(place, gateway)
    flips_to(ip, False)
    place.do(gateway.download(found, 600_000_000))
    place.do(gateway.settled())
    flips_to(ip, True)
    # The time runs out.
    place.set_profile("sejam", time_total="1h")
    log_in(place, gateway, "sejam")
    assert ask(place, trusting, ip).json["seconds-remaining"] == 3_600
    place.do(gateway.skip(found, 3_601))
    place.do(gateway.settled())
    flips_to(ip, True)


def test_item_67_plain_http_leads_to_https_under_the_name_and_answers_elsewhere(
    place: Village, gateway: PracticeGateway
) -> None:
    direct = Browser().request(
        "GET", f"{place.url}/captive-portal/api", headers={"host": HOST, "accept": CAPTIVE_JSON}
    )
    assert direct.status == 308
    assert direct.headers["location"] == f"{URL}/captive-portal/api"
    assert direct.headers["cache-control"] == "no-store"
    # By an address, as at level 0: the truth too, and the portal's address with TLS.
    found = log_in(place, gateway)
    answer = ask(place, None, found.ip, host="127.0.0.1")
    assert (answer.status, answer.json["captive"]) == (200, False)
    assert answer.json["user-portal-url"] == f"{URL}/"


def test_item_68_probes_go_on_working_beside_the_api(
    place: Village, trusting: ssl.SSLContext
) -> None:
    assert ask(place, trusting).json["captive"] is True
    for host, path in (
        ("connectivitycheck.gstatic.com", "/generate_204"),
        ("captive.apple.com", "/hotspot-detect.html"),
        ("www.msftconnecttest.com", "/connecttest.txt"),
    ):
        page = Browser().request("GET", place.url + path, headers={"host": host})
        assert page.status == 302 and page.headers["location"] == f"{URL}/"
        assert len(page.body) > 4


def test_with_the_link_down_the_api_still_says_who_is_in(
    place: Village, gateway: PracticeGateway, trusting: ssl.SSLContext
) -> None:
    async def fail() -> None:
        for _ in range(3):
            await place.node.backhaul.look()

    found = log_in(place, gateway)
    place.do(fail())
    assert place.node.backhaul.state == "down"
    assert ask(place, trusting, found.ip).json["captive"] is False
    assert ask(place, trusting).json == {"captive": True, "user-portal-url": f"{URL}/"}


def test_a_phone_that_its_gateway_sends_here_is_captive_whatever_was_last_heard(
    place: Village, gateway: PracticeGateway, trusting: ssl.SSLContext
) -> None:
    found = log_in(place, gateway)
    arrival = f"{place.url}/?" + gateway.arrival_url(found).partition("?")[2]
    assert ask(place, trusting, found.ip).json["captive"] is False
    place.pass_time(10)
    headers = {"x-forwarded-for": found.ip}
    # Forged: the signature does not fit.
    forged = arrival.replace("md=", "md=0")
    Browser(source=PROXY).request("GET", forged, headers=headers)
    assert ask(place, trusting, found.ip).json["captive"] is False
    assert "res=notyet" in arrival
    Browser(source=PROXY).request("GET", arrival, headers=headers)
    assert ask(place, trusting, found.ip).json["captive"] is True
    place.pass_time(10)
    place.do(gateway.interim(found))
    assert ask(place, trusting, found.ip).json["captive"] is False


def test_at_level_0_every_listener_says_it_with_its_own_address(tmp_path: Path) -> None:
    variables = {"PESISIR_HTTP_LISTEN": '["127.0.0.1:0", "127.0.0.2:0"]'}
    with village(tmp_path, variables=variables) as found:
        for host, port, _ in found.service.http_addresses:
            own = f"http://{host}:{port}"
            answer = Browser().request("GET", f"{own}/captive-portal/api")
            assert answer.status == 200
            assert json.loads(answer.body) == {"captive": True, "user-portal-url": f"{own}/"}

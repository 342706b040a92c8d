"""What a gateway's redirect is believed, and what it can never do: carry a phone to a stranger,
show a status without a signature, or write into a page."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, quote, urljoin, urlsplit

import pytest
from starlette.requests import Request

from portal.practice.gateway import PracticeGateway
from portal.setting_values import networks_of
from portal.web.arrivals import (
    client_address,
    code_in_path,
    nearest_gateway,
    read_return,
)
from tests.unit.web.village import UAM_SECRET, Browser, Page, Village, open_internet, village


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Village]:
    with village(tmp_path_factory.mktemp("node")) as found:
        yield found


@pytest.fixture
def gateway(place: Village) -> PracticeGateway:
    return place.add_gateway()


def log_in(place: Village, gateway: PracticeGateway) -> tuple[Page, str]:
    code, serial = place.issue()
    browser = Browser()
    page = browser.submit(open_internet(browser, gateway, gateway.phones[0]), kode=code)
    assert "Berhasil." in page.text
    return page, serial


def already(place: Village, gateway: PracticeGateway) -> str:
    """The gateway's redirect of its first phone, which is online."""
    return place.call(lambda: gateway.prelogin(gateway.phones[0]))


def test_a_signed_arrival_shows_the_status_of_its_phone(
    place: Village, gateway: PracticeGateway
) -> None:
    _, serial = log_in(place, gateway)
    page = Browser().get(already(place, gateway))
    assert serial in page.text and "Internet menyala" in page.text


@pytest.mark.parametrize("spoil", ["no md", "wrong md", "other phone", "behind md"])
def test_where_the_gateway_signs_an_unsigned_arrival_shows_no_status(
    place: Village, gateway: PracticeGateway, spoil: str
) -> None:
    _, serial = log_in(place, gateway)
    url = already(place, gateway)
    mac = gateway.phones[0].calling_station_id
    assert mac in url
    text, md = url.split("&md=")
    bad = {
        "no md": text,
        "wrong md": f"{text}&md={'0' * 32}",
        "other phone": f"{text}&md={md}".replace("res=already", "res=success"),
        "behind md": f"{url}&x=1",
    }[spoil]
    page = Browser().get(bad)
    assert page.status == 200
    assert serial not in page.html and "500 MB" not in page.html.replace("\xa0", " ")


def test_an_unsigned_arrival_still_logs_in(place: Village, gateway: PracticeGateway) -> None:
    phone = gateway.phones[0]
    code, _ = place.issue()
    url = place.call(lambda: gateway.arrival_url(phone)).split("&md=")[0]
    page = Browser().submit(Browser().get(url), kode=code)
    assert "Berhasil." in page.text and phone.session is not None


def test_an_unsigned_login_does_not_teach_where_a_signing_gateway_is(
    place: Village, gateway: PracticeGateway
) -> None:
    """Somebody with a card writes a machine of theirs into the arrival, and goes on by hand."""
    phone = gateway.phones[0]
    code, _ = place.issue()
    real = place.call(lambda: gateway.arrival_url(phone)).split("&md=")[0]
    port = parse_qs(urlsplit(real).query)["uamport"][0]
    browser = Browser()
    form = browser.get(real.replace(f"uamport={port}", "uamport=9"))
    assert form.action is not None
    sent = browser.post(urljoin(form.url, form.action), {**form.fields, "kode": code})
    hand_off = sent.headers["location"]
    assert hand_off.startswith("http://127.0.0.1:9/logon?")
    browser.get(hand_off.replace("127.0.0.1:9/", f"127.0.0.1:{port}/"))
    assert phone.session is not None
    page = browser.get(parse_qs(urlsplit(hand_off).query)["userurl"][0])
    assert "Berhasil." in page.text
    known = [found.login_base for found in place.call(place.node.door.gateways)]
    assert "http://127.0.0.1:9" not in known


def test_without_a_uam_secret_a_phone_finds_its_status_by_its_link(place: Village) -> None:
    gateway = place.add_gateway(uam_secret=None)
    page, serial = log_in(place, gateway)
    assert "500 MB dari 500 MB" in page.text.replace("\xa0", " ")
    browser = Browser()
    assert serial in browser.click(page, "Lihat sisa kuota").text
    # The gateway brings the link back as userurl as well.
    assert serial in browser.get(already(place, gateway)).text
    # Another phone's word about its MAC is no link.
    other = already(place, gateway).replace(quote(page.url.split("userurl=")[1], safe="%"), "")
    assert serial not in browser.get(other.split("userurl=")[0] + "userurl=").text


def test_a_link_of_one_phone_does_not_speak_for_another(place: Village) -> None:
    gateway = place.add_gateway()
    first, other = gateway.phones
    code, serial = place.issue()
    browser = Browser()
    page = browser.submit(open_internet(browser, gateway, first), kode=code)
    link = parse_qs(urlsplit(page.url).query)["userurl"][0]
    browser.submit(open_internet(browser, gateway, other), kode=place.issue()[0])
    url = place.call(lambda: gateway.prelogin(other, f"userurl={quote(link, safe='')}"))
    assert serial not in browser.get(url).text


def test_an_arrival_is_one_on_any_path(place: Village) -> None:
    gateway = place.add_gateway(path="/portal/masuk")
    _, serial = log_in(place, gateway)
    assert "/portal/masuk?" in already(place, gateway)
    assert serial in Browser().get(already(place, gateway)).text


def test_an_arrival_is_one_under_any_host_and_signs_that_host(place: Village) -> None:
    gateway = place.add_gateway()
    phone = gateway.phones[0]
    port = urlsplit(place.url).port
    # The gateway was told a name that the node does not know.
    gateway.uam = type(gateway.uam)(
        gateway.uam.host,
        gateway.uam.mac,
        gateway.uam.nas_id,
        f"http://wifi.desa:{port}/",
        UAM_SECRET,
        2,
    )
    url = place.call(lambda: gateway.arrival_url(phone)).replace("wifi.desa", "127.0.0.1")
    page = Browser().get(url, headers={"host": f"wifi.desa:{port}"})
    assert page.action == "/login"
    code, _ = place.issue()
    answer = Browser().post(place.url + "/login", {**page.fields, "kode": code})
    assert answer.headers["location"].startswith(f"http://127.0.0.1:{phone.port}/logon?")


def test_an_arrival_under_a_host_that_is_none_is_a_page(
    place: Village, gateway: PracticeGateway
) -> None:
    url = place.call(lambda: gateway.arrival_url(gateway.phones[0]))
    assert Browser().get(url, headers={"Host": "[::1"}).status == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("uamip", "8.8.8.8"),
        ("uamip", "evil.example"),
        ("uamip", "127.0.0.1%40evil.example"),
        ("uamport", "0"),
        ("uamport", "99999"),
        ("challenge", "zz"),
    ],
)
def test_a_redirect_to_a_stranger_is_a_helpful_page_and_leads_nowhere(
    place: Village, gateway: PracticeGateway, name: str, value: str
) -> None:
    url = place.call(lambda: gateway.arrival_url(gateway.phones[0]))
    bad = re.sub(f"([?&]{name}=)[^&]*", rf"\g<1>{value}", url)
    assert bad != url
    page = Browser().request("GET", bad)
    assert page.status == 400
    assert "Alamat halaman ini tidak lengkap." in page.text
    assert "evil" not in page.html and "8.8.8.8" not in page.html
    assert page.action is None


def test_nothing_from_an_arrival_stands_unescaped_in_a_page(
    place: Village, gateway: PracticeGateway
) -> None:
    url = place.call(lambda: gateway.arrival_url(gateway.phones[0])).split("&userurl=")[0]
    attack = quote('"><script>alert(1)</script>', safe="")
    for name in ("userurl", "reply", "uid", "nasid", "mac", "lang", "huruf", "f", "k", "sessionid"):
        page = Browser().get(f"{url}&{name}={attack}")
        assert "<script" not in page.html, name
        assert "alert(1)" not in page.html, name


def test_an_unknown_gateway_gets_a_helpful_page(tmp_path: Path) -> None:
    with village(tmp_path) as place:
        first = place.add_gateway(address="127.0.0.2")
        url = place.call(lambda: first.arrival_url(first.phones[0])).split("&md=")[0]
        page = Browser().get(url.replace(first.uam.nas_id, "lain"))
        assert page.status == 200
        assert "Alat WiFi ini belum terdaftar." in page.text and page.action is None
        # The one gateway there is takes an arrival that names nobody.
        page = Browser().get(url.replace(f"&nasid={first.uam.nas_id}", ""))
        assert page.action == "/login"


def test_a_loopback_login_is_only_for_a_gateway_at_a_loopback_address(place: Village) -> None:
    place.do(
        place.node.admin.add_gateway(
            "jauh", family="coova", address="10.99.0.1", nas_id="jauh", uam_secret="none"
        )
    )
    query = "res=notyet&uamport=3990&nasid=jauh&mac=02-00-00-00-00-01&uamip="
    assert Browser().get(f"{place.url}/?{query}127.0.0.1").status == 400
    assert Browser().get(f"{place.url}/?{query}10.1.0.1").status == 200


# --- MikroTik -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mikrotik(place: Village) -> str:
    place.do(
        place.node.admin.add_gateway(
            "dermaga", family="mikrotik", address="10.5.0.1", nas_id="dermaga", uam_secret="none"
        )
    )
    return (
        f"{place.url}/?login=http%3A%2F%2F10.5.50.1%2Flogin&mac=02%3AA1%3AB2%3AC3%3AD4%3A99"
        "&ip=10.5.50.7&nas=dermaga&orig=http%3A%2F%2Fdetectportal.firefox.com%2F"
    )


def test_mikrotik_takes_the_hand_off_at_its_login_page(place: Village, mikrotik: str) -> None:
    code, serial = place.issue()
    browser = Browser()
    form = browser.get(mikrotik)
    assert "form-action 'self'" in form.headers["content-security-policy"]
    assert "http://10.5.50.1" in form.headers["content-security-policy"]
    answer = browser.post(place.url + "/login", {**form.fields, "kode": code})
    assert answer.status == 303
    location = urlsplit(answer.headers["location"])
    assert f"{location.scheme}://{location.netloc}{location.path}" == "http://10.5.50.1/login"
    fields = parse_qs(location.query, strict_parsing=True)
    assert fields["username"] == [serial] and len(fields["password"][0]) >= 16
    assert "+" not in location.query and code not in location.query
    # The router sends the phone on to `dst`: that page finds its card by the link.
    page = browser.get(fields["dst"][0])
    assert "Berhasil." in page.text and "500 MB" in page.text.replace("\xa0", " ")


def test_a_refusal_of_mikrotik_keeps_the_code_and_tries_once_more(
    place: Village, mikrotik: str
) -> None:
    code, _ = place.issue()
    browser = Browser()
    form = browser.get(mikrotik)
    answer = browser.post(place.url + "/login", {**form.fields, "kode": code})
    back = parse_qs(urlsplit(answer.headers["location"]).query)["dst"][0]
    refused = mikrotik.split("&orig=")[0] + f"&orig={quote(back, safe='')}&err="
    silent = browser.request("GET", refused + quote("RADIUS server is not responding"))
    assert silent.status == 200
    assert "Alat WiFi belum menjawab." in silent.alert and silent.fields["kode"]
    answer = browser.post(place.url + "/login", {**silent.fields, "kode": code})
    back = parse_qs(urlsplit(answer.headers["location"]).query)["dst"][0]
    refused = mikrotik.split("&orig=")[0] + f"&orig={quote(back, safe='')}&err="
    again = browser.request("GET", refused + quote("invalid username or password"))
    assert again.status == 303 and again.headers["location"].startswith("http://10.5.50.1/login?")
    # The same redirect a second time is not obeyed: the link was for one try.
    page = browser.request("GET", refused + quote("invalid username or password"))
    assert page.status == 200 and "Kartu Anda tidak salah." in page.alert


def test_a_limit_of_the_router_itself_is_not_tried_again(place: Village, mikrotik: str) -> None:
    code, _ = place.issue()
    browser = Browser()
    form = browser.get(mikrotik)
    answer = browser.post(place.url + "/login", {**form.fields, "kode": code})
    back = parse_qs(urlsplit(answer.headers["location"]).query)["dst"][0]
    error = quote("no more sessions are allowed for user x")
    page = browser.request(
        "GET", mikrotik.split("&orig=")[0] + f"&orig={quote(back, safe='')}&err={error}"
    )
    assert page.status == 200
    assert "Alat WiFi sedang membatasi kartu Anda." in page.alert and page.fields["kode"]


def test_online_by_the_gateways_word_alone_still_has_a_way_out(place: Village) -> None:
    gateway = place.add_gateway(uam_secret=None)
    log_in(place, gateway)
    page = Browser().get(already(place, gateway).split("userurl=")[0] + "userurl=")
    assert "HP ini sudah masuk" in page.text and "500 MB" not in page.text.replace("\xa0", " ")
    phone = gateway.phones[0]
    assert page.links["Keluar"] == f"http://127.0.0.1:{phone.port}/logoff"


def test_a_head_takes_nothing_away(place: Village) -> None:
    gateway = place.add_gateway()
    phone = gateway.phones[0]
    code, _ = place.issue()
    browser = Browser()
    form = open_internet(browser, gateway, phone)
    place.pass_time(9 * 60)
    away = browser.post(place.url + "/login", {**form.fields, "kode": code})
    arrival = browser.request("GET", away.headers["location"]).headers["location"]
    assert browser.request("HEAD", arrival).status == 200
    assert "Berhasil." in browser.get(arrival).text


def test_behind_a_proxy_phones_are_sent_to_the_configured_address(tmp_path: Path) -> None:
    variables = {
        "PESISIR_HTTP_TRUSTED_PROXIES": '["127.0.0.1"]',
        "PESISIR_HTTP_URL": "https://wifi.desa.id",
    }
    with village(tmp_path, variables=variables) as place:
        headers = {"host": "wifi.desa.id", "x-forwarded-for": "10.77.0.1"}
        browser = Browser()
        probe = browser.request("GET", place.url + "/generate_204", headers=headers)
        assert probe.headers["location"] == "https://wifi.desa.id/"
        form = browser.request("GET", place.url + "/", headers=headers)
        assert form.action == "/login"
        assert "https://wifi.desa.id" in form.headers["content-security-policy"]


def test_a_phone_that_was_not_let_back_in_reads_why(place: Village) -> None:
    gateway = place.add_gateway()
    phone = gateway.phones[0]
    code, _ = place.issue()
    browser = Browser()
    browser.submit(open_internet(browser, gateway, phone), kode=code)
    place.do(gateway.download(phone, 600_000_000))
    place.do(gateway.sleep_phone(phone))
    assert not place.do(gateway.wake_phone(phone))
    why = "Data di kartu ini sudah habis. Bisa dipakai lagi besok pukul 00.00 WITA."
    page = open_internet(browser, gateway, phone)
    assert page.action == "/login" and why in page.text.replace("\xa0", " ")
    unsigned = browser.get(place.call(lambda: gateway.arrival_url(phone)).split("&md=")[0])
    assert unsigned.action == "/login" and "habis" not in unsigned.text


# --- the parts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "forwarded", "seen"),
    [
        ("10.1.0.9", "1.2.3.4", "10.1.0.9"),
        ("127.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("127.0.0.1", "6.6.6.6, 10.8.0.3, 127.0.0.1", "10.8.0.3"),
        ("127.0.0.1", "junk", "127.0.0.1"),
        ("127.0.0.1", None, "127.0.0.1"),
        ("::ffff:10.1.0.9", None, "10.1.0.9"),
    ],
)
def test_forwarded_for_is_believed_from_trusted_proxies_only(
    peer: str, forwarded: str | None, seen: str
) -> None:
    headers = [] if forwarded is None else [(b"x-forwarded-for", forwarded.encode())]
    scope = {"type": "http", "client": (peer, 1), "headers": headers}
    assert client_address(Request(scope), networks_of(["127.0.0.1"])) == seen


@dataclass(frozen=True)
class Placed:
    """A gateway as far as nearness goes."""

    id: int
    address: str
    login_base: str | None


@pytest.mark.parametrize(
    ("source", "gateways", "nearest"),
    [
        ("10.1.3.7", [Placed(1, "10.20.0.1", "http://10.1.0.1:3990")], 1),
        ("10.20.0.1", [Placed(1, "10.20.0.1", "http://10.1.0.1:3990")], 1),
        ("192.168.1.7", [Placed(1, "10.20.0.1", "http://10.1.0.1:3990")], None),
        ("10.1.3.7", [Placed(1, "10.20.0.1", None)], None),
        (
            "10.2.0.9",
            [
                Placed(1, "10.20.0.1", "http://10.1.0.1:3990"),
                Placed(2, "10.20.0.2", "http://10.2.0.1:3990"),
            ],
            2,
        ),
        (
            "10.1.0.9",
            [
                Placed(1, "10.20.0.1", "http://10.1.0.1:3990"),
                Placed(2, "10.20.0.2", "http://10.1.0.1:3990"),
            ],
            None,
        ),
        ("", [Placed(1, "10.20.0.1", "http://10.1.0.1:3990")], None),
    ],
)
def test_a_phone_without_an_arrival_stands_behind_the_gateway_of_its_network(
    source: str, gateways: list[Placed], nearest: int | None
) -> None:
    found = nearest_gateway(source, gateways)  # type: ignore[arg-type]
    assert (None if found is None else found.id) == nearest


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/482917305515", "482917305515"),
        ("/v/482917305515", "482917305515"),
        ("/4829-1730-5515", "482917305515"),
        ("/482917305514", None),
        ("/v/482917305515/x", None),
        ("/status", None),
        ("/", None),
    ],
)
def test_a_code_in_a_path(path: str, code: str | None) -> None:
    assert code_in_path(path) == code


def test_only_our_own_addresses_say_anything() -> None:
    ours = ["http://10.1.0.1:8080"]
    assert read_return("http://10.1.0.1:8080/482917305515", ours).code == "482917305515"
    for foreign in (
        "http://10.1.0.1/482917305515",
        "http://10.1.0.1:8080@evil.example/482917305515",
        "https://10.1.0.1:8080/482917305515",
        "//10.1.0.1:8080/482917305515",
        "http://[broken/482917305515",
        None,
    ):
        found = read_return(foreign, ours)
        assert (found.code, found.link, found.nonce) == (None, None, None)

"""What is left: how a phone finds it, and what the page says."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.domain.quota import Reason, WindowLeft
from portal.domain.voucher import State
from portal.door import Problem
from portal.grants import VoucherStatus
from portal.practice.gateway import PracticeGateway
from portal.web.sentences import end_key, facts, gauges, trouble, warning
from portal.web.text import Texts
from tests.unit.web.village import NOON_AT, Browser, Page, Village, open_internet, village

T = Texts().translator("id")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Village]:
    with village(
        tmp_path_factory.mktemp("node"),
        variables={"PESISIR_HTTP_TRUSTED_PROXIES": '["127.0.0.9"]'},
    ) as found:
        yield found


@pytest.fixture
def gateway(place: Village) -> PracticeGateway:
    return place.add_gateway()


def log_in(place: Village, gateway: PracticeGateway, profile: str = "harian") -> tuple[Page, str]:
    code, serial = place.issue(profile)
    browser = Browser()
    page = browser.submit(open_internet(browser, gateway, gateway.phones[0]), kode=code)
    assert "Berhasil." in page.text
    return browser.click(page, "Lihat sisa kuota"), serial


def plain(text: str) -> str:
    return text.replace("\xa0", " ")


def test_usage_is_seen_when_the_gateway_reports_it(
    place: Village, gateway: PracticeGateway
) -> None:
    status, serial = log_in(place, gateway)
    phone = gateway.phones[0]
    place.do(gateway.download(phone, 120_000_000))
    place.do(gateway.upload(phone, 30_000_000))
    place.do(gateway.skip(phone, 3_600))
    place.do(gateway.interim(phone))
    page = Browser().click(status, "Perbarui")
    assert "Sisa data hari ini 350 MB dari 500 MB." in plain(page.text)
    assert "Sisa waktu hari ini 1 jam dari 2 jam." in plain(page.text)
    assert "Penuh lagi besok pukul 00.00 WITA." in plain(page.text)
    assert f"{serial} (**** **** " in page.text


def test_a_warning_stands_from_four_fifths_on(place: Village, gateway: PracticeGateway) -> None:
    status, _ = log_in(place, gateway)
    phone = gateway.phones[0]
    place.do(gateway.download(phone, 399_000_000))
    place.do(gateway.interim(phone))
    assert "hampir habis" not in Browser().click(status, "Perbarui").text
    place.do(gateway.download(phone, 2_000_000))
    place.do(gateway.interim(phone))
    assert "Data hampir habis: sisa 99 MB." in plain(Browser().click(status, "Perbarui").text)


def test_the_quota_of_one_session_is_told_while_it_runs(
    place: Village, gateway: PracticeGateway
) -> None:
    place.set_profile("sekali", data_session="5MB", time_session="1h")
    status, serial = log_in(place, gateway, "sekali")
    phone = gateway.phones[0]
    place.do(gateway.download(phone, 2_000_000))
    place.do(gateway.skip(phone, 600))
    place.do(gateway.interim(phone))
    text = plain(Browser().click(status, "Perbarui").text)
    assert "Sisa data kali ini 3 MB dari 5 MB." in text
    assert "Sisa waktu kali ini 50 menit dari 1 jam." in text
    assert "tanpa batas" not in text
    shown = place.call(lambda: place.node.vouchers.show(serial))
    assert (shown["octets_left"], shown["seconds_left"]) == (3_000_000, 3_000)
    assert shown["resets_at"] is None
    # The next session has all of it again.
    place.do(gateway.logoff(phone))
    place.do(gateway.settled())
    shown = place.call(lambda: place.node.vouchers.show(serial))
    assert (shown["octets_left"], shown["seconds_left"]) == (5_000_000, 3_600)
    assert (shown["octets_used"], shown["seconds_used"]) == (2_000_000, 600)


def test_a_phone_is_known_by_the_address_of_its_session(
    place: Village, gateway: PracticeGateway
) -> None:
    _, serial = log_in(place, gateway)
    phone = gateway.phones[0]
    phone_address = {"x-forwarded-for": phone.ip}
    proxy = Browser(source="127.0.0.9")
    # Several gateways of this village hand out the same addresses: then nobody can be told.
    alone = place.call(lambda: len(place.node.sessions.at_ip(phone.ip)) == 1)
    page = proxy.get(f"{place.url}/", headers=phone_address)
    assert (serial in page.text) == alone
    stranger = Browser(source="127.0.0.10").get(f"{place.url}/", headers=phone_address)
    assert serial not in stranger.text and stranger.action == "/login"


def test_every_page_resumes_without_a_cookie(tmp_path: Path) -> None:
    with village(tmp_path, variables={"PESISIR_HTTP_TRUSTED_PROXIES": '["127.0.0.9"]'}) as place:
        gateway = place.add_gateway()
        _, serial = log_in(place, gateway)
        phone = gateway.phones[0]
        proxy = Browser(source="127.0.0.9")
        address = {"x-forwarded-for": phone.ip}
        for path in ("/", "/status", "/connected"):
            assert "500 MB" in plain(proxy.get(place.url + path, headers=address).text)
        asked = proxy.get(f"{place.url}/logout", headers=address)
        assert asked.fields["e"]
        api = proxy.request("GET", f"{place.url}/captive-portal/api", headers=address)
        assert b'"captive":false' in api.body
        place.do(gateway.logoff(phone))
        place.do(gateway.settled())
        page = proxy.get(f"{place.url}/status", headers=address)
        assert page.action == "/login" and "HP ini belum masuk." in page.text
        assert serial not in page.text


def test_the_link_shows_why_the_last_session_ended(
    place: Village, gateway: PracticeGateway
) -> None:
    status, _ = log_in(place, gateway)
    place.do(gateway.sleep_phone(gateway.phones[0]))
    place.do(gateway.settled())
    place.pass_time(300)
    page = Browser().click(status, "Perbarui")
    assert "Kartu ini sedang tidak dipakai" in page.text
    assert "HP lama tidak memakai internet" in page.text
    assert "Masuk dengan kartu" in page.text and page.action is None


def test_status_without_a_card_offers_the_form(place: Village) -> None:
    page = Browser(source="127.0.0.66").get(f"{place.url}/status")
    assert page.status == 200
    assert "HP ini belum masuk." in page.text and page.action == "/login"


def test_a_forged_link_shows_nothing(place: Village, gateway: PracticeGateway) -> None:
    status, serial = log_in(place, gateway)
    link = status.url.split("k=")[1].split("&")[0]
    stranger = Browser(source="127.0.0.66")
    assert serial in stranger.get(f"{place.url}/status?k={link}").text
    signed, _, signature = link.rpartition(".")
    changed = signature[:9] + ("A" if signature[9] != "A" else "B") + signature[10:]
    for forged in (f"{signed}.{changed}", link[1:], "x" * 3000, ""):
        assert serial not in stranger.get(f"{place.url}/status?k={forged}").text


def test_a_link_ends_with_time(place: Village, gateway: PracticeGateway) -> None:
    status, serial = log_in(place, gateway)
    link = status.url.split("k=")[1].split("&")[0]
    stranger = Browser(source="127.0.0.66")
    place.pass_time(91 * 86_400)
    assert serial not in stranger.get(f"{place.url}/status?k={link}").text


def test_a_slow_card_says_so_and_until_when(place: Village, gateway: PracticeGateway) -> None:
    place.set_profile("pelan", data_day="10MB", when_used_up="throttle:64k")
    status, _ = log_in(place, gateway, "pelan")
    phone = gateway.phones[0]
    place.do(gateway.download(phone, 20_000_000))
    assert phone.session is None
    over = Browser().click(status, "Perbarui")
    assert "Kartu masih bisa dipakai, tetapi internet lambat." in over.text
    assert place.do(gateway.connect(phone)), "its gateway asks again, and the card goes on slowly"
    again = Browser().click(status, "Perbarui")
    assert "Kuota cepat habis, internet jadi lambat" in again.text
    assert "masih bisa dipakai" not in again.text
    assert "Habis" in again.text and "Penuh lagi besok pukul 00.00 WITA." in plain(again.text)


def test_who_logs_in_with_a_slow_card_is_told(place: Village, gateway: PracticeGateway) -> None:
    place.set_profile("pelan", data_day="10MB", when_used_up="throttle:64k")
    code, _ = place.issue("pelan")
    browser, phone = Browser(), gateway.phones[1]
    first = browser.submit(open_internet(browser, gateway, phone), kode=code)
    assert "lambat" not in first.text
    place.do(gateway.download(phone, 20_000_000))
    assert place.do(gateway.connect(phone))
    place.do(gateway.logoff(phone))
    again = browser.submit(open_internet(browser, gateway, phone), kode=code)
    assert "Internet sudah menyala." in again.text
    assert "Kuota cepat habis, internet jadi lambat." in again.text


def test_while_the_link_is_down_pages_say_since_when_and_logins_work(tmp_path: Path) -> None:
    variables = {"PESISIR_BACKHAUL_PROBES": '["127.0.0.1:9"]'}
    with village(tmp_path, variables=variables) as place:
        gateway = place.add_gateway()
        phone = gateway.phones[0]
        for _ in range(3):
            place.do(place.node.backhaul.look())
        since = "Internet desa putus sejak pukul 12.00 WITA."
        form = open_internet(Browser(), gateway, phone)
        assert since in plain(form.text)
        assert "Anda tetap bisa masuk dengan kartu." in form.text
        code, serial = place.issue()
        page = Browser().submit(form, kode=code)
        assert since in plain(page.text) and "Anda sudah masuk." in page.text
        assert "Internet sudah menyala." not in page.text
        # "Waktu di kartu Anda tidak berkurang" is kept.
        assert "Waktu di kartu Anda tidak berkurang." in page.text
        place.pass_time(1_200)
        place.do(gateway.interim(phone))
        place.do(gateway.settled())
        assert place.shown(serial)["seconds_used"] == 0


# --- the words ------------------------------------------------------------------------------------


def status(**changes: object) -> VoucherStatus:
    values: dict[str, object] = {
        "serial": "A017-23",
        "last4": "5515",
        "site_code": "TANJUNG",
        "profile": "harian",
        "state": State.ACTIVE,
        "first_used_at": NOON_AT - 86_400,
        "expires_at": None,
        "use_before_at": None,
        "octets_used": 0,
        "octets_left": None,
        "seconds_used": 0,
        "seconds_left": None,
        "resets_at": None,
        "open_sessions": 1,
        "windows": (),
        "devices_allowed": 1,
        "devices_in_use": 1,
        "is_throttled": False,
        "last_end_cause": None,
        "last_ended_at": None,
        "open_until_at": None,
        "reason": None,
        "retry_at": None,
    }
    return VoucherStatus(**{**values, **changes})  # type: ignore[arg-type]


def zone() -> object:
    from zoneinfo import ZoneInfo

    return ZoneInfo("Asia/Makassar")


def test_gauges_round_down_and_never_show_something_as_nothing() -> None:
    day = WindowLeft("day", 10**9, 10**9 - 1_000, 7_200, 7_199, NOON_AT + 12 * 3_600)
    total = WindowLeft("total", 2 * 10**9, 2 * 10**9 + 5, None, 0, None)
    found = gauges(T, status(windows=(day, total)), now=NOON_AT, zone=zone())  # type: ignore[arg-type]
    assert [plain(gauge.left) for gauge in found] == ["1 kB", "1 detik", "Habis"]
    assert [gauge.level for gauge in found] == [3, 3, 0]
    assert all(gauge.is_low for gauge in found)
    assert plain(found[0].detail) == "dari 1 GB. Penuh lagi besok pukul 00.00 WITA."
    assert plain(found[2].detail) == "dari 2 GB."


@pytest.mark.parametrize("state", [State.EXPIRED, State.REVOKED, State.REPLACED])
def test_a_card_that_is_over_promises_nothing(state: State) -> None:
    day = WindowLeft("day", 500_000_000, 450_000_000, None, 0, NOON_AT + 12 * 3_600)
    over = status(state=state, windows=(day,), open_sessions=0, expires_at=NOON_AT + 86_400)
    assert gauges(T, over, now=NOON_AT, zone=zone()) == []  # type: ignore[arg-type]
    assert warning(T, over) is None
    titles = {fact.title for fact in facts(T, over, now=NOON_AT, zone=zone())}  # type: ignore[arg-type]
    assert "Kartu" in titles and "Berlaku sampai" not in titles


def test_where_the_total_is_gone_no_day_is_said_to_be_full_again() -> None:
    day = WindowLeft("day", 500_000_000, 0, None, 0, NOON_AT + 12 * 3_600)
    total = WindowLeft("total", 10**9, 10**9, None, 0, None)
    gone = status(state=State.USED_UP, windows=(day, total))
    found = gauges(T, gone, now=NOON_AT, zone=zone())  # type: ignore[arg-type]
    assert [plain(gauge.left) for gauge in found] == ["Habis"]


def test_a_warning_is_about_the_tightest_quota_that_is_not_gone() -> None:
    day = WindowLeft("day", 1_000_000_000, 850_000_000, None, 0, None)
    month = WindowLeft("month", 10_000_000_000, 9_900_000_000, None, 0, None)
    gone = WindowLeft("total", 100, 100, None, 0, None)
    assert plain(warning(T, status(windows=(day, month, gone))) or "") == (
        "Data hampir habis: sisa 100 MB."
    )
    assert warning(T, status(windows=(gone,))) is None


def test_facts_name_the_card_only_by_serial_and_last_digits() -> None:
    found = facts(
        T,
        status(devices_allowed=3, devices_in_use=2, expires_at=NOON_AT + 86_400),
        now=NOON_AT,
        zone=zone(),  # type: ignore[arg-type]
    )
    lines = {fact.title: plain(fact.value) for fact in found}
    assert lines["Kartu"] == "A017-23 (**** **** 5515)"
    assert lines["HP yang memakai"] == "2 dari 3"
    assert lines["Berlaku sampai"] == "besok pukul 12.00 WITA"


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_a_sentence_and_a_next_step(reason: Reason) -> None:
    for problem in (Problem(reason), Problem(reason, retry_at=NOON_AT + 60, wait_s=60)):
        found = trouble(T, problem, now=NOON_AT, zone=zone(), site=None)  # type: ignore[arg-type]
        assert found.what
        assert found.next or reason in (Reason.OUTSIDE_HOURS,), reason


@pytest.mark.parametrize(
    "cause",
    [
        "User-Request",
        "Lost-Carrier",
        "Idle-Timeout",
        "Session-Timeout",
        "Admin-Reset",
        "NAS-Reboot",
        "Superseded",
        "Unknown",
        "99",
    ],
)
def test_every_end_has_words(cause: str) -> None:
    assert T(f"end.{end_key(cause)}")

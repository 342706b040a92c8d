"""A resident logs in, sees what is left, moves, logs out: through a gateway that speaks real UAM
and RADIUS, with a browser that keeps no cookie and runs no script."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from portal.domain.voucher import make_code, show
from portal.practice.gateway import PracticeGateway
from portal.practice.phone import Phone
from portal.web.memory import KEPT_S
from tests.unit.web.village import Browser, Page, Village, open_internet, village


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Village]:
    with village(tmp_path_factory.mktemp("node")) as found:
        yield found


@pytest.fixture
def gateway(place: Village) -> PracticeGateway:
    return place.add_gateway()


@pytest.fixture
def phone(gateway: PracticeGateway) -> Phone:
    return gateway.phones[0]


def wrong_code(n: int) -> str:
    """A well-formed code that nobody has."""
    return make_code(70_000_000_000 + n)


def is_online(phone: Phone) -> bool:
    return phone.session is not None


def form_at(gateway: PracticeGateway, phone: Phone) -> Page:
    page = open_internet(Browser(), gateway, phone)
    assert page.status == 200 and page.action == "/login"
    return page


def log_in(gateway: PracticeGateway, phone: Phone, code: str) -> Page:
    return Browser().submit(form_at(gateway, phone), kode=code)


def test_a_right_code_goes_through_the_gateway_and_ends_on_a_full_page(
    place: Village, gateway: PracticeGateway, phone: Phone
) -> None:
    code, serial = place.issue()
    browser = Browser()
    form = form_at(gateway, phone)
    answer = browser.post(place.url + "/login", {**form.fields, "kode": show(code)})
    assert answer.status == 303
    assert code not in answer.headers["location"]
    page = browser.follow(answer)
    assert page.status == 200
    assert [urlsplit(hop).path for hop in page.hops] == ["/logon", "/"]
    assert "Berhasil." in page.text and "Internet sudah menyala." in page.text
    assert "500 MB dari 500 MB" in page.text.replace("\xa0", " ")
    assert "set-cookie" not in page.headers
    assert is_online(phone)
    assert place.shown(serial)["open_sessions"] == 1


def test_the_page_after_a_login_leads_nowhere_but_to_what_is_left(
    place: Village, gateway: PracticeGateway, phone: Phone
) -> None:
    page = log_in(gateway, phone, place.issue()[0])
    assert "gstatic" not in page.html
    assert "Lihat sisa kuota" in page.links
    status = Browser().click(page, "Lihat sisa kuota")
    assert "Internet menyala" in status.text


def test_wrong_then_right_then_status_then_out(
    place: Village, gateway: PracticeGateway, phone: Phone
) -> None:
    code, serial = place.issue()
    browser = Browser()
    page = browser.submit(form_at(gateway, phone), kode=wrong_code(1))
    assert page.status == 200
    assert "Kode ini tidak ada." in page.alert
    assert page.fields["kode"] == show(wrong_code(1))
    page = browser.submit(page, kode=code)
    assert "Berhasil." in page.text
    page = browser.submit(browser.click(page, "Lihat sisa kuota"))
    assert "Anda sudah keluar." in page.text and page.action == "/login"
    assert not is_online(phone)
    assert place.shown(serial)["open_sessions"] == 0


def test_a_slip_is_told_at_once_and_is_no_guess(
    place: Village, gateway: PracticeGateway, phone: Phone
) -> None:
    code, _ = place.issue()
    slip = code[:-1] + str((int(code[-1]) + 1) % 10)
    browser = Browser()
    page = form_at(gateway, phone)
    for _ in range(8):
        page = browser.submit(page, kode=slip)
        assert "Ada angka yang salah ketik." in page.alert
        assert page.fields["kode"] == slip
        assert 'aria-invalid="true"' in page.html
    assert "Berhasil." in browser.submit(page, kode=code).text


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("", "Kode belum diisi."),
        ("halo", "Kode belum diisi."),
        ("4829 1730 551", "Anda mengetik 11 angka."),
        ("4829 1730 5515 1", "Anda mengetik 13 angka."),
        ("4829 1730 5515", "Itu hanya kode contoh."),
    ],
)
def test_what_is_no_code_gets_its_own_sentence(
    gateway: PracticeGateway, phone: Phone, typed: str, sentence: str
) -> None:
    page = Browser().submit(form_at(gateway, phone), kode=typed)
    assert page.status == 200
    assert sentence in page.alert
    assert page.fields["kode"] == typed


def test_a_pasted_link_and_odd_digits_are_understood(
    place: Village, gateway: PracticeGateway, phone: Phone
) -> None:
    code, _ = place.issue()
    page = log_in(gateway, phone, f"http://wifi.desa.id/{code}")
    assert "Berhasil." in page.text


def test_the_sixth_miss_waits_and_says_how_long(
    place: Village, gateway: PracticeGateway, phone: Phone
) -> None:
    code, _ = place.issue()
    browser = Browser()
    page = form_at(gateway, phone)
    for n in range(5):
        page = browser.submit(page, kode=wrong_code(10 + n))
        assert page.status == 200
    page = browser.submit(page, kode=wrong_code(20))
    assert page.status == 429
    assert 1 <= int(page.headers["retry-after"]) <= 61
    assert "Sudah terlalu sering salah. Tunggu" in page.alert and "menit" in page.alert
    # Another phone at the same gateway has not missed and does not wait.
    assert "Berhasil." in log_in(gateway, gateway.phones[1], code).text
    place.pass_time(61)
    assert "Berhasil." not in browser.submit(page, kode=wrong_code(21)).text


def test_a_used_up_day_says_when_it_goes_on(
    place: Village, gateway: PracticeGateway, phone: Phone
) -> None:
    code, serial = place.issue()
    log_in(gateway, phone, code)
    place.do(gateway.download(phone, 600_000_000))
    assert not is_online(phone), "the gateway cuts at the quota"
    arrival = form_at(gateway, phone)
    assert f"Kartu terakhir: {serial}. Data di kartu ini sudah habis." in arrival.text
    page = Browser().submit(arrival, kode=code)
    assert page.alert.replace("\xa0", " ").strip("■ ") == (
        "Data di kartu ini sudah habis. Bisa dipakai lagi besok pukul 00.00 WITA."
    )


def test_each_end_of_a_card_has_its_own_sentence(place: Village) -> None:
    place.set_profile("sebentar", valid="1h")
    place.set_profile("pagi", hours="06:00-08:00")
    cases: list[tuple[str, str, str]] = []
    code, serial = place.issue("sebentar")
    log_in(*_new_phone(place), code)
    place.pass_time(3_700)
    cases.append((code, "Kartu ini berlaku sampai hari ini pukul", "Minta kartu baru ke petugas."))
    code, serial = place.issue()
    place.do(place.node.vouchers.revoke([serial], "hilang"))
    cases.append((code, "Kartu ini sudah dibatalkan.", "Tunjukkan kartu ke petugas."))
    code, serial = place.issue()
    place.do(place.node.vouchers.replace([serial], "rusak"))
    cases.append((code, "Kartu ini sudah diganti dengan kartu baru.", "Pakai kartu yang baru."))
    code, _ = place.issue("pagi")
    cases.append((code, "Kartu ini sedang di luar jam pakai.", "Bisa dipakai lagi besok pukul 06"))
    for code, what, then in cases:
        gateway, phone = _new_phone(place)
        page = log_in(gateway, phone, code)
        assert page.status == 200
        assert what in page.alert and then in page.alert, page.alert
        assert page.fields["kode"] == show(code)
        assert not is_online(phone)


def test_a_blocked_phone_is_told_so_and_not_whether_its_code_is_right(place: Village) -> None:
    code, serial = place.issue()
    gateway, phone = _new_phone(place)
    site_id = place.node.admin.site("TANJUNG").id
    place.do(place.node.devices.block(phone.mac, site_id, "mengganggu"))
    page = log_in(gateway, phone, code)
    assert page.status == 200
    assert "HP ini diblokir petugas. Tanyakan kepada petugas" in page.alert, page.alert
    assert not is_online(phone) and place.shown(serial)["state"] == "unused"
    place.do(place.node.devices.unblock(phone.mac, site_id))
    log_in(gateway, phone, code)
    assert is_online(phone)


def _new_phone(place: Village) -> tuple[PracticeGateway, Phone]:
    gateway = place.add_gateway()
    return gateway, gateway.phones[0]


def test_a_card_moves_to_the_new_phone_with_its_quota(
    place: Village, gateway: PracticeGateway, phone: Phone
) -> None:
    code, serial = place.issue()
    other = gateway.phones[1]
    log_in(gateway, phone, code)
    place.do(gateway.download(phone, 100_000_000))
    browser = Browser()
    asked = log_in(gateway, other, code)
    assert "Kode ini sedang dipakai di HP lain." in asked.text
    assert "Pindahkan ke HP ini" in asked.text
    assert is_online(phone), "nothing happens before the button"
    back = browser.click(asked, "Batal")
    assert back.action == "/login" and is_online(phone)
    page = browser.submit(asked)
    assert "Berhasil." in page.text
    assert "400 MB dari 500 MB" in page.text.replace("\xa0", " ")
    place.do(gateway.settled())
    assert is_online(other)
    assert not is_online(phone), "the old phone is disconnected"
    assert place.shown(serial)["octets_used"] == 100_000_000


def test_a_stale_challenge_is_refreshed_before_the_card_is_blamed(
    place: Village, gateway: PracticeGateway, phone: Phone
) -> None:
    code, _ = place.issue()
    browser = Browser()
    form = form_at(gateway, phone)
    # Something else of this phone has tried meanwhile: the gateway has a new challenge.
    browser.request(
        "GET", f"http://{gateway.host}:{phone.port}/logon?username=x&password={'00' * 16}"
    )
    page = browser.submit(form, kode=code)
    assert [urlsplit(hop).path for hop in page.hops] == ["/logon", "/", "/logon", "/"]
    assert "Berhasil." in page.text and not page.alert


def test_two_refusals_in_a_row_are_a_fault_with_a_number(
    place: Village, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = place.add_gateway(uam_secret=None, real_uam_secret="another")
    phone = gateway.phones[0]
    with caplog.at_level(logging.INFO):
        page = log_in(gateway, phone, place.issue()[0])
    assert page.status == 200
    assert "Maaf, ada gangguan di alat kami." in page.text
    number = re.search(r"K-[0-9A-F]{4}", page.text)
    assert number is not None and number[0] in caplog.text
    assert sum("/logon" in hop for hop in page.hops) == 2


@pytest.mark.parametrize("uam_secret", ["rahasia-uam", None])
def test_an_old_form_goes_through_prelogin_and_completes(
    place: Village, uam_secret: str | None
) -> None:
    gateway = place.add_gateway(uam_secret=uam_secret)
    phone = gateway.phones[0]
    code, _ = place.issue()
    form = form_at(gateway, phone)
    place.pass_time(9 * 60)
    page = Browser().submit(form, kode=code)
    assert [urlsplit(hop).path for hop in page.hops] == ["/prelogin", "/", "/logon", "/"]
    assert "Berhasil." in page.text
    assert code not in "".join(page.hops)


def test_a_code_waits_five_minutes_for_its_phone(
    place: Village, gateway: PracticeGateway, phone: Phone
) -> None:
    code, serial = place.issue()
    form = form_at(gateway, phone)
    place.pass_time(9 * 60)
    browser = Browser()
    away = browser.post(place.url + "/login", {**form.fields, "kode": code})
    place.pass_time(KEPT_S + 1)
    page = browser.follow(away)
    assert page.action == "/login" and page.fields["kode"] == ""
    assert place.shown(serial)["state"] == "unused"


def test_a_form_too_old_is_shown_again_with_the_code(
    place: Village, gateway: PracticeGateway, phone: Phone
) -> None:
    code, serial = place.issue()
    form = form_at(gateway, phone)
    place.pass_time(31 * 60)
    _check_shown_again(place, form, code, serial)


def test_a_form_without_its_seal_is_shown_again_with_the_code(tmp_path: Path) -> None:
    with village(tmp_path) as place:
        gateway = place.add_gateway()
        code, serial = place.issue()
        form = form_at(gateway, gateway.phones[0])
        form.fields["f"] = form.fields["f"][:-2]
        _check_shown_again(place, form, code, serial)


def _check_shown_again(place: Village, form: Page, code: str, serial: str) -> None:
    browser = Browser()
    page = browser.submit(form, kode=code)
    assert page.status == 200 and not page.hops
    assert "Halaman ini sudah lama terbuka." in page.alert
    assert page.fields["kode"] == code
    assert place.shown(serial)["state"] == "unused"
    assert "Berhasil." in browser.submit(page).text


def test_a_form_made_for_another_address_is_not_obeyed(
    place: Village, gateway: PracticeGateway, phone: Phone
) -> None:
    code, serial = place.issue()
    form = form_at(gateway, phone)
    thief = Browser(source="127.0.0.77")
    page = thief.post(place.url + "/login", {**form.fields, "kode": code})
    assert page.status == 200 and "Halaman ini sudah lama terbuka." in page.alert
    assert place.shown(serial)["state"] == "unused"


def test_a_silent_radius_server_is_not_blamed_on_the_card(place: Village) -> None:
    gateway = place.add_gateway(is_heard=False)
    code, _ = place.issue()
    page = log_in(gateway, gateway.phones[0], code)
    assert "Alat WiFi belum menjawab. Kartu Anda tidak salah." in page.alert
    assert page.fields["kode"] == show(code)


def test_a_scanned_code_is_filled_in_and_never_spent_by_looking(
    place: Village, gateway: PracticeGateway, phone: Phone
) -> None:
    code, serial = place.issue()
    form_at(gateway, phone)
    for path in (f"/{code}", f"/v/{code}", f"/{code}"):
        page = Browser().get(place.url + path)
        assert page.fields["kode"] == show(code)
        assert "Sudah cocok dengan kartu?" in page.text
    assert place.shown(serial)["state"] == "unused"


def test_a_code_scanned_without_an_arrival_is_led_through_the_gateway(
    tmp_path: Path,
) -> None:
    with village(tmp_path) as place:
        gateway = place.add_gateway()
        phone = gateway.phones[0]
        code, _ = place.issue()
        browser = Browser()
        # Nobody has come through the gateway yet, so it cannot be told where it is.
        outside = browser.submit(browser.get(f"{place.url}/{code}"))
        assert "Anda belum tersambung ke WiFi desa." in outside.text
        assert show(code) in outside.text and 'Pilih WiFi "WiFi Desa Tanjung".' in outside.text
        open_internet(browser, gateway, phone)
        page = browser.submit(browser.get(f"{place.url}/{code}"))
        assert [urlsplit(hop).path for hop in page.hops] == ["/prelogin", "/", "/logon", "/"]
        assert "Berhasil." in page.text
        assert code not in "".join(page.hops)


def test_a_new_card_takes_the_place_of_the_one_in_use(tmp_path: Path) -> None:
    with village(tmp_path) as place:
        gateway = place.add_gateway()
        phone = gateway.phones[0]
        first, first_serial = place.issue()
        second, second_serial = place.issue()
        log_in(gateway, phone, first)
        browser = Browser()
        page = browser.submit(browser.get(f"{place.url}/v/{second}"))
        paths = [urlsplit(hop).path for hop in page.hops]
        assert paths == ["/prelogin", "/", "/logoff", "/", "/logon", "/"]
        assert "Berhasil." in page.text
        place.do(gateway.settled())
        assert place.shown(first_serial)["open_sessions"] == 0
        assert place.shown(second_serial)["open_sessions"] == 1


def test_a_code_in_the_address_a_phone_was_caught_at_is_filled_in(
    place: Village, gateway: PracticeGateway, phone: Phone
) -> None:
    code, serial = place.issue()
    ours = place.call(lambda: gateway.arrival_url(phone, f"{place.url}/{code}"))
    assert Browser().get(ours).fields["kode"] == show(code)
    foreign = place.call(lambda: gateway.arrival_url(phone, f"http://evil.example/{code}"))
    page = Browser().get(foreign)
    assert page.fields["kode"] == "" and "evil" not in page.html
    assert place.shown(serial)["state"] == "unused"


def test_logging_out_needs_the_button_and_its_seal(
    place: Village, gateway: PracticeGateway, phone: Phone
) -> None:
    page = log_in(gateway, phone, place.issue()[0])
    browser = Browser()
    status = browser.click(page, "Lihat sisa kuota")
    link = urlsplit(status.url).query
    asked = browser.get(f"{place.url}/logout?{link}")
    assert "Keluar dari internet?" in asked.text and is_online(phone)
    refused = browser.post(f"{place.url}/logout", {"e": "x"})
    assert refused.status == 200 and is_online(phone)
    assert "Anda sudah keluar." in browser.submit(asked).text
    assert not is_online(phone)
    # It must type a code again: nothing brings the phone back by itself.
    assert not place.do(gateway.wake_phone(phone))


def test_after_logging_out_nothing_leads_back_to_the_card(
    place: Village, gateway: PracticeGateway, phone: Phone
) -> None:
    browser = Browser()
    code, serial = place.issue()
    page = log_in(gateway, phone, code)
    out = browser.submit(browser.click(page, "Lihat sisa kuota"))
    assert "Anda sudah keluar." in out.text
    link = urlsplit(page.links["Lihat sisa kuota"]).query.split("k=")[1]
    assert link not in out.html and serial not in out.html
    # The gateway still remembers the old address; the next redirect shows nothing either.
    assert link not in form_at(gateway, phone).html


def test_changing_cards_takes_two_taps(
    place: Village, gateway: PracticeGateway, phone: Phone
) -> None:
    browser = Browser()
    page = log_in(gateway, phone, place.issue()[0])
    status = browser.click(page, "Lihat sisa kuota")
    assert "Ganti kode" in status.text
    form = browser.submit(status, ganti="1")
    assert form.action == "/login" and form.fields["kode"] == ""
    second, serial = place.issue()
    assert "Berhasil." in browser.submit(form, kode=second).text
    assert place.shown(serial)["open_sessions"] == 1


def test_language_and_letters_survive_the_way_through_the_gateway(
    place: Village, gateway: PracticeGateway, phone: Phone
) -> None:
    browser = Browser()
    page = browser.click(form_at(gateway, phone), "Huruf besar")
    page = browser.click(page, "English")
    assert '<html lang="en" class="besar">' in page.html
    page = browser.submit(page, kode=place.issue()[0])
    assert '<html lang="en" class="besar">' in page.html
    assert "You are online." in page.text
    page = browser.click(browser.click(page, "Normal letters"), "Bahasa Indonesia")
    assert '<html lang="id">' in page.html
    assert "Internet sudah menyala." in page.text


def test_codes_and_passwords_stay_out_of_the_log(
    place: Village, gateway: PracticeGateway, phone: Phone
) -> None:
    code, _ = place.issue()
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    # Not caplog: it also hears loggers that are switched off.
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        browser = Browser()
        browser.get(f"{place.url}/{code}")
        page = browser.submit(form_at(gateway, phone), kode=wrong_code(30))
        page = browser.submit(page, kode=code)
        browser.submit(browser.click(page, "Lihat sisa kuota"))
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    text = "\n".join(lines)
    assert "code_unknown" in text
    assert code not in text and wrong_code(30) not in text
    assert "password" not in text


def test_two_taps_at_once_are_one_login(
    place: Village, gateway: PracticeGateway, phone: Phone
) -> None:
    code, serial = place.issue()
    form = form_at(gateway, phone)
    browser = Browser()
    answers = [browser.post(place.url + "/login", {**form.fields, "kode": code}) for _ in range(2)]
    pages = [browser.follow(answer) for answer in answers]
    assert all("Internet" in page.text and not page.alert for page in pages)
    assert place.shown(serial)["open_sessions"] == 1

"""Cards at the desk in a real browser: a small phone without JavaScript, and a wide screen.

Needs Debian's Chromium. Where it is missing the tests are skipped in plain sight; with CI=true they
fail.
"""

import io
from collections.abc import Iterator
from typing import Literal

import pytest
import zxingcpp
from PIL import Image
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page, Request

from portal.practice.gateway import PracticeGateway
from portal.practice.phone import Phone
from tests.e2e.chromium import needs_chromium
from tests.unit.web.desk import PASSWORD, Desk, desk
from tests.unit.web.village import Browser, open_internet

PHONE = (360, 640)
SIZES = ((320, 568), PHONE, (1280, 800))
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
MOST_OCTETS = 30_000
QR_LEAST_PX = 227
DIGITS_LEAST_PX = 40
TAP_LEAST_PX = 48

pytestmark = needs_chromium


# Started after Chromium: a thread that forks while the node's runs would be a risk.
@pytest.fixture(scope="module")
def place(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("node")) as found:
        found.set_profile("keluarga", data_total="2GB", valid="7d")
        yield found


@pytest.fixture
def page(chromium: Chromium, place: Desk) -> Iterator[Page]:
    with_page = signed_in(chromium, place, PHONE, "light")
    yield with_page
    with_page.context.close()


def signed_in(
    chromium: Chromium, place: Desk, size: tuple[int, int], scheme: Literal["light", "dark"]
) -> Page:
    """A page of sari's browser, JavaScript off, at the desk's home."""
    context = chromium.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        java_script_enabled=False,
    )
    page = context.new_page()
    page.goto(f"{place.desk_url}/operator/sign-in")
    page.fill("[name=name]", "sari")
    page.fill("[name=password]", PASSWORD)
    page.click("main form button")
    return page


def log_in(place: Desk, code: str) -> tuple[PracticeGateway, Phone, str]:
    """A phone of its own types the code: what it reads then."""
    gateway = place.add_gateway(site="TANJUNG")
    phone, browser = gateway.phones[0], Browser()
    text = browser.submit(open_internet(browser, gateway, phone), kode=code).text
    return gateway, phone, text


def requests_of(page: Page) -> list[Request]:
    """What the page asks for from now on."""
    found: list[Request] = []
    page.on("request", lambda request: found.append(request))
    return found


def main_text(page: Page) -> str:
    return page.inner_text("main").replace("\xa0", " ")


def code_on(page: Page) -> str:
    return "".join(page.inner_text(".code").split())


def test_a_card_is_given_in_three_taps_and_undone(place: Desk, page: Page) -> None:
    page.goto(f"{place.desk_url}/operator/")
    taps = 0

    def tap(selector: str) -> None:
        nonlocal taps
        taps += 1
        page.click(selector)

    tap("main >> text=Beri 1 kartu")
    tap("main button >> nth=0")
    code = code_on(page)
    assert len(code) == 12
    size = page.eval_on_selector(".code span", "e => parseFloat(getComputedStyle(e).fontSize)")
    assert size >= DIGITS_LEAST_PX
    picture = Image.open(io.BytesIO(page.screenshot()))
    assert picture.size == PHONE
    found = [one for one in zxingcpp.read_barcodes(picture) if one.text.endswith(code)]
    assert len(found) == 1, "the QR code on the screen is not the code in digits"
    corners = found[0].position
    assert corners.top_right.x - corners.top_left.x >= QR_LEAST_PX
    # All of it, and the button, on the first screen.
    button = page.locator("text=Sudah diberikan").bounding_box()
    assert button is not None and button["y"] + button["height"] <= PHONE[1]
    tap("text=Sudah diberikan")
    assert taps <= 3
    text = main_text(page)
    assert "sudah diberikan" in text
    assert f"**** **** {code[-4:]}" in text
    assert code not in page.content().replace(" ", "")
    serial = page.url.partition("?")[0].rpartition("/")[2]
    assert place.shown(serial)["state"] == "unused"
    # Back, as people do, does not bring the code back.
    page.go_back()
    assert code not in page.content().replace(" ", "").replace("</span>", "").replace("<span>", "")
    page.goto(f"{place.desk_url}/operator/give/{serial}")
    assert "Masih bisa ditarik kembali selama 5 menit" in main_text(page)
    page.click("text=Tarik kembali kartu ini")
    assert f"Kartu {serial} ditarik kembali" in main_text(page)
    assert place.shown(serial)["state"] == "revoked"
    assert "sudah dibatalkan" in log_in(place, code)[2]


def test_the_qr_code_is_read_in_the_dark_too(chromium: Chromium, place: Desk) -> None:
    page = signed_in(chromium, place, PHONE, "dark")
    page.goto(f"{place.desk_url}/operator/give")
    page.click("main button >> nth=0")
    code = code_on(page)
    found = zxingcpp.read_barcodes(Image.open(io.BytesIO(page.screenshot())))
    assert [one.text.rpartition("/")[2] for one in found] == [code]
    page.context.close()


def test_revoking_wants_the_right_two_digits(place: Desk, page: Page) -> None:
    code, serial = place.issue("keluarga", site="TANJUNG")
    page.goto(f"{place.desk_url}/operator/cards")
    page.fill("#q", serial.lower())
    page.click("main form button")
    page.click("text=Batalkan kartu")
    page.fill("#f-reason", "Kartu hilang")
    page.fill("#f-digits", "99")
    page.click("main form button")
    assert f"tidak cocok dengan {serial}" in page.inner_text("[role=alert]")
    assert page.get_attribute("#f-digits", "aria-invalid") == "true"
    described = page.get_attribute("#f-digits", "aria-describedby")
    assert page.get_attribute(f"#{described}", "role") == "alert"
    assert page.input_value("#f-reason") == "Kartu hilang"
    assert place.shown(serial)["state"] == "unused"
    page.fill("#f-digits", serial[-2:])
    page.click("main form button")
    assert f"Kartu {serial} sudah dibatalkan." in main_text(page)
    assert place.shown(serial)["state"] == "revoked"
    assert "sudah dibatalkan" in log_in(place, code)[2]


def test_a_lost_card_is_replaced_with_what_was_left(place: Desk, page: Page) -> None:
    code, serial = place.issue("keluarga", site="TANJUNG")
    gateway, phone, text = log_in(place, code)
    assert "Berhasil." in text
    place.do(gateway.download(phone, 623_456_789))
    place.do(gateway.interim(phone))
    # Nobody knows the serial: the phone stands at the counter.
    page.goto(f"{place.desk_url}/operator/cards")
    page.click(f"main a:has-text('{serial}')")
    assert "1,3 GB" in main_text(page)
    page.click("text=Ganti kartu")
    page.fill("#f-reason", "Kartu hilang")
    page.fill("#f-digits", serial[-2:])
    page.click("main form button")
    assert "Sisa 1,3 GB" in main_text(page)
    new_code = code_on(page)
    found = zxingcpp.read_barcodes(Image.open(io.BytesIO(page.screenshot())))
    assert [one.text.rpartition("/")[2] for one in found] == [new_code]
    new = page.url.partition("?")[0].rpartition("/")[2]
    assert place.shown(new)["octets_left"] == 2_000_000_000 - 623_456_789
    assert place.shown(serial)["state"] == "replaced"
    assert "sudah diganti" in log_in(place, code)[2]
    assert "Berhasil." in log_in(place, new_code)[2]


def test_a_top_up_makes_a_used_up_card_usable(place: Desk, page: Page) -> None:
    code, serial = place.issue("keluarga", site="TANJUNG")
    gateway, phone, _ = log_in(place, code)
    place.do(gateway.download(phone, 2_000_000_000))
    place.do(gateway.interim(phone))
    assert "habis" in log_in(place, code)[2]
    page.goto(f"{place.desk_url}/operator/cards/{serial}")
    assert "Sudah habis" in main_text(page)
    page.click("text=Tambah kuota")
    page.fill("#f-data", "500")
    page.fill("#f-reason", "Perlu untuk sekolah")
    page.click("main form button")
    assert "sudah ditambah" in main_text(page)
    assert "500 MB" in main_text(page)
    assert "Berhasil." in log_in(place, code)[2]


def test_a_selection_and_a_batch_are_revoked(place: Desk, page: Page) -> None:
    made = place.do(place.node.vouchers.issue("keluarga", count=6, site="TANJUNG", by="sari"))
    name = made["batch"]
    page.goto(f"{place.desk_url}/operator/batches")
    page.click(f"text=Paket {name}")
    page.check(f"[value={name}-02]")
    page.check(f"[value={name}-05]")
    page.click("text=Batalkan yang dipilih")
    assert "Batalkan 2 kartu" in main_text(page)
    page.fill("#f-reason", "Salah cetak")
    page.fill("#f-digits", name[-2:])
    page.click("main form button")
    assert "2 kartu sudah dibatalkan." in main_text(page)
    states = [place.shown(card["serial"])["state"] for card in made["vouchers"]]
    assert [n for n, state in enumerate(states, 1) if state == "revoked"] == [2, 5]
    page.click("text=Batalkan semua kartu paket ini")
    page.fill("#f-reason", "Lembar dicuri")
    page.fill("#f-digits", name[-2:])
    page.click("main form button")
    assert "4 kartu sudah dibatalkan." in main_text(page)
    states = [place.shown(card["serial"])["state"] for card in made["vouchers"]]
    assert set(states) == {"revoked"}


def test_every_page_of_cards_fits_and_is_one_small_request(chromium: Chromium, place: Desk) -> None:
    place.set_profile("keluarga-besar-dan-tamu", data_day="1500MB", time_day="2h30m", valid="30d")
    note = "Rapat warga RT 03 dan RW 04 di balai desa Tanjung, dibagikan oleh Ibu Sari"
    made = place.do(
        place.node.vouchers.issue(
            "keluarga-besar-dan-tamu", count=60, site="TANJUNG", by="sari", note=note
        )
    )
    name, code = made["batch"], made["vouchers"][0]["code"]
    serial = f"{name}-01"
    gateway, phone, _ = log_in(place, code)
    place.do(gateway.download(phone, 700_000_000))
    place.do(gateway.interim(phone))
    place.do(place.node.vouchers.top_up(serial, octets=5 * 10**8, reason="Sekolah", by="kepala"))
    place.do(place.node.vouchers.replace([f"{name}-03"], "Kode tidak terbaca", by="sari"))
    given = place.do(place.node.vouchers.give("keluarga", site="TANJUNG", by="sari"))["serial"]
    session = place.do(place.node.history.listed(serial=serial))[0]["id"]
    paths = [
        "/operator/give",
        f"/operator/give/{given}",
        "/operator/cards",
        "/operator/cards?q=0000",
        f"/operator/cards/{serial}",
        f"/operator/cards/{name}-03",
        *(f"/operator/cards/{serial}/{act}" for act in ("revoke", "replace", "top-up", "extend")),
        f"/operator/cards/{serial}/block?session={session}",
        "/operator/batches",
        f"/operator/batches/{name}",
        f"/operator/batches/{name}/revoke?scope=all",
        f"/operator/batches/{name}/replace?scope=range",
        f"/operator/batches/{name}/revoke?card={serial}&card={name}-02",
    ]
    for size in SIZES:
        for scheme in SCHEMES:
            page = signed_in(chromium, place, size, scheme)
            requests = requests_of(page)
            for path in paths:
                requests.clear()
                answer = page.goto(place.desk_url + path)
                assert answer is not None and answer.status == 200, path
                assert len([one for one in requests if not one.url.startswith("data:")]) == 1, path
                assert len(answer.body()) <= MOST_OCTETS, path
                wide, seen = page.evaluate(
                    "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
                )
                assert wide <= seen, f"{path} is wider than a screen of {size[0]}"
                small = page.eval_on_selector_all(
                    "main a, main button, main input:not([type=hidden]):not([type=checkbox]),"
                    " main select, main label:has(input)",
                    f"all => all.filter(e => e.getBoundingClientRect().height < {TAP_LEAST_PX})"
                    ".map(e => e.outerHTML)",
                )
                assert not small, f"{path}: {small}"
            page.context.close()

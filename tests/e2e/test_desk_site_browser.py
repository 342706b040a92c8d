"""Announcements, complaints, settings and devices in a real browser: a small phone without
JavaScript, and a wide screen.

Needs Debian's Chromium. Where it is missing the tests are skipped in plain sight; with CI=true they
fail.
"""

import os
from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page

from tests.e2e.chromium import needs_chromium
from tests.e2e.test_pages_browser import MEASURE
from tests.unit.web.desk import PASSWORD, Desk, desk
from tests.unit.web.village import Browser

PHONE = (360, 640)
SIZES = ((320, 568), PHONE, (1280, 800))
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
DESK_OCTETS = 30_000
RESIDENT_OCTETS = 14_000
DAY_S = 86_400

pytestmark = needs_chromium


# Started after Chromium: a thread that forks while the node's runs would be a risk.
@pytest.fixture(scope="module")
def place(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("node")) as found:
        yield found


@pytest.fixture
def page(chromium: Chromium, place: Desk) -> Iterator[Page]:
    opened = signed_in(chromium, place, "sari")
    yield opened
    opened.context.close()


def phone_page(chromium: Chromium) -> Page:
    """A resident's browser."""
    context = chromium.new_context(
        viewport={"width": PHONE[0], "height": PHONE[1]}, java_script_enabled=False
    )
    return context.new_page()


def signed_in(chromium: Chromium, place: Desk, name: str) -> Page:
    """An operator's browser at the desk's home."""
    page = phone_page(chromium)
    page.goto(f"{place.desk_url}/operator/sign-in")
    page.fill("[name=name]", name)
    page.fill("[name=password]", PASSWORD)
    page.click("main form button")
    return page


def words_of(page: Page, selector: str = "main") -> str:
    return page.inner_text(selector).replace("\xa0", " ")


def portal_of(place: Desk) -> str:
    """Where a phone at a gateway of TANJUNG lands."""
    gateway = place.add_gateway(site="TANJUNG")
    return f"http://{gateway.host}:{gateway.phones[0].port}/internet"


def test_an_announcement_goes_from_the_desk_to_the_residents_and_off_again(
    chromium: Chromium, place: Desk, page: Page
) -> None:
    page.goto(f"{place.desk_url}/operator/announcements")
    page.fill("#words", "Sabtu malam ronda. Internet mati pukul 22.00.")
    page.fill("#end-day", "2026-11-22")
    page.fill("#end-time", "22:00")
    page.click("text=Umumkan")
    assert "Sampai besok pukul 22.00 WITA." in words_of(page)
    resident = phone_page(chromium)
    resident.goto(portal_of(place))
    assert "Sabtu malam ronda." in words_of(resident)
    page.click("summary:has-text('Akhiri')")
    page.click("text=Ya, akhiri sekarang")
    assert "Pengumuman sudah diakhiri." in words_of(page)
    resident.reload()
    assert "Sabtu malam ronda." not in words_of(resident)
    resident.context.close()


def test_a_complaint_goes_from_a_phone_to_the_desk_and_its_answer_back(
    chromium: Chromium, place: Desk, page: Page
) -> None:
    resident = phone_page(chromium)
    resident.goto(portal_of(place))
    resident.click("footer >> text=Lapor masalah")
    resident.select_option("#about", label="Internet lambat")
    resident.fill("#words", "Sejak kemarin video tidak bisa.")
    resident.fill("#contact", "Pak Rusli 0800 000 0007")
    resident.click("text=Kirim")
    assert "Keluhan Anda sudah diterima." in words_of(resident)
    number = resident.inner_text(".code")
    page.goto(f"{place.desk_url}/operator/complaints")
    page.click(f"text={number.rpartition('-')[0]}")
    assert "Sejak kemarin video tidak bisa." in words_of(page)
    page.fill("#words", "Kabel sudah diganti.")
    page.click("text=Kirim jawaban")
    assert "sudah dijawab." in words_of(page)
    resident.goto(f"{place.url}/complaint")
    resident.fill("#number", number)
    resident.click("text=Lihat jawaban")
    assert "Kabel sudah diganti." in words_of(resident)
    assert resident.context.cookies() == []
    resident.context.close()


def test_settings_go_from_the_desk_to_the_residents(
    chromium: Chromium, place: Desk, page: Page
) -> None:
    page.goto(f"{place.desk_url}/operator/site")
    page.fill("#counter", "Kantor Desa")
    page.fill("#opening_hours", "08.00-15.00")
    page.fill("#power_window", "malam")
    page.fill("#reason", "Rapat desa")
    page.click("text=Simpan")
    assert "tidak bisa dibaca" in page.inner_text("[role=alert]")
    page.fill("#power_window", "18.00-23.30")
    page.click("text=Simpan")
    assert "Setelan sudah disimpan." in words_of(page)
    resident = phone_page(chromium)
    resident.goto(portal_of(place))
    assert "minta di Kantor Desa, pukul 08.00–15.00 WITA." in words_of(resident)
    assert "WiFi menyala pukul 18.00–23.30 WITA." in words_of(resident, "footer")
    page.click("text=harian")
    page.fill("#hours", "06.00-22.00")
    page.fill("#reason", "Anak sekolah")
    page.click("text=Simpan")
    assert "Kartu harian sudah diubah." in words_of(page)
    resident.context.close()


def test_a_device_is_added_and_removed_and_a_phone_blocked(place: Desk, page: Page) -> None:
    page.goto(f"{place.desk_url}/operator/devices")
    page.click("summary:has-text('Tambah perangkat')")
    page.fill("#name", "Mesin absen")
    page.fill("#mac", "A4-5E-60-12-34-56")
    page.click("button:has-text('Tambah')")
    assert "Mesin absen sekarang bisa masuk tanpa kartu." in words_of(page)
    page.click("text=Hapus")
    page.fill("#digits", "56")
    page.fill("#reason", "Rusak")
    page.click("text=Ya, hapus")
    assert "Mesin absen sudah dihapus." in words_of(page)
    page.click("summary:has-text('Blokir HP')")
    page.fill("#block-mac", "02:a1:b2:c3:d4:e5")
    page.fill("#reason", "Mengganggu")
    page.click("button:has-text('Blokir')")
    assert "sudah diblokir." in words_of(page)
    page.click("text=Buka blokir")
    page.fill("#reason", "Sudah minta maaf")
    page.click("button:has-text('Buka blokir')")
    assert "bisa masuk lagi." in words_of(page)


def furnish(place: Desk) -> list[tuple[str, str]]:
    """Something on every page, with the longest words there may be; (name, address) of each."""
    node = place.node

    async def fill() -> None:
        now = node.now()
        long = "Perbaikan kabel di dermaga, internet mati sebentar. " * 4
        for words, starts_at, ends_at in (
            (long[:200], None, None),
            ("Besok pembagian kartu baru.", now + DAY_S, now + 2 * DAY_S),
        ):
            await node.notices.add(1, words, starts_at=starts_at, ends_at=ends_at, by="sari")
        gone = await node.notices.add(1, "Sudah lewat.", starts_at=None, ends_at=None, by="sari")
        await node.notices.end(gone.id, 1, by="sari")
        for n, age_s in enumerate((30 * 3_600, 20 * 3_600, 3_600)):
            await node.complaints._store.add(
                site_id=1,
                category=("no_internet", "place", "person")[n],
                words="Sinyal hilang di dekat masjid, sudah tiga hari. " * (1 + 9 * (n == 1)),
                contact="Ibu Nurhayati binti Abdullah, 0812 0000 0000" if n else "",
                serial="A017-23" if n == 1 else None,
                at=now - age_s,
            )
        await node.complaints.answer(3, 1, "Alat sudah diganti.", by="sari")
        await node.admin.set_site(
            "TANJUNG",
            {
                "helper": "Ibu Nurhayati binti Abdullah, Kantor Desa Tanjung, +62 800-0000-0001",
                "counter": "Kantor Desa Tanjung Laut Indah, ruang pelayanan",
                "opening_hours": "08.00-12.00, 13.00-15.00",
                "power_window": "05.00-07.00, 18.00-23.00",
                "wifi_name": "WIFI DESA TANJUNG LAUT INDAH",
            },
        )
        await node.devices.add_known(
            "Mesin absen balai desa Tanjung Laut Indah",
            "a45e60123456",
            "harian",
            "attendance",
            900,
            "TANJUNG",
        )
        await node.devices.block("02a1b2c3d4e5", 1, "Memakai kartu orang lain", "sari")

    place.do(fill())
    known = place.call(lambda: node.devices.known(1))[-1]["id"]
    desk_pages = [
        ("announcements", "/operator/announcements"),
        ("complaints", "/operator/complaints"),
        ("complaint", f"/operator/complaints/{_last(place, answered=False)}"),
        ("answered complaint", "/operator/complaints/K-0003"),
        ("site", "/operator/site"),
        ("profile", "/operator/site/profile/harian"),
        ("devices", "/operator/devices"),
        ("remove device", f"/operator/devices/known/{known}/remove"),
        ("unblock", "/operator/devices/blocked/02a1b2c3d4e5"),
        ("announcements in English", "/operator/announcements?lang=en"),
        ("site in English", "/operator/site?lang=en"),
        ("devices in English", "/operator/devices?lang=en"),
        ("complaints in English", "/operator/complaints?lang=en"),
    ]
    return [(name, place.desk_url + path) for name, path in desk_pages]


def _last(place: Desk, *, answered: bool) -> str:
    rows = place.call(
        lambda: place.node.store.database.all(
            "SELECT id FROM complaint WHERE answered_at IS NULL AND serial IS NOT NULL"
        )
    )
    return f"K-{rows[-1]['id']:04d}"


def resident_pages(place: Desk) -> list[tuple[str, str]]:
    """(name, address) of the residents' pages about complaints."""
    numbers = [place.node.complaints.full_number(n) for n in (1, 2, 3)]
    found = [
        ("complaint form", "/complaint"),
        ("complaint form, large", "/complaint?huruf=besar"),
        ("complaint form in English", "/complaint?lang=en"),
        ("unknown number", "/complaint?nomor=K-0001-0000"),
        *((f"complaint {n}", f"/complaint/{number}") for n, number in enumerate(numbers)),
    ]
    return [(name, place.url + path) for name, path in found]


def test_every_page_is_light_readable_and_touchable(
    chromium: Chromium, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with desk(tmp_path_factory.mktemp("node")) as place:
        wrong: list[str] = []
        told: list[str] = []
        pages = furnish(place)
        page = signed_in(chromium, place, "kepala")
        page.on("console", lambda message: told.append(message.text))
        for name, url in (*pages, *resident_pages(place)):
            answer = page.goto(url)
            assert answer is not None and answer.status == 200, name
            octets = len(answer.body()) + sum(map(len, answer.headers.values()))
            if octets > (DESK_OCTETS if "/operator" in url else RESIDENT_OCTETS):
                wrong.append(f"{name}: {octets} octets")
            # Everything that can be folded out is looked at too.
            for summary in page.locator("main summary").all():
                if summary.evaluate("e => !e.parentElement.open"):
                    summary.click()
            for width, height in SIZES:
                page.set_viewport_size({"width": width, "height": height})
                for scheme in SCHEMES:
                    page.emulate_media(color_scheme=scheme)
                    found = page.evaluate(MEASURE)
                    where = f"{name} at {width}x{height} {scheme}"
                    for fault in ("pale", "faint", "small"):
                        wrong += [f"{where}: {fault} {each}" for each in found[fault] if each[1]]
                    if found["overflow"] > 0 or found["headings"] != 1:
                        wrong.append(f"{where}: {found['overflow']} px, {found['headings']} h1")
                    if found["lang"] != ("en" if "English" in name else "id"):
                        wrong.append(f"{where}: lang={found['lang']}")
                    _picture(page, name, width, scheme)
            if "English" in name and "/operator" in url:
                page.goto(url.replace("lang=en", "lang=id"))
        assert told == [], "the Content-Security-Policy is in the way"
        assert wrong == []
        page.context.close()


def _picture(page: Page, name: str, width: int, scheme: str) -> None:
    """Keep a picture where somebody wants to look at the pages."""
    directory = os.environ.get("PESISIR_TEST_PICTURES")
    if directory and width != SIZES[0][0]:
        file = f"{name.replace(' ', '-').replace(',', '')}-{width}-{scheme}.png"
        page.screenshot(path=os.path.join(directory, file), full_page=True)


def test_the_form_works_without_any_style(chromium: Chromium, place: Desk) -> None:
    page = phone_page(chromium)
    page.goto(f"{place.url}/complaint")
    page.evaluate("document.querySelector('style').remove()")
    text = page.inner_text("body")
    order = ["Ada masalah dengan WiFi?", "Masalahnya apa?", "Ceritakan", "Kirim", "Sudah lapor?"]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    page.context.close()
    assert "Lapor masalah" in Browser().get(place.url).text

"""The office's pages in a real browser: readable and touchable on a phone and on a wide screen,
without JavaScript, in Indonesian and English; and a box let in by hand and eye.

Needs Debian's Chromium. PESISIR_SCREENSHOTS=DIR keeps pictures.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import BrowserContext, expect

from portal import enrolment
from portal.domain.ledger import ClockQuality, Kind
from portal.hub.publishing import set_entry, set_profile
from portal.signing import SigningKeys
from tests.e2e.chromium import needs_chromium
from tests.e2e.test_desk_pages_browser import MEASURE
from tests.unit.hub_pages.office import Office, office

PHONE, WIDE = (360, 640), (1280, 800)
SHOTS = os.environ.get("PESISIR_SCREENSHOTS")
HOUR_S = 3_600
NODE = "0123456789abcdef"

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def place(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with office(tmp_path_factory.mktemp("office")) as found:
        fill(found)
        yield found


def fill(place: Office) -> None:
    """Three sites: one in full use, one gone silent, one without a box; an alarm; a box waiting."""
    place.add_site(power_window="06:00-22:00", group="utara")
    place.add_box("TJL", NODE)
    place.heard(NODE, size=12_345)
    place.sessions(NODE, [(60 - one, HOUR_S + 2_000 * one, one % 23 + 1) for one in range(60)])
    down = [[place.at - 7 * HOUR_S, place.at - 6 * HOUR_S]]
    for hour in range(12):
        told = json.dumps({"down": down}) if hour == 6 else "{}"
        quality = ClockQuality.UNSET if hour == 9 else ClockQuality.SYNCHRONISED
        place.event(
            NODE,
            100 + hour,
            Kind.HEALTH,
            told,
            ago_s=hour * HOUR_S - 5 if hour else 0,
            quality=quality,
        )
    place.add_site("WSI", "Desa Waisai dengan nama yang panjang sekali", group="utara")
    silent = place.add_box("WSI", "f" * 16)
    place.heard(silent, ago_s=50 * HOUR_S)
    place.add_site("RAJ", "Kampung Raja Ampat")
    place.write(
        "INSERT INTO alarm (node_id, kind, alarm_key, first_at, last_at, count, detail)"
        " VALUES (?, 'fork', 'x', ?, ?, 2, 'another root at 12, epoch 0')",
        [(NODE, place.at - HOUR_S, place.at)],
    )
    root = "3UPfxDpbgm3xVmi1aYWkHIRhEJEjBU5K9cZ0eBJUlmI="
    signed = f"pesisir/node/{NODE}/0\n12\n{root}\n\n\u2014 pesisir/node/{NODE} " + "A" * 90 + "\n"
    place.write(
        "INSERT INTO evidence (node_id, kind, alarm_key, side, what, octets, at)"
        " VALUES (?, 'fork', 'x', ?, 'note', ?, ?)",
        [(NODE, side, signed.encode(), place.at) for side in ("node", "hub")],
    )
    limits = set_profile("harian", {"data_day": "500MB"})
    phone = {"mac": "02aabbccddee", "reason": "menyebar virus"}
    said = {
        "words": "Kantor tutup tanggal 17 Agustus",
        "starts_at": 0,
        "ends_at": place.at + HOUR_S,
    }
    for name, change in (
        ("profiles", limits),
        ("blocked", set_entry("blocked", "mac", phone)),
        ("announcements", set_entry("announcements", "words", said)),
    ):
        place.do(place.hub.office.publishing.publish(name, "all", change, "ketua"))


def context_of(
    chromium: Chromium, place: Office, name: str, size: tuple[int, int]
) -> BrowserContext:
    """A browser in which this person is signed in."""
    context = chromium.new_context(
        viewport={"width": size[0], "height": size[1]}, java_script_enabled=False
    )
    cookie = place.enter(name).cookies["pesisir_review"]
    url = f"{place.desk_url}/review/"
    context.add_cookies([{"name": "pesisir_review", "value": cookie, "url": url}])
    return context


def paths(place: Office) -> list[str]:
    """Every page, with something in it."""
    (row,) = place.all("SELECT MAX(day) AS day FROM session_record")
    return [
        "/review/",
        "/review/site/TJL?day=2026-11-21",
        "/review/site/TJL/settings",
        "/review/site/RAJ",
        "/review/usage",
        f"/review/usage/voucher?at={row['day']}.{NODE}.0.1",
        "/review/alarms",
        f"/review/alarms/one?node={NODE}&kind=fork&key=x",
        "/review/boxes",
        f"/review/boxes/box/{NODE}",
        "/review/documents",
        "/review/documents/profiles?scope=all",
        "/review/documents/announcements?scope=all",
        "/review/documents/blocked?scope=all",
        "/review/documents/settings?scope=group+utara",
        "/review/people",
        "/review/people/tinjau",
        "/review/audit",
        "/review/me",
        "/review/me/password",
    ]


@pytest.mark.parametrize("size", [PHONE, WIDE], ids=["phone", "wide"])
def test_every_page_is_readable_and_touchable(
    chromium: Chromium, place: Office, size: tuple[int, int]
) -> None:
    context = context_of(chromium, place, "ketua", size)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(f"{page.url}: {message.text}"))
    wrong: list[str] = []
    for language in ("id", "en"):
        for path in paths(place):
            joined = "&" if "?" in path else "?"
            response = page.goto(f"{place.desk_url}{path}{joined}lang={language}")
            assert response is not None and response.status == 200, path
            wrong += [f"{path} {language}: {each}" for each in page.evaluate(MEASURE)]
            if SHOTS and language == "id":
                name = path.strip("/").split("?")[0].replace("/", "-") or "sites"
                place_of = Path(SHOTS) / f"office-{size[0]}-{name}.png"
                page.screenshot(path=str(place_of), full_page=True)
    context.close()
    assert not wrong, "\n".join(wrong)
    assert complaints == []


def test_wide_screens_have_real_tables(chromium: Chromium, place: Office) -> None:
    context = context_of(chromium, place, "tinjau", WIDE)
    page = context.new_page()
    page.goto(f"{place.desk_url}/review/")
    display = "e => getComputedStyle(e).display"
    assert page.locator("table.rows thead").first.evaluate(display) == "table-header-group"
    assert page.locator("table.rows tbody tr").first.evaluate(display) == "table-row"
    context.close()


def test_a_box_is_let_in_by_its_words(chromium: Chromium, place: Office) -> None:
    context = context_of(chromium, place, "ketua", PHONE)
    page = context.new_page()
    page.goto(f"{place.desk_url}/review/boxes")
    page.get_by_label("Kode (huruf dan angka)").fill("SRG")
    page.get_by_label("Nama lokasi").fill("Desa Sorong")
    page.get_by_role("button", name="Tambah dan buat token").click()
    command = page.locator("p.token").inner_text()
    if SHOTS:
        page.screenshot(path=str(Path(SHOTS) / "office-360-token.png"), full_page=True)
    with page.expect_download() as started:
        page.get_by_role("link", name="Unduh berkas").click()
    file = json.loads(Path(started.value.path()).read_text("utf-8"))
    assert file["token"] == command.split()[-1] and file["site"]["code"] == "SRG"
    keys = SigningKeys.make(os.urandom)
    box = enrolment.enrol(
        enrolment.read_words(place.tls_url, command.split()[-1]), keys, program="test"
    )
    page.goto(f"{place.desk_url}/review/boxes")
    page.get_by_role("link", name="SRG").click()
    if SHOTS:
        page.screenshot(path=str(Path(SHOTS) / "office-360-waiting.png"), full_page=True)
    page.get_by_label("Enam kata dari kotak").fill("ini bukan kata yang benar sama")
    page.get_by_role("button", name="Setujui").click()
    expect(page.get_by_role("alert")).to_contain_text("enam kata")
    page.get_by_label("Enam kata dari kotak").fill(" ".join(box.words))
    page.get_by_role("button", name="Setujui").click()
    expect(page.get_by_role("status")).to_contain_text("Kotak untuk SRG disetujui")
    (row,) = place.all("SELECT state FROM node WHERE node_id = ?", keys.node_id)
    assert row["state"] == "active"
    context.close()


def test_the_log_is_downloaded_from_the_page(chromium: Chromium, place: Office) -> None:
    context = context_of(chromium, place, "tinjau", PHONE)
    page = context.new_page()
    page.goto(f"{place.desk_url}/review/usage")
    with page.expect_download() as started:
        page.get_by_role("button", name="Unduh CSV").click()
    lines = Path(started.value.path()).read_text("utf-8").splitlines()
    assert len(lines) == 1 + 60
    context.close()

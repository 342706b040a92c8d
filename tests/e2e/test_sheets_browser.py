"""Printing at the desk in a real browser: the phone of an operator without JavaScript, and the page
that the browser itself prints.

Needs Debian's Chromium. Where it is missing the tests are skipped in plain sight; with CI=true they
fail.
"""

import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page

from tests.e2e.chromium import needs_chromium
from tests.unit import print_samples as samples
from tests.unit.web.desk import PASSWORD, Desk, desk

PHONE, WIDE = (360, 640), (1280, 800)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
MOST_OCTETS = 30_000
TAP_LEAST_PX = 48

pytestmark = needs_chromium


# Started after Chromium: a thread that forks while the node's runs would be a risk.
@pytest.fixture(scope="module")
def place(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("node")) as found:
        found.set_profile("keluarga", data_total="2GB", valid="7d")
        yield found


def entered(
    chromium: Chromium,
    place: Desk,
    size: tuple[int, int] = PHONE,
    scheme: Literal["light", "dark"] = "light",
) -> Page:
    """A page of sari's browser, JavaScript off."""
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


@pytest.fixture
def page(chromium: Chromium, place: Desk) -> Iterator[Page]:
    with_page = entered(chromium, place)
    yield with_page
    with_page.context.close()


def made(page: Page, place: Desk, count: str = "40", layout: str = "a4-40") -> str:
    """Fill in the form and refresh until the file is there; returns the batch."""
    page.goto(f"{place.desk_url}/operator/sheets")
    page.fill("[name=count]", count)
    page.select_option("[name=profile]", "keluarga")
    page.check(f"[value='{layout}']")
    page.fill("[name=note]", "Posyandu Mei")
    page.fill("[name=use_before]", "2027-01-31")
    page.click("text=Buat kartu")
    for _ in range(200):
        if not page.get_by_role("link", name="Perbarui").count():
            break
        page.wait_for_timeout(100)
        page.get_by_role("link", name="Perbarui").click()
    assert "Siap diunduh" in page.inner_text("main")
    found = re.search(r"Cetak ([A-Z]+[0-9]{3})", page.inner_text("h1"))
    assert found is not None
    return found[1]


def test_a_sheet_of_forty_is_made_and_downloaded_on_a_phone(
    place: Desk, page: Page, tmp_path: Path
) -> None:
    page.goto(f"{place.desk_url}/operator/")
    page.get_by_role("link", name="Cetak kartu").first.click()
    batch = made(page, place)
    with page.expect_download() as waiting:
        page.click("text=Unduh PDF")
    file = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(file)
    assert file.name == f"kartu-{batch}-a4-40.pdf"
    (image,) = samples.rendered(file.read_bytes(), 203)
    assert len(set(samples.decoded(image))) == 40


@pytest.mark.parametrize(("layout", "count"), [("a4-40", 41), ("a4-21", 22)])
def test_what_the_browser_prints_itself_is_a4_and_decodes(
    chromium: Chromium, place: Desk, page: Page, layout: str, count: int
) -> None:
    batch = made(page, place, str(count), layout)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.click("text=Cetak dari peramban")
    assert len(requests) == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    printed = page.pdf(prefer_css_page_size=True)
    pages = samples.rendered(printed, 203)
    assert [round(image.height / image.width, 2) for image in pages] == [1.41, 1.41]
    urls = [url for image in pages for url in samples.decoded(image)]
    assert len(set(urls)) == count
    words = samples.words_of(printed)
    for url in urls:
        code = url.rpartition("/")[2]
        assert place.shown(code)["serial"].startswith(batch)
        for part in (code[:4], code[4:8], code[8:]):
            assert part in words
    assert "Tekan Cetak" not in words


def test_a_card_becomes_a_picture_for_a_print_app_in_three_taps(
    place: Desk, page: Page, tmp_path: Path
) -> None:
    serial = place.do(place.node.vouchers.give("keluarga", site="TANJUNG", by="sari"))["serial"]
    page.goto(f"{place.desk_url}/operator/give/{serial}")
    page.locator("a[href$='/ticket']").first.click()
    with page.expect_download() as waiting:
        page.click("text=Gambar untuk aplikasi cetak di HP")
    file = tmp_path / "tiket.png"
    waiting.value.save_as(file)
    image = Image.open(io.BytesIO(file.read_bytes()))
    assert image.width == 384
    assert len(samples.decoded(image.convert("L"))) == 1


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", [PHONE, WIDE], ids=["phone", "wide"])
def test_every_page_of_printing_fits_is_small_and_can_be_tapped(
    chromium: Chromium,
    place: Desk,
    size: tuple[int, int],
    scheme: Literal["light", "dark"],
    tmp_path: Path,
) -> None:
    page = entered(chromium, place, size, scheme)
    batch = made(page, place, "3", "58mm")
    job = page.url.partition("?")[0]
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    for number, url in enumerate(
        (
            f"{place.desk_url}/operator/sheets",
            job,
            f"{place.desk_url}/operator/sheets/{batch}",
            f"{place.desk_url}/operator/cards/{batch}-01/ticket",
            f"{place.desk_url}/operator/poster",
        )
    ):
        before = len(requests)
        response = page.goto(url)
        assert response is not None and response.status == 200
        assert len(requests) == before + 1, requests
        assert len(response.body()) <= MOST_OCTETS
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        for target in page.locator("main a, main button, main input, main select").all():
            box = target.bounding_box()
            if box is None or not target.is_visible():
                continue
            is_choice = target.get_attribute("type") == "radio"
            if is_choice:
                box = target.locator("xpath=..").bounding_box() or box
            assert box["height"] >= TAP_LEAST_PX - 0.5, (url, target.inner_text())
        for field in page.locator("main input:not([type=hidden]), main select").all():
            assert field.evaluate("field => field.labels.length") >= 1
        if directory := os.environ.get("PESISIR_SHOTS"):
            page.screenshot(
                path=f"{directory}/sheets-{number}-{size[0]}-{scheme}.png", full_page=True
            )
    page.context.close()


def test_a_mistake_stands_beside_its_field(place: Desk, page: Page) -> None:
    page.goto(f"{place.desk_url}/operator/sheets")
    page.fill("[name=count]", "0")
    page.click("text=Buat kartu")
    field = page.locator("[name=count]")
    assert field.get_attribute("aria-invalid") == "true"
    slip = page.locator(f"#{field.get_attribute('aria-describedby')}")
    assert "Jumlah kartu 0 tidak bisa." in slip.inner_text()
    assert field.input_value() == "0"

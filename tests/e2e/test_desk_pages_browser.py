"""Every page of the operator's desk in a real browser: small, readable, touchable, by keyboard.

The pages are taken from the running desk, at both ends of their contents: a full site, and (where a
page has no object in its address) a site with nothing yet. Without JavaScript, in light and dark,
on phones and wide screens, in Indonesian and English. Needs Debian's Chromium; where it is missing
the tests are skipped in plain sight, with CI=true they fail. PESISIR_SCREENSHOTS=DIR keeps
pictures.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import BrowserContext, Page

from tests.e2e.chromium import needs_chromium
from tests.e2e.test_pages_browser import SCHEMES
from tests.unit.web.desk import PASSWORD, Desk, desk
from tests.unit.web.desk_world import Samples, fill

PHONE, SMALL, WIDE = (360, 640), (320, 568), (1280, 800)
MOST_OCTETS = 30_000
SHOTS = os.environ.get("PESISIR_SCREENSHOTS")

pytestmark = needs_chromium

MEASURE = """() => {
  const luminance = ([r, g, b]) => {
    const f = v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4
    return .2126 * f(r) + .7152 * f(g) + .0722 * f(b)
  }
  const rgb = text => (text.match(/[\\d.]+/g) || []).map(Number)
  const behind = element => {
    for (; element; element = element.parentElement) {
      const colour = rgb(getComputedStyle(element).backgroundColor)
      if (colour.length === 3 || colour[3] === 1) return colour
    }
    return [255, 255, 255]
  }
  const ratio = (a, b) => {
    const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y)
    return (high + .05) / (low + .05)
  }
  const shown = e => e.getClientRects().length && getComputedStyle(e).visibility !== 'hidden'
  const wrong = []
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement
    if (!walker.currentNode.data.trim() || !shown(element) || element.closest('svg')) continue
    const found = ratio(rgb(getComputedStyle(element).color), behind(element))
    if (found < 4.5) wrong.push(['pale', walker.currentNode.data.trim(), found])
    const room = element.getBoundingClientRect()
    if (room.width < 40 && room.height > 120)
      wrong.push(['squeezed', walker.currentNode.data.trim()])
  }
  const controls = 'a,button,summary,select,textarea,input:not([type=hidden])'
  for (const element of document.querySelectorAll(controls)) {
    if (!shown(element)) continue
    // A box in its label is touched through it.
    const touched = element.matches('[type=checkbox],[type=radio]') ? element.closest('label')
      : element
    const name = element.textContent.trim().slice(0, 40) || element.name || element.id
    if (!touched) { wrong.push(['no label around', name]); continue }
    const box = touched.getBoundingClientRect()
    if (box.height < 47.9 || box.width < 47.9)
      wrong.push(['small', name, box.width, box.height])
    if (element.matches('input,select,textarea,button,.btn')) {
      const border = rgb(getComputedStyle(element).borderTopColor)
      if (!element.matches('[type=checkbox],[type=radio]')
          && ratio(border, behind(element.parentElement)) < 3)
        wrong.push(['faint border', name])
    }
    if (element.matches('input,select,textarea')) {
      if (!element.labels.length && !element.getAttribute('aria-label'))
        wrong.push(['no label', name])
      if (parseFloat(getComputedStyle(element).fontSize) < 16) wrong.push(['iOS zooms', name])
    } else if (!element.textContent.trim() && !element.getAttribute('aria-label'))
      wrong.push(['no words', element.outerHTML.slice(0, 80)])
    for (const id of (element.getAttribute('aria-describedby') || '').split(' '))
      if (id && !document.getElementById(id)) wrong.push(['describedby nothing', id])
  }
  const ids = [...document.querySelectorAll('[id]')].map(e => e.id)
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) wrong.push(['id twice', id])
  for (const table of document.querySelectorAll('table')) {
    if (!table.querySelector('th')) wrong.push(['table without headers'])
    for (const th of table.querySelectorAll('th'))
      if (!th.scope) wrong.push(['th without scope', th.textContent])
  }
  for (const svg of document.querySelectorAll('svg'))
    if (svg.getAttribute('aria-hidden') !== 'true'
        && !(svg.getAttribute('role') === 'img'
             && (svg.querySelector('title') || svg.getAttribute('aria-label'))))
      wrong.push(['svg without name', svg.outerHTML.slice(0, 80)])
  for (const image of document.querySelectorAll('img'))
    if (image.alt === '' && !image.hasAttribute('alt')) wrong.push(['img without alt'])
  let level = 0
  for (const heading of document.querySelectorAll('h1,h2,h3,h4')) {
    const found = Number(heading.tagName[1])
    if (found > level + 1) wrong.push(['heading jumps', heading.textContent])
    level = found
  }
  if (document.querySelectorAll('h1').length !== 1) wrong.push(['h1 not one'])
  if (document.querySelectorAll('main').length !== 1) wrong.push(['main not one'])
  const root = document.documentElement
  const wide = root.scrollWidth - root.clientWidth
  if (wide > 0) {
    const over = [...document.querySelectorAll('body *')].filter(
      e => e.getBoundingClientRect().right > root.clientWidth + 1)
    wrong.push(['too wide', wide, over.slice(0, 3).map(e => e.outerHTML.slice(0, 80))])
  }
  return wrong
}"""


@dataclass(frozen=True)
class Scene:
    """A page, as somebody sees it."""

    path: str
    name: str


@dataclass
class Place:
    """A full desk and all its pages."""

    desk: Desk
    scenes: list[Scene]


# Started after Chromium: a thread that forks while the node's runs would be a risk.
@pytest.fixture(scope="module")
def place(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with desk(tmp_path_factory.mktemp("desk")) as found:
        samples = fill(found)["TANJUNG"]
        found.do(found.node.admin.add_site("SEPI", "WiFi Desa Sepi", "Asia/Jakarta"))
        found.pass_time(60)
        yield Place(found, list(scenes(found, samples)))


def scenes(place: Desk, samples: Samples) -> Iterator[Scene]:
    """Every GET page that is a page: not a file to print."""
    for page in place.service.desk.pages:
        if "GET" not in page.methods:
            continue
        path = samples.path(page.path)
        assert path is not None
        sites = ["TANJUNG"] if "{" in page.path else ["TANJUNG", "SEPI"]
        for site in sites:
            # In the frame of another site's operator the page would say another thing.
            person = place.enter("kepala")
            answer = person.request("GET", f"{path}{'&' if '?' in path else '?'}site={site}")
            assert answer.status == 200, (path, site, answer.text[:200])
            if "text/html" in (answer.headers["content-type"] or ""):
                yield Scene(
                    f"{path}{'&' if '?' in path else '?'}site={site}", f"{page.path} {site}"
                )


def context_of(
    chromium: Chromium, place: Place, name: str, size: tuple[int, int] = PHONE, **options: Any
) -> BrowserContext:
    """A browser in which this person is signed in."""
    context = chromium.new_context(
        viewport={"width": size[0], "height": size[1]}, java_script_enabled=False, **options
    )
    cookie = place.desk.enter(name).cookies["pesisir_desk"]
    context.add_cookies(
        [{"name": "pesisir_desk", "value": cookie, "url": f"{place.desk.desk_url}/operator/"}]
    )
    return context


def is_sheet(scene: Scene) -> bool:
    """A page to be printed: black on white, without the frame."""
    return scene.name.startswith("/operator/sheets/{batch}/page")


def test_every_page_is_light_readable_and_touchable(chromium: Chromium, place: Place) -> None:
    context = context_of(chromium, place, "kepala")
    page = context.new_page()
    devtools = context.new_cdp_session(page)
    devtools.send("Network.enable")
    requests: list[str] = []
    octets: list[float] = []
    complaints: list[str] = []
    devtools.on("Network.requestWillBeSent", lambda event: requests.append(event["request"]["url"]))
    devtools.on("Network.loadingFinished", lambda event: octets.append(event["encodedDataLength"]))
    page.on("console", lambda message: complaints.append(f"{page.url}: {message.text}"))
    wrong: list[str] = []
    assert len(place.scenes) > 30
    for scene in place.scenes:
        requests.clear()
        octets.clear()
        page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        page.goto(place.desk.desk_url + scene.path)
        for _ in range(6_000):
            # The size is told a moment after the page is there; a picture in it has none.
            if sum(octets):
                break
            page.wait_for_timeout(5)
        loads = [url for url in requests if not url.startswith("data:")]
        if len(loads) != 1:
            wrong.append(f"{scene.name}: {len(loads)} requests {loads}")
        if not 500 < sum(octets) <= MOST_OCTETS:
            wrong.append(f"{scene.name}: {sum(octets)} octets")
        if is_sheet(scene):
            continue
        for width, height in (SMALL, PHONE, WIDE):
            page.set_viewport_size({"width": width, "height": height})
            for scheme in SCHEMES:
                page.emulate_media(color_scheme=scheme)
                found = page.evaluate(MEASURE)
                wrong += [f"{scene.name} {width} {scheme}: {each}" for each in found]
                _photograph(page, scene, width, scheme)
    context.close()
    assert not wrong, "\n".join(wrong)
    assert complaints == [], "the Content-Security-Policy is in the way"


def _photograph(page: Page, scene: Scene, width: int, scheme: str) -> None:
    if SHOTS is None or (scheme == "dark" and width != PHONE[0]) or width == SMALL[0]:
        return
    name = re.sub(r"[^a-z0-9]+", "-", f"{scene.name} {width} {scheme}".lower()).strip("-")
    page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


@pytest.mark.parametrize("name", ["sari", "tinjau"])
def test_every_page_of_other_roles_is_touchable_too(
    chromium: Chromium, place: Place, name: str
) -> None:
    context = context_of(chromium, place, name)
    page = context.new_page()
    wrong: list[str] = []
    for scene in place.scenes:
        if scene.name.endswith("SEPI") or is_sheet(scene):
            continue
        answer = page.goto(place.desk.desk_url + scene.path)
        assert answer is not None and answer.status in (200, 403)
        wrong += [f"{scene.name}: {each}" for each in page.evaluate(MEASURE)]
    context.close()
    assert not wrong, "\n".join(wrong)


def test_every_page_speaks_english_when_asked(chromium: Chromium, place: Place) -> None:
    context = context_of(chromium, place, "kepala")
    page = context.new_page()
    page.goto(f"{place.desk.desk_url}/operator/me?lang=en")
    wrong: list[str] = []
    for scene in place.scenes:
        page.goto(place.desk.desk_url + scene.path)
        if is_sheet(scene):
            continue
        if page.locator("html").get_attribute("lang") != "en":
            wrong.append(f"{scene.name}: not in English")
        wrong += [f"{scene.name}: {each}" for each in page.evaluate(MEASURE)]
    context.close()
    assert not wrong, "\n".join(wrong)


def test_letters_twice_as_large_and_wide_spacing_lose_nothing(
    chromium: Chromium, place: Place
) -> None:
    context = context_of(chromium, place, "kepala")
    page = context.new_page()
    wrong: list[str] = []
    for scene in place.scenes:
        if is_sheet(scene):
            continue
        page.goto(place.desk.desk_url + scene.path)
        page.evaluate(
            """() => { for (const e of document.querySelectorAll('*')) Object.assign(e.style,
            {lineHeight: '1.5', letterSpacing: '.12em', wordSpacing: '.16em'}) }"""
        )
        wide = page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        if wide > 0:
            wrong.append(f"{scene.name}: spacing makes it {wide} px too wide")
        page.goto(place.desk.desk_url + scene.path)
        page.evaluate("document.documentElement.style.fontSize = '36px'")
        clipped = page.evaluate(
            "[...document.querySelectorAll('main *')].filter(e => "
            "getComputedStyle(e).overflowX === 'hidden' && e.scrollWidth > e.clientWidth).length"
        )
        if clipped:
            wrong.append(f"{scene.name}: large letters are cut off")
    context.close()
    assert not wrong, "\n".join(wrong)


def test_the_keyboard_reaches_everything_with_a_visible_ring(
    chromium: Chromium, place: Place
) -> None:
    context = context_of(chromium, place, "kepala")
    page = context.new_page()
    for path in ("/operator/", "/operator/people", "/operator/me/password", "/operator/audit"):
        page.goto(place.desk.desk_url + path)
        page.keyboard.press("Tab")
        first = page.evaluate("document.activeElement.getAttribute('href')")
        assert first == "#isi", "the first stop leads past the frame"
        box = page.evaluate("document.activeElement.getBoundingClientRect().left")
        assert box >= 0, "the way past the frame is seen when it has the focus"
        stops = page.locator("a, button, select, textarea, summary, input:not([type=hidden])")
        rings = []
        for _ in range(stops.count()):
            rings.append(
                page.evaluate(
                    "(e => [getComputedStyle(e).outlineWidth,"
                    " getComputedStyle(e).outlineStyle].join(' '))(document.activeElement)"
                )
            )
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement === document.body"):
                break
        assert set(rings) == {"3px solid"}, path
    context.close()


def test_the_menu_is_reached_and_says_where_one_is(chromium: Chromium, place: Place) -> None:
    context = context_of(chromium, place, "sari")
    page = context.new_page()
    page.goto(f"{place.desk.desk_url}/operator/audit")
    page.click("text=Menu")
    here = page.locator("nav [aria-current=page]")
    assert here.inner_text() == "Catatan tindakan"
    hrefs = page.locator("nav a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    for href in hrefs:
        answer = page.goto(place.desk.desk_url + href)
        assert answer is not None and answer.status == 200, href
    assert "/operator/people" not in hrefs
    context.close()


def test_an_admin_adds_somebody_who_signs_in_and_sets_a_pin(
    chromium: Chromium, place: Place
) -> None:
    """The whole way in a browser, with cookies, redirects and policy in force."""
    context = context_of(chromium, place, "kepala")
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(f"{place.desk.desk_url}/operator/people")
    page.fill("#name", "Rini")
    page.check("input[value=operator]")
    page.check("input[name=at][value=TANJUNG]")
    page.click("button:has-text('Tambah')")
    password = page.locator("dd").nth(1).inner_text()
    # Loaded again, the browser sends the form a second time: nobody new, and no password is told.
    page.reload()
    assert password not in page.content()
    assert page.url.endswith("/operator/people/rini")
    context.close()

    context = chromium.new_context(
        viewport={"width": 360, "height": 640}, java_script_enabled=False
    )
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(f"{place.desk.desk_url}/operator/")
    page.fill("#name", "rini")
    page.fill("#password", "salah")
    page.click("main button")
    assert "salah" in page.locator("[role=alert]").inner_text()
    assert page.locator("#name").input_value() == "rini"
    page.fill("#password", password)
    page.press("#password", "Enter")
    assert "kata sandi Anda sendiri" in page.locator("main").inner_text()
    page.fill("#old", password)
    page.fill("#new", PASSWORD)
    page.fill("#again", PASSWORD)
    page.click("main button")
    assert "sudah diganti" in page.locator("[role=status]").inner_text()
    page.goto(f"{place.desk.desk_url}/operator/me/pin")
    page.fill("#pin", "280194")
    page.fill("#again", "280194")
    page.click("main button")
    page.click("button:has-text('Keluar')")
    assert "Ketik PIN Anda" in page.locator("main").inner_text()
    page.fill("#pin", "280194")
    page.press("#pin", "Enter")
    assert page.url.endswith("/operator/")
    cookies = {cookie["name"]: cookie for cookie in context.cookies()}
    for name in ("pesisir_desk", "pesisir_desk_browser"):
        assert cookies[name]["httpOnly"] and cookies[name]["sameSite"] == "Strict"
    assert [text for text in complaints if "Failed to load resource" not in text] == []
    context.close()

"""The residents' pages in a real browser, on small phones, in light and dark, without JavaScript.

Needs Debian's Chromium. Where it is missing the tests are skipped in plain sight; with CI=true they
fail.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import BrowserContext, Page

from portal.domain.voucher import make_code
from portal.practice.gateway import PracticeGateway
from portal.practice.phone import Phone
from tests.e2e.chromium import needs_chromium
from tests.unit.web.village import Browser, Village, open_internet, village

SIZES = ((320, 568), (360, 640))
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
MOST_OCTETS = 14_000
WRONG = make_code(71_000_000_000)

pytestmark = needs_chromium


# Started after Chromium: a thread that forks while the node's runs would be a risk.
@pytest.fixture(scope="module")
def place(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Village]:
    with village(
        tmp_path_factory.mktemp("node"),
        variables={"PESISIR_HTTP_TRUSTED_PROXIES": '["127.0.0.1"]'},
    ) as found:
        yield found


@dataclass
class Scene:
    """A page or state, and how to get there."""

    name: str
    open: Callable[[Page], object]
    status: int = 200


def go(url: str) -> Callable[[Page], object]:
    return lambda page: page.goto(url)


def enlarged(url: str) -> Callable[[Page], object]:
    def act(page: Page) -> None:
        page.goto(url)
        page.click("text=Huruf besar")

    return act


def typing(gateway: PracticeGateway, phone: Phone, code: str) -> Callable[[Page], object]:
    def act(page: Page) -> None:
        page.goto(f"http://{gateway.host}:{phone.port}/internet")
        page.fill("#code", code)
        page.click("form button")

    return act


@pytest.fixture(scope="module")
def scenes(place: Village) -> list[Scene]:
    """Every page a resident can meet, with real cards in every state."""
    url = place.url
    browser = Browser()

    def post() -> tuple[PracticeGateway, Phone]:
        gateway = place.add_gateway()
        return gateway, gateway.phones[0]

    found = [
        Scene("terms", go(f"{url}/terms")),
        Scene("privacy", go(f"{url}/privacy")),
        Scene("privacy in English", go(f"{url}/privacy?lang=en")),
        Scene("missing", go(f"{url}/a/b"), 404),
        Scene("bad arrival", go(f"{url}/?res=notyet&uamip=8.8.8.8&uamport=1"), 400),
        Scene("logged out", go(f"{url}/logout?done=1")),
        Scene("nobody to log out", go(f"{url}/logout")),
        Scene("not in", go(f"{url}/status")),
    ]

    gateway, phone = post()
    internet = f"http://{gateway.host}:{phone.port}/internet"
    found += [
        Scene("form", go(internet)),
        Scene("large form", enlarged(internet)),
        Scene("empty", typing(gateway, phone, "")),
        Scene("short", typing(gateway, phone, "4829 1730 551")),
        Scene("mistyped", typing(gateway, phone, "4829 1730 5514")),
        Scene("example", typing(gateway, phone, "4829 1730 5515")),
        Scene("scanned", go(f"{url}/v/{place.issue()[0]}")),
    ]
    found.append(Scene("unknown code", typing(*post(), WRONG)))

    gateway, phone = post()
    page = open_internet(browser, gateway, phone)
    for n in range(6):
        page = browser.submit(page, kode=make_code(71_000_000_001 + n))
    assert page.status == 429
    found.append(Scene("too many misses", typing(gateway, phone, WRONG), 429))

    gateway, phone = post()
    code, _ = place.issue()
    page = browser.submit(open_internet(browser, gateway, phone), kode=code)
    success = page.url
    status = url + page.links["Lihat sisa kuota"]
    place.do(gateway.download(phone, 420_000_000))
    place.do(gateway.interim(phone))
    found += [
        Scene("success", go(success)),
        Scene("status", go(status)),
        Scene("status, large", go(f"{status}&huruf=besar")),
        Scene("status in English", go(f"{status}&lang=en")),
        Scene("log out", go(status.replace("/status?", "/logout?"))),
        Scene("move", typing(gateway, gateway.phones[1], code)),
    ]

    gateway, phone = post()
    place.set_profile(
        "semua",
        data_day="10MB",
        data_week="1GB",
        data_month="5GB",
        data_total="9GB",
        time_day="1h",
        time_week="5h",
        time_month="20h",
        time_total="90h",
        valid="30d",
        devices="3",
    )
    code, _ = place.issue("semua")
    page = browser.submit(open_internet(browser, gateway, phone), kode=code)
    found.append(Scene("eight quotas", go(url + page.links["Lihat sisa kuota"])))

    gateway, phone = post()
    code, _ = place.issue()
    page = browser.submit(open_internet(browser, gateway, phone), kode=code)
    place.do(gateway.download(phone, 600_000_000))
    place.do(gateway.settled())
    found += [
        Scene("used up", go(url + page.links["Lihat sisa kuota"])),
        Scene("last card used up", go(f"http://{gateway.host}:{phone.port}/internet")),
        Scene("used up, typed", typing(gateway, phone, code)),
    ]

    gateway, phone = post()
    code, serial = place.issue()
    place.do(place.node.vouchers.revoke([serial], "hilang"))
    found.append(Scene("revoked", typing(gateway, phone, code)))
    return found


def context_of(chromium: Chromium, size: tuple[int, int], scheme: Any) -> BrowserContext:
    return chromium.new_context(
        viewport={"width": size[0], "height": size[1]},
        java_script_enabled=False,
        color_scheme=scheme,
        # Many phones share one address here, so that a page is known by its arrival alone.
        extra_http_headers={"x-forwarded-for": "10.77.0.1"},
    )


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
  const pale = [], faint = [], small = []
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement
    if (!walker.currentNode.data.trim() || !element.getClientRects().length) continue
    const found = ratio(rgb(getComputedStyle(element).color), behind(element))
    if (found < 4.5) pale.push([walker.currentNode.data.trim(), found])
  }
  for (const element of document.querySelectorAll('a,button,input:not([type=hidden])')) {
    const box = element.getBoundingClientRect()
    const name = element.textContent.trim() || element.id
    if (box.height < 48 || box.width < 48) small.push([name, box.width, box.height])
    if (element.matches('input,button,.btn')) {
      const border = rgb(getComputedStyle(element).borderTopColor)
      const found = ratio(border, behind(element.parentElement))
      if (found < 3) faint.push([name, found])
    }
  }
  const shell = document.querySelector('.shell')
  if (shell) {
    const found = ratio(rgb(getComputedStyle(shell).stroke), behind(shell.closest('section')))
    if (found < 3) faint.push(['battery', found])
    const level = shell.parentElement.querySelector('rect:nth-of-type(3)')
    if (level) {
      const found = ratio(rgb(getComputedStyle(level).fill), behind(shell.closest('section')))
      if (found < 3) faint.push(['level', found])
    }
  }
  const root = document.documentElement
  return {pale, faint, small, lang: root.lang, overflow: root.scrollWidth - root.clientWidth,
          headings: document.querySelectorAll('h1').length}
}"""


def test_every_page_is_light_readable_and_touchable(
    chromium: Chromium, place: Village, scenes: list[Scene]
) -> None:
    context = context_of(chromium, SIZES[0], "light")
    page = context.new_page()
    devtools = context.new_cdp_session(page)
    devtools.send("Network.enable")
    requests: list[str] = []
    octets: list[float] = []
    answers: list[Any] = []
    complaints: list[str] = []
    devtools.on("Network.requestWillBeSent", lambda event: requests.append(event["request"]["url"]))
    devtools.on("Network.loadingFinished", lambda event: octets.append(event["encodedDataLength"]))
    page.on("response", lambda answer: answers.append(answer))
    page.on("console", lambda message: complaints.append(message.text))
    wrong: list[str] = []
    for scene in scenes:
        answers.clear()
        scene.open(page)
        assert page.url.startswith(place.url), f"{scene.name} is at {page.url}"
        last = [answer for answer in answers if answer.url == page.url][-1]
        assert last.status == scene.status, scene.name
        if last.request.method == "GET":
            requests.clear()
            octets.clear()
            page.reload()
            for _ in range(6_000):
                # The size is told a moment after the page is there.
                if sum(octets):
                    break
                page.wait_for_timeout(5)
            loads = [url for url in requests if not url.startswith("data:")]
            if len(loads) != 1:
                wrong.append(f"{scene.name}: {len(loads)} requests {loads}")
            if not 500 < sum(octets) < MOST_OCTETS:
                wrong.append(f"{scene.name}: {sum(octets)} octets")
        for width, height in SIZES:
            page.set_viewport_size({"width": width, "height": height})
            for scheme in SCHEMES:
                page.emulate_media(color_scheme=scheme)
                name = f"{scene.name} at {width}x{height} {scheme}"
                wrong += [f"{name}: {each}" for each in faults_of(page, scene)]
    refused = [text for text in complaints if "Failed to load resource" not in text]
    context.close()
    assert wrong == []
    assert refused == [], "the Content-Security-Policy is in the way"


def faults_of(page: Page, scene: Scene) -> list[str]:
    """What is not as it should be on the page as it is shown now."""
    found = page.evaluate(MEASURE)
    wrong = [f"{what} {each}" for what in ("pale", "faint", "small") for each in found[what]]
    if found["lang"] != ("en" if "English" in scene.name else "id"):
        wrong.append(f"lang={found['lang']}")
    if found["overflow"] > 0:
        wrong.append(f"{found['overflow']} px too wide")
    if found["headings"] != 1:
        wrong.append(f"{found['headings']} h1")
    return wrong


def test_the_form_fits_above_the_keyboard(chromium: Chromium, place: Village) -> None:
    gateway = place.add_gateway()
    phone = gateway.phones[0]
    context = context_of(chromium, (360, 640), "light")
    page = context.new_page()
    for code, large in (("", False), ("4829 1730 5514", False), ("", True)):
        page.goto(f"http://{gateway.host}:{phone.port}/internet")
        if code:
            page.fill("#code", code)
            page.click("form button")
        if large:
            page.click("text=Huruf besar")
        field = page.locator("#code").bounding_box()
        button = page.locator("form button").bounding_box()
        assert field is not None and button is not None
        bottom = button["y"] + button["height"]
        assert bottom <= 640, (code, large)
        assert bottom - field["y"] <= 320, (code, large)
        size = page.locator("#code").evaluate("e => parseFloat(getComputedStyle(e).fontSize)")
        assert size >= 16, "iOS zooms into a field with smaller letters"
    context.close()


def test_a_code_is_seen_whole_in_the_field(chromium: Chromium, place: Village) -> None:
    context = context_of(chromium, (320, 568), "light")
    page = context.new_page()
    for query in ("", "?huruf=besar"):
        page.goto(f"{place.url}/v/{place.issue()[0]}{query}")
        hidden = page.locator("#code").evaluate("e => e.scrollWidth - e.clientWidth")
        assert hidden <= 0, query
    context.close()


def test_letters_twice_as_large_and_wide_spacing_lose_nothing(
    chromium: Chromium, place: Village, scenes: list[Scene]
) -> None:
    context = context_of(chromium, (320, 568), "light")
    page = context.new_page()
    for scene in scenes:
        if scene.name not in ("form", "status", "mistyped", "privacy", "move", "success"):
            continue
        scene.open(page)
        page.evaluate("document.documentElement.style.fontSize = '36px'")
        # A whole word may not fit any more; what matters is that nothing is cut off.
        clipped = page.evaluate(
            "[...document.querySelectorAll('main *')].filter(e => "
            "getComputedStyle(e).overflowX === 'hidden' && e.scrollWidth > e.clientWidth).length"
        )
        assert clipped == 0, scene.name
        page.evaluate("document.documentElement.style.fontSize = ''")
        page.evaluate(
            """() => { for (const e of document.querySelectorAll('*')) Object.assign(e.style,
            {lineHeight: '1.5', letterSpacing: '.12em', wordSpacing: '.16em'}) }"""
        )
        wide = page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wide <= 0, scene.name
    context.close()


def test_the_keyboard_reaches_everything_with_a_visible_ring(
    chromium: Chromium, place: Village
) -> None:
    gateway = place.add_gateway()
    context = context_of(chromium, (360, 640), "light")
    page = context.new_page()
    page.goto(f"http://{gateway.host}:{gateway.phones[0].port}/internet")
    expected = page.locator("a, button, input:not([type=hidden])").count()
    seen = set()
    for _ in range(expected):
        page.keyboard.press("Tab")
        seen.add(
            page.evaluate(
                "(e => [e.tagName, e.textContent, getComputedStyle(e).outlineWidth,"
                " getComputedStyle(e).outlineStyle].join('|'))(document.activeElement)"
            )
        )
    assert len(seen) == expected
    assert all(each.endswith("|3px|solid") for each in seen), seen
    context.close()


def test_a_resident_logs_in_sees_what_is_left_and_leaves(
    chromium: Chromium, place: Village
) -> None:
    """The whole way, over all redirects, with the Content-Security-Policy in force."""
    gateway = place.add_gateway()
    phone = gateway.phones[0]
    code, serial = place.issue()
    context = context_of(chromium, (360, 640), "dark")
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(f"http://{gateway.host}:{phone.port}/internet")
    page.fill("#code", "4829 1730 5514")
    page.click("form button")
    assert page.locator("[role=alert]").inner_text().startswith("■ Ada angka yang salah ketik.")
    page.fill("#code", code)
    page.press("#code", "Enter")
    assert "Berhasil." in page.locator("h1").inner_text()
    page.click("text=Lihat sisa kuota")
    assert "Internet menyala" in page.locator("h1").inner_text()
    assert serial in page.locator("dl").inner_text()
    page.click("button:has-text('Keluar')")
    assert "Anda sudah keluar." in page.locator("main").inner_text()
    assert phone.session is None
    assert context.cookies() == []
    assert complaints == []
    context.close()


def test_a_scanned_card_goes_through_the_gateway_in_one_tap(
    chromium: Chromium, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with village(tmp_path_factory.mktemp("node")) as place:
        gateway = place.add_gateway()
        phone = gateway.phones[0]
        open_internet(Browser(), gateway, phone)
        context = chromium.new_context(java_script_enabled=False)
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        for _ in range(2):
            # The second time the phone is online: the new card takes the old one's place.
            code, serial = place.issue()
            page.goto(f"{place.url}/{code}")
            page.click("form button")
            assert "Berhasil." in page.locator("h1").inner_text()
            assert place.shown(serial)["open_sessions"] == 1
        assert complaints == []
        context.close()


def test_nothing_of_a_page_is_lost_without_its_style(chromium: Chromium, place: Village) -> None:
    gateway = place.add_gateway()
    context = context_of(chromium, (360, 640), "light")
    page = context.new_page()
    page.goto(f"http://{gateway.host}:{gateway.phones[0].port}/internet")
    page.evaluate("document.querySelector('style').remove()")
    text = page.locator("body").inner_text()
    order = ["WiFi Desa Tanjung", "Selamat datang", "Kode di kartu", "Contoh", "Butuh bantuan"]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert re.search(r"Ibu Sari", text)
    context.close()

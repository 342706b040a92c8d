"""Every page and redirect: headers, hosts, probes, limits, and the catalogues behind the texts."""

import ast
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from babel.messages.pofile import read_po
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from portal.complaints import CATEGORIES
from portal.domain.quota import Reason
from portal.resources import data_dir
from portal.web import sentences
from portal.web.app import PROBE_PATHS, build
from portal.web.pages import Pages
from portal.web.text import Texts
from tests.unit.web.village import Browser, Village, open_internet, village

ROOT = Path(__file__).resolve().parents[3]
PATHS = (
    "/",
    "/status",
    "/connected",
    "/logout",
    "/terms",
    "/privacy",
    "/v/482917305514",
    "/login",
    "/complaint",
    "/complaint/K-0001-0000",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Village]:
    with village(tmp_path_factory.mktemp("node")) as found:
        yield found


@pytest.mark.parametrize(
    "path", (*PATHS, "/nothing", "/a/b/c", "/?res=notyet&uamip=8.8.8.8&uamport=1")
)
def test_every_page_carries_the_headers_and_one_document(place: Village, path: str) -> None:
    page = Browser().get(place.url + path)
    headers = page.headers
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    policy = headers["content-security-policy"]
    for part in ("default-src 'none'", "style-src 'sha256-", "base-uri 'none'", "img-src data:"):
        assert part in policy
    assert "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert "strict-transport-security" not in headers and "set-cookie" not in headers
    assert len(page.body) + sum(len(f"{k}: {v}\r\n") for k, v in headers.items()) < 14_000
    assert (
        page.html.startswith("<!doctype html>") and '<link rel="icon" href="data:,">' in page.html
    )


def test_the_form_may_only_lead_to_us_and_to_this_arrivals_gateway(place: Village) -> None:
    gateway = place.add_gateway()
    page = open_internet(Browser(), gateway, gateway.phones[1])
    policy = page.headers["content-security-policy"]
    allowed = re.search(r"form-action ([^;]*)", policy)
    assert allowed is not None
    origins = set(allowed[1].split())
    assert origins == {"'self'", place.url, f"http://127.0.0.1:{gateway.phones[1].port}"}


@pytest.mark.parametrize("host", ["connectivitycheck.gstatic.com", "captive.apple.com", "8.8.8.8"])
@pytest.mark.parametrize("path", ["/generate_204", "/hotspot-detect.html", "/anything?x=1", "/"])
def test_what_was_meant_for_another_host_is_led_to_the_portal(
    place: Village, host: str, path: str
) -> None:
    page = Browser().request("GET", place.url + path, headers={"host": host})
    assert page.status == 302
    assert page.headers["location"] == f"{place.url}/"
    assert len(page.body) > 4
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["connection"] == "close"


@pytest.mark.parametrize("path", sorted(PROBE_PATHS))
def test_probes_of_phones_are_led_to_the_portal_under_our_own_host_too(
    place: Village, path: str
) -> None:
    page = Browser().request("GET", place.url + path)
    assert page.status == 302 and len(page.body) > 4


def test_a_scanned_code_survives_a_host_we_do_not_know(place: Village) -> None:
    page = Browser().request(
        "GET", f"{place.url}/482917305515", headers={"host": "wifi.lama.desa.id"}
    )
    assert page.headers["location"] == f"{place.url}/482917305515"


@pytest.mark.parametrize("path", (*PATHS, "/generate_204", "/captive-portal/api", "/healthz"))
def test_head_works_as_get_without_a_body(place: Village, path: str) -> None:
    got = Browser().request("GET", place.url + path)
    head = Browser().request("HEAD", place.url + path)
    assert head.status == got.status and head.body == b""
    assert head.headers["content-type"] == got.headers["content-type"]


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff\xfe&=&&", b"kode=" + b"1" * 4_000, b"a=b&" * 500, b"kode=%00%0d%0a<script>&f=%ff"],
)
def test_a_malformed_post_is_the_form_again(place: Village, body: bytes) -> None:
    page = Browser().request("POST", f"{place.url}/login", body)
    assert page.status == 200 and page.action == "/login"
    assert "<script" not in page.html


@pytest.mark.parametrize("path", ["/login", "/logout"])
def test_a_body_over_four_kilobytes_is_refused(place: Village, path: str) -> None:
    page = Browser().request("POST", place.url + path, b"kode=" + b"1" * 5_000)
    assert page.status == 413 and "Isian terlalu panjang." in page.text


def test_an_unknown_address_or_method_is_a_page(place: Village) -> None:
    for method, path in (("GET", "/nothing"), ("GET", "/x/y/z"), ("POST", "/"), ("PUT", "/login")):
        page = Browser().request(method, place.url + path, b"")
        assert page.status in (404, 405), (method, path)
        assert "Halaman ini tidak ada." in page.text


def test_an_error_of_ours_is_a_page_with_a_number_that_the_log_has(
    place: Village, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(request: Request) -> Response:
        raise RuntimeError("code 482917305515 and 4829 1730 5515")

    node = place.node
    application = build(
        door=node.door,
        captivities=node.captivities,
        admin=node.admin,
        backhaul=lambda: node.backhaul,
        http=node.settings.http,
        texts=Texts(),
        now=node.now,
        secret=bytes(32),
        notices=node.notices,
        complaints=node.complaints,
        is_healthy=node.is_healthy,
        routes=[Route("/broken", broken)],
    )
    with caplog.at_level(logging.ERROR):
        page = place.serve_once(application, "/broken")
    assert page.status == 500
    assert "Maaf, ada gangguan di alat kami." in page.text
    number = re.search(r"K-[0-9A-F]{4}", page.text)
    assert number is not None and number[0] in caplog.text
    assert "RuntimeError" in caplog.text and "5515" not in caplog.text
    assert "RuntimeError" not in page.html


# --- for programs ---------------------------------------------------------------------------------


def test_the_captive_portal_api_says_captive_to_strangers(place: Village) -> None:
    answer = Browser().request("GET", f"{place.url}/captive-portal/api?mac=02a1b2c3d401")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/captive+json"
    assert answer.headers["cache-control"] == "no-store"
    assert json.loads(answer.body) == {"captive": True, "user-portal-url": f"{place.url}/"}
    assert len(answer.body) < 1_024


def test_the_captive_portal_api_counts_down_for_an_open_session(tmp_path: Path) -> None:
    variables = {"PESISIR_HTTP_TRUSTED_PROXIES": '["127.0.0.9"]'}
    with village(tmp_path, variables=variables) as place:
        gateway = place.add_gateway()
        phone = gateway.phones[0]
        form = open_internet(Browser(), gateway, phone)
        Browser().submit(form, kode=place.issue()[0])
        place.do(gateway.settled())
        answer = Browser(source="127.0.0.9").request(
            "GET", f"{place.url}/captive-portal/api", headers={"x-forwarded-for": phone.ip}
        )
    found = json.loads(answer.body)
    assert found["captive"] is False and found["can-extend-session"] is True
    assert found["seconds-remaining"] == 7_200 and found["bytes-remaining"] == 500_000_000
    assert found["venue-info-url"].endswith("/status")


def test_health_answers_on_any_host(place: Village) -> None:
    answer = Browser().request("GET", f"{place.url}/healthz", headers={"host": "pemantau"})
    assert answer.status == 200 and json.loads(answer.body)["status"] == "ok"


def test_metrics_are_for_loopback_and_who_is_named(tmp_path: Path, place: Village) -> None:
    answer = Browser().request("GET", f"{place.url}/metrics")
    assert answer.status == 200 and b"pesisir_" in answer.body
    # Behind a proxy that nobody trusts, loopback may be anybody.
    headers = {"x-forwarded-for": "1.2.3.4"}
    assert Browser().request("GET", f"{place.url}/metrics", headers=headers).status == 403
    variables = {
        "PESISIR_HTTP_TRUSTED_PROXIES": '["127.0.0.1"]',
        "PESISIR_HTTP_METRICS_FROM": '["10.9.0.0/24"]',
    }
    with village(tmp_path, variables=variables) as other:
        for address, status in (("10.9.0.7", 200), ("10.8.0.7", 403)):
            headers = {"x-forwarded-for": address}
            assert (
                Browser().request("GET", f"{other.url}/metrics", headers=headers).status == status
            )


# --- texts and style ------------------------------------------------------------------------------


def keys_of(language: str) -> set[str]:
    with (data_dir("templates") / "lang" / f"{language}.po").open("rb") as file:
        ids = [message.id for message in read_po(file) if message.id]
    return {key if isinstance(key, str) else key[0] for key in ids}


def texts_in_source() -> list[str]:
    """Every string in the pages' code, and every quoted word in their templates."""
    found: list[str] = []
    sources = [
        *(ROOT / "portal" / "web").glob("*.py"),
        *(ROOT / "portal" / "practice").glob("*.py"),
    ]
    for path in sources:
        if path.name == "limit_words.py":
            continue  # of the desk and the office, whose catalogues tests of their own meet
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [
                    part.value if isinstance(part, ast.Constant) else "*" for part in node.values
                ]
                found.append("".join(str(part) for part in parts))
    for path in (ROOT / "templates").rglob("*.html"):
        if path.parent.name == "operator":
            continue
        found += re.findall(r"\"([a-z_.]+)\"", path.read_text("utf-8"))
    return found


def made_keys() -> set[str]:
    """Keys that are put together from parts."""
    windows = ("session", "day", "week", "month", "total")
    keys = {f"status.{kind}_{window}" for kind in ("data", "time") for window in windows}
    keys |= {f"end.{key}" for key in (*sentences._END_KEYS.values(), "other")}
    keys |= {f"unit.{unit}" for unit in ("kb", "mb", "gb", "kbps", "mbps")}
    keys |= {f"time.{unit}" for unit in ("days", "hours", "minutes", "seconds")}
    keys |= {f"error.{key}" for key in ("no_answer", "not_yet", "old_page")}
    keys |= {f"complaint.about_{category}" for category in CATEGORIES}
    unsaid = sentences._UNSAID | {Reason.WRONG_PASSWORD}
    keys |= {f"error.{reason}" for reason in Reason if reason not in unsaid}
    keys |= {f"error.{reason}_next" for reason in sentences._OWN_NEXT}
    return keys


def test_every_text_is_used_and_every_text_used_is_there() -> None:
    known = keys_of("id")
    used = {text for text in texts_in_source() if re.fullmatch(r"[a-z_]+\.[a-z0-9_]+", text)}
    used = {
        text
        for text in used
        if not text.endswith("_") and text.split(".")[0] in {key.split(".")[0] for key in known}
    }
    assert made_keys() - known == set(), "used and not in id.po"
    assert {key for key in used if key not in known} == set(), "used and not in id.po"
    assert known - used - made_keys() == set(), "in id.po and not used"


def test_english_says_everything_too() -> None:
    assert keys_of("en") == keys_of("id")


def test_no_template_says_anything_by_itself() -> None:
    for path in (data_dir("templates") / "resident").glob("*.html"):
        text = re.sub(
            r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|<[^>]*>", " ", path.read_text("utf-8"), flags=re.S
        )
        assert re.findall(r"[A-Za-z]{2,}", text) == [], path.name


def test_sentences_are_short_enough_to_read() -> None:
    long = []
    with (data_dir("templates") / "lang" / "id.po").open("rb") as file:
        for message in read_po(file):
            texts = [message.string] if isinstance(message.string, str) else message.string
            for text in texts or ():
                for sentence in re.split(r"[.?:] ", text):
                    if len(sentence.split()) > 12:
                        long.append(sentence)
    assert long == []


def test_the_style_keeps_to_old_webviews_and_to_its_budget() -> None:
    style = str(Pages()._style)
    assert len(style.encode()) <= 3_072
    for newer in (
        ":is(",
        ":where(",
        ":has(",
        "clamp(",
        "min(",
        "max(",
        "aspect-ratio",
        "gap:",
        "inset:",
        "dvh",
        "@layer",
        "@container",
        "@import",
        "@font-face",
        "url(",
        "gradient",
        "shadow",
        "animation",
        "transition",
        "backdrop",
        "&",
        ":focus-visible",
    ):
        assert newer not in style, newer


FORBIDDEN = (
    "<script",
    "target=",
    "window.open",
    "alert(",
    " download",
    "intent:",
    "whatsapp:",
    "http-equiv",
    "maximum-scale",
    "localStorage",
    "<iframe",
    "onclick",
    "//fonts",
    "style=",
)


def test_no_page_uses_what_mini_browsers_cannot(place: Village) -> None:
    for path in PATHS:
        page = Browser().get(place.url + path)
        for word in FORBIDDEN:
            assert word not in page.html, (path, word)
        for href in page.links.values():
            assert urlsplit(href).scheme in ("", "tel"), href

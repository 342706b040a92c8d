"""Every page of the desk, with every role, for the own site and another; CSRF and headers.

The pages are taken from the running desk, so that a new one is tested as soon as it is there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import urlsplit

import pytest

from portal.web.operator.app import MODULES
from portal.web.operator.desk import VILLAGE, Need
from tests.unit.web.desk import OPERATORS, Desk, Person, desk, forms_of
from tests.unit.web.desk_world import SITES, Samples, fill
from tests.unit.web.village import Page

ROLES = {name: (role, site) for name, role, site in OPERATORS}


@dataclass
class World:
    """A full desk, and who is signed in at it."""

    place: Desk
    samples: dict[str, Samples]
    people: dict[str, Person]

    def person(self, name: str) -> Person:
        """Signed in, also after a page that ended it."""
        person = self.people.get(name)
        if person is None or person.request("GET", "/operator/me").status != 200:
            person = self.people[name] = self.place.enter(name)
        return person

    def csrf(self, person: Person) -> str:
        """The token of their sign-in, without asking for a page."""
        token = person.cookies["pesisir_desk"]
        found = self.place.call(lambda: self.place.service.desk.desk.sign_ins.find(token))
        assert found is not None
        return found.csrf


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with desk(tmp_path_factory.mktemp("desk")) as place:
        yield World(place, fill(place), {})


def routes() -> list[tuple[str, str, Need]]:
    """(method, path pattern, who) of every page; read once, without a node behind it."""
    found: list[tuple[str, str, Need]] = []

    class Anything:
        def __getattr__(self, name: str) -> Any:
            return Anything()

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return Anything()

    from portal.web.operator.signin import Door

    anything: Any = Anything()
    anything.ways = VILLAGE
    pages = list(Door(anything, secret=b"x" * 32, random_token=str).pages())
    for module in MODULES:
        pages += module(anything, anything)
    for page in pages:
        found += [(method, page.path, page.needs) for method in page.methods]
    return found


ROUTES = routes()
GETS = [(pattern, needs) for method, pattern, needs in ROUTES if method == "GET"]
POSTS = [(pattern, needs) for method, pattern, needs in ROUTES if method == "POST"]
OTHERS = [route for route in ROUTES if Samples.is_of_a_site(route[1])]


def named(route: Any) -> str:
    return " ".join(part if isinstance(part, str) else part.name for part in route)


def test_the_list_of_pages_is_that_of_the_running_desk(world: World) -> None:
    running = {
        (method, page.path) for page in world.place.service.desk.pages for method in page.methods
    }
    assert {(method, path) for method, path, _ in ROUTES} == running
    assert len(running) > 30


def ask(
    world: World, name: str, method: str, path: str, fields: dict[str, str] | None = None
) -> Page:
    person = world.person(name)
    if method == "GET":
        return person.request("GET", path)
    return person.send(path, {"csrf": world.csrf(person), **(fields or {})})


# --- whose; first, while everything is still there


def test_both_sites_have_something_of_everything(world: World) -> None:
    for site in SITES:
        for pattern, _ in GETS:
            path = world.samples[site].path(pattern)
            assert path is not None
            path += f"{'&' if '?' in path else '?'}site={site}"
            page = ask(world, "kepala", "GET", path)
            assert page.status in (200, 303), (path, page.text[:200])


@pytest.mark.parametrize(("name", "other"), [("wayan", "TANJUNG"), ("tinjau", "WAISAI")])
@pytest.mark.parametrize("route", OTHERS, ids=named)
def test_what_belongs_to_another_site_does_not_exist(
    world: World, route: tuple[str, str, Need], name: str, other: str
) -> None:
    method, pattern, needs = route
    path = world.samples[other].path(pattern)
    assert path is not None
    before = world.place.deeds()
    for tried in (path, f"{path}{'&' if '?' in path else '?'}site={other}"):
        serial = world.samples[other].serial
        fields = {"reason": "coba", "digits": serial[-2:], "words": "coba", "site": other}
        page = ask(world, name, method, tried, fields)
        assert page.status == (404 if ROLES[name][0] in needs.value else 403), page.text[:200]
        assert unseen(world, other, page) == []
    assert world.place.deeds() == before


@pytest.mark.parametrize(("name", "other"), [("wayan", "TANJUNG"), ("tinjau", "WAISAI")])
@pytest.mark.parametrize("pattern", [p for p, _ in GETS if "{" not in p])
def test_no_list_shows_another_site(world: World, pattern: str, name: str, other: str) -> None:
    for path in (pattern, f"{pattern}?site={other}"):
        page = ask(world, name, "GET", path)
        assert unseen(world, other, page) == []


def unseen(world: World, other: str, page: Page) -> list[str]:
    """What of another site stands on the page; with its name, which the frame would show."""
    marks = (*world.samples[other].marks, world.samples[other].serial, f"WiFi Desa {other.title()}")
    # The language switch repeats the address that was asked for.
    html = page.html.replace(escape(urlsplit(page.url).path), "")
    return [mark for mark in marks if mark in html]


@pytest.mark.parametrize("pattern", [p for p, _ in POSTS if "{" not in p])
def test_a_form_with_another_sites_things_in_it_does_nothing_there(
    world: World, pattern: str
) -> None:
    """Whatever a form calls its fields: things of the other site are put into all of them."""
    other = world.samples["TANJUNG"]
    before = world.place.deeds()
    things = {
        "serial": other.serial,
        "serials": other.serial,
        "card": other.serial,
        "cards": other.serial,
        "from": other.serial,
        "first": other.serial,
        "to": other.serial,
        "last": other.serial,
        "batch": other.batch,
        "site": "TANJUNG",
        "site_id": "1",
        "at": "TANJUNG",
        "id": str(other.known_device),
        "number": other.complaint,
        "session": str(other.session),
        "mac": other.mac,
        "gateway": "pos-tanjung",
        "text": other.serial,
        "q": other.serial,
        "search": other.serial,
        "profile": "harian",
        "name": "harian",
        "words": "coba coba",
        "reason": "coba",
        "digits": other.serial[-2:],
        "count": "1",
        "layout": "a4-40",
    }
    page = ask(world, "wayan", "POST", pattern, things)
    assert page.status != 500
    done = world.place.deeds()[len(before) :]
    assert [deed for deed in done if deed["site_id"] == 1 and deed["operator"] == "wayan"] == []
    followed = world.person("wayan").follow(page)
    marks = [mark for mark in other.marks if mark not in things.values()]
    assert [mark for mark in marks if mark in followed.html] == []


# --- who may


@pytest.mark.parametrize("name", ROLES)
@pytest.mark.parametrize("route", ROUTES, ids=named)
def test_a_page_answers_the_roles_it_is_for_and_no_others(
    world: World, route: tuple[str, str, Need], name: str
) -> None:
    method, pattern, needs = route
    role, site = ROLES[name]
    path = world.samples[site or "TANJUNG"].path(pattern)
    assert path is not None
    before = world.place.deeds()
    page = ask(world, name, method, path)
    if role not in needs.value:
        assert page.status == 403
        assert "Tidak diizinkan" in page.text
        assert world.place.deeds() == before
        return
    assert page.status not in (403, 500)
    assert page.status != 404 or not Samples.is_of_a_site(pattern) or method == "POST"
    if method == "GET":
        # What is looked at stays as it is.
        changed = world.place.deeds()[len(before) :]
        assert {deed["action"] for deed in changed} <= {"voucher.show_code", "voucher.print"}


@pytest.mark.parametrize("route", ROUTES, ids=named)
def test_nobody_gets_in_without_a_sign_in(world: World, route: tuple[str, str, Need]) -> None:
    method, pattern, _ = route
    path = world.samples["TANJUNG"].path(pattern)
    assert path is not None
    stranger = Person(world.place, "stranger")
    page = stranger.request("GET", path) if method == "GET" else stranger.send(path, {"csrf": "x"})
    assert page.status == 303
    assert page.headers["location"].partition("?")[0] == "/operator/sign-in"
    assert page.body == b"<!doctype html><title>WiFi</title>\n"


# --- CSRF


@pytest.mark.parametrize("pattern", [pattern for pattern, _ in POSTS])
def test_a_form_without_its_token_is_refused_and_changes_nothing(
    world: World, pattern: str
) -> None:
    path = world.samples["TANJUNG"].path(pattern)
    assert path is not None
    kepala, sari = world.person("kepala"), world.person("sari")
    foreign = world.csrf(sari)
    before = world.place.deeds()
    for fields in ({}, {"csrf": ""}, {"csrf": "x"}, {"csrf": foreign}, {"csrf": "ä" * 32}):
        page = kepala.send(path, fields)
        assert page.status == 403
        assert "lama terbuka" in page.text
    good = {"csrf": world.csrf(kepala)}
    for headers in ({"origin": "https://example.org"}, {"sec-fetch-site": "cross-site"}):
        page = kepala.send(path, good, headers)
        assert page.status == 403
    # The token counts in the body only.
    assert kepala.send(f"{path}{'&' if '?' in path else '?'}csrf={good['csrf']}", {}).status == 403
    assert world.place.deeds() == before
    assert kepala.request("GET", "/operator/me").status == 200


@pytest.mark.parametrize("pattern", [pattern for pattern, _ in GETS])
def test_every_form_that_changes_something_carries_the_token(world: World, pattern: str) -> None:
    path = world.samples["TANJUNG"].path(pattern)
    assert path is not None
    page = ask(world, "kepala", "GET", path)
    if "html" not in (page.headers["content-type"] or ""):
        return
    for form in forms_of(page):
        if form.method == "post":
            assert dict(form.fields).get("csrf") == world.csrf(world.person("kepala"))
        else:
            assert "csrf" not in dict(form.fields)
        assert form.action.startswith("/operator")


# --- what every answer carries


@pytest.mark.parametrize("route", ROUTES, ids=named)
def test_every_answer_has_a_strict_policy_and_is_kept_nowhere(
    world: World, route: tuple[str, str, Need]
) -> None:
    method, pattern, _ = route
    path = world.samples["TANJUNG"].path(pattern)
    assert path is not None
    for page in (
        ask(world, "kepala", method, path),
        ask(world, "tinjau", method, path),
        Person(world.place, "stranger").request(method, path),
    ):
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy and "*" not in policy and "http" not in policy
        assert "frame-ancestors 'none'" in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["cache-control"] == "no-store"
        assert " style=" not in page.html
        assert " on" + "click" not in page.html
        assert page.html.count("<script") == (1 if "script-src" in policy else 0)


def test_unknown_addresses_and_methods_are_plain_pages(world: World) -> None:
    kepala = world.person("kepala")
    for method, path, status in (
        ("GET", "/operator/nothing", 404),
        ("GET", "/nothing", 404),
        ("DELETE", "/operator/me", 405),
        ("PUT", "/operator/sign-in", 405),
    ):
        page = kepala.request(method, path)
        assert page.status == status
        assert "Halaman tidak ada" in page.text
        assert page.headers["content-security-policy"].startswith("default-src 'none'")


def test_a_body_too_large_is_refused(world: World) -> None:
    kepala = world.person("kepala")
    page = kepala.send("/operator/people", {"csrf": world.csrf(kepala), "name": "x" * 200_000})
    assert page.status == 413
    many = [("csrf", world.csrf(kepala)), *(("serial", str(n)) for n in range(4_000))]
    assert kepala.send("/operator/people", many).status == 413

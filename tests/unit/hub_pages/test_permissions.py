"""Every page of the office with every role, without a sign-in, and every form without its token."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portal.web.diskominfo.app import MODULES
from portal.web.diskominfo.console import WAYS, Console
from portal.web.operator.desk import Need
from portal.web.operator.signin import Door
from tests.unit.hub_pages.office import Office, OfficePerson, office

NODE = "0123456789abcdef"


class Anything:
    """Stands for what a page module is given when only its routes are looked at."""

    ways = WAYS

    def __getattr__(self, name: str) -> Any:
        return Anything()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return Anything()


def routes() -> list[tuple[str, str, Need]]:
    """(method, path pattern, who) of every page behind the sign-in."""
    anything: Any = Anything()
    pages = Door(anything, secret=b"x" * 32, random_token=str).password_pages()
    for module in MODULES:
        pages += module(Console(anything, anything))
    return [(method, page.path, page.needs) for page in pages for method in page.methods]


ROUTES = routes()
GETS = [(path, needs) for method, path, needs in ROUTES if method == "GET"]
POSTS = [(path, needs) for method, path, needs in ROUTES if method == "POST"]
WRITTEN = {
    ("GET", "/review/", "SEE"),
    ("GET", "/review/site/{code}", "SEE"),
    ("GET", "/review/site/{code}/settings", "ADMIN"),
    ("POST", "/review/site/{code}/settings", "ADMIN"),
    ("GET", "/review/usage", "SEE"),
    ("POST", "/review/usage/export", "SEE"),
    ("GET", "/review/usage/voucher", "SEE"),
    ("POST", "/review/usage/voucher", "SEE"),
    ("GET", "/review/alarms", "SEE"),
    ("GET", "/review/alarms/one", "SEE"),
    ("POST", "/review/alarms/one", "ADMIN"),
    ("GET", "/review/boxes", "ADMIN"),
    ("POST", "/review/boxes", "ADMIN"),
    ("POST", "/review/boxes/invite", "ADMIN"),
    ("GET", "/review/boxes/waiting/{token}", "ADMIN"),
    ("POST", "/review/boxes/waiting/{token}", "ADMIN"),
    ("POST", "/review/boxes/waiting/{token}/refuse", "ADMIN"),
    ("GET", "/review/boxes/box/{node}", "ADMIN"),
    ("POST", "/review/boxes/box/{node}", "ADMIN"),
    ("GET", "/review/documents", "SEE"),
    ("POST", "/review/documents/reset", "ADMIN"),
    ("GET", "/review/documents/{name}", "SEE"),
    ("POST", "/review/documents/{name}", "ADMIN"),
    ("POST", "/review/documents/{name}/remove", "ADMIN"),
    ("GET", "/review/people", "ADMIN"),
    ("POST", "/review/people", "ADMIN"),
    ("GET", "/review/people/{name}", "ADMIN"),
    ("POST", "/review/people/{name}/role", "ADMIN"),
    ("POST", "/review/people/{name}/password", "ADMIN"),
    ("POST", "/review/people/{name}/remove", "ADMIN"),
    ("GET", "/review/audit", "ADMIN"),
    ("GET", "/review/me", "SEE"),
    ("GET", "/review/me/password", "SEE"),
    ("POST", "/review/me/password", "SEE"),
    ("POST", "/review/sign-out", "SEE"),
}
"""The table, written down: a page that changes hands, or a new one, is seen here."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with office(tmp_path_factory.mktemp("hub")) as found:
        found.add_site()
        found.add_box("TJL", NODE)
        found.heard(NODE)
        found.session(NODE, 1)
        found.write(
            "INSERT INTO alarm (node_id, kind, alarm_key, first_at, last_at, count, detail)"
            " VALUES (?, 'fork', 'x', ?, ?, 1, 'two histories')",
            [(NODE, found.at, found.at)],
        )
        waits = [("f" * 16, b"k", "TJL", found.at, found.at + 9, "e" * 16, b"s", b"x", found.at)]
        found.write(
            "INSERT INTO enrolment (token_id, token_key, site, state, made_at, made_by, expires_at,"
            " node_id, signing, sealing, words, presented_at)"
            " VALUES (?, ?, ?, 'pending', ?, 'ketua', ?, ?, ?, ?, 'abad abang', ?)",
            waits,
        )
        yield found


@pytest.fixture(scope="module")
def people(place: Office) -> dict[str, OfficePerson]:
    return {"admin": place.enter("ketua"), "reviewer": place.enter("tinjau")}


def address(place: Office, pattern: str) -> str:
    """A page that is there."""
    path = (
        pattern.replace("{code}", "TJL")
        .replace("{node}", NODE)
        .replace("{token}", "f" * 16)
        .replace("{name}", "tinjau" if "people" in pattern else "profiles")
    )
    (row,) = place.all("SELECT day FROM session_record")
    queries = {
        "/review/usage/voucher": f"?at={row['day']}.{NODE}.0.1",
        "/review/alarms/one": f"?node={NODE}&kind=fork&key=x",
    }
    return path + queries.get(pattern, "")


def test_the_table_is_the_one_written_down() -> None:
    assert {(method, path, needs.name) for method, path, needs in ROUTES} == WRITTEN


@pytest.mark.parametrize("role", ["admin", "reviewer"])
@pytest.mark.parametrize(("pattern", "needs"), GETS, ids=[path for path, _ in GETS])
def test_a_page_opens_for_its_roles_only(
    place: Office, people: dict[str, OfficePerson], pattern: str, needs: Need, role: str
) -> None:
    page = people[role].request("GET", address(place, pattern))
    assert page.status == (200 if role in needs.value else 403)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src" not in policy
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "style=" not in page.html and "<script" not in page.html


@pytest.mark.parametrize(("method", "pattern", "needs"), ROUTES)
def test_nothing_opens_without_a_sign_in(
    place: Office, method: str, pattern: str, needs: Need
) -> None:
    stranger = OfficePerson(place, "nobody")
    page = stranger.request(method, address(place, pattern), b"" if method == "POST" else None)
    assert page.status == 303
    assert page.headers["location"].startswith("/review/sign-in")


@pytest.mark.parametrize("token", ["", "x" * 24])
@pytest.mark.parametrize(("pattern", "needs"), POSTS, ids=[path for path, _ in POSTS])
def test_no_form_counts_without_its_token(
    place: Office, people: dict[str, OfficePerson], pattern: str, needs: Need, token: str
) -> None:
    before = len(place.deeds())
    page = people["admin"].send(address(place, pattern), {"csrf": token, "reason": "sebab apa"})
    assert page.status == 403
    assert len(place.deeds()) == before


@pytest.mark.parametrize(
    "pattern", [path for path, needs in POSTS if needs is Need.ADMIN], ids=lambda path: path
)
def test_a_reviewer_changes_nothing(
    place: Office, people: dict[str, OfficePerson], pattern: str
) -> None:
    before = len(place.deeds())
    fields = {"csrf": people["reviewer"].csrf(), "reason": "sebab apa saja", "node": NODE[-4:]}
    page = people["reviewer"].send(address(place, pattern), fields)
    assert page.status == 403
    assert len(place.deeds()) == before


@pytest.mark.parametrize(
    "path",
    [
        "/review/site/TIDAK",
        "/review/site/TJL/x",
        "/review/boxes/box/ffff",
        "/review/boxes/waiting/x",
        "/review/documents/x",
        "/review/documents/profiles?scope=site+X",
        "/review/usage/voucher",
        "/review/usage/voucher?at=1.2",
        "/review/usage?at=TIDAK",
        "/review/alarms/one?node=x",
        "/review/nothing",
    ],
)
def test_what_is_not_there_is_said_so(people: dict[str, OfficePerson], path: str) -> None:
    assert people["admin"].request("GET", path).status == 404


def test_fifteen_idle_minutes_end_a_sign_in(tmp_path: Path) -> None:
    with office(tmp_path) as place:
        person = place.enter("tinjau")
        assert person.request("GET", "/review/").status == 200
        sign_ins = place.service.review.desk.sign_ins
        for sign_in in sign_ins._by_hash.values():
            sign_in.last_s -= 901
        assert person.request("GET", "/review/").status == 303


def test_wrong_passwords_have_to_wait_and_are_written_down(tmp_path: Path) -> None:
    with office(tmp_path) as place:
        person = OfficePerson(place, "tinjau")
        statuses = []
        for _ in range(8):
            page = person.get("/review/sign-in")
            page = person.submit(page, name="tinjau", password="salah-salah-salah")
            statuses.append(page.status)
        assert statuses[0] == 200 and statuses[-1] == 429
        assert "pesisir_review" not in person.cookies
        assert [deed["deed"] for deed in place.deeds()][-1] == "sign_in.refused"


def test_the_cookies_of_a_hub_never_reach_a_desk(tmp_path: Path) -> None:
    with office(tmp_path) as place:
        person = OfficePerson(place, "tinjau")
        page = person.get("/review/sign-in")
        sent = person.send(
            "/review/sign-in",
            {**page.fields, "name": "tinjau", "password": "ombak-biru-di-kantor"},
        )
        (line,) = sent.headers.get_all("set-cookie") or []
        assert line.startswith("pesisir_review=") and "Path=/review" in line
        assert "HttpOnly" in line and "SameSite=strict" in line

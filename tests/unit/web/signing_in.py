"""How people sign in at the desk, step by step, for tests of the sign-in itself."""

from http.cookies import SimpleCookie
from typing import Any

from tests.unit.web.desk import Desk, Person
from tests.unit.web.village import Page

NEW = "perahu di teluk biru"


def try_in(person: Person, name: str, password: str) -> Page:
    page = person.get("/operator/sign-in?with=password")
    return person.submit(page, name=name, password=password)


def is_in(person: Person) -> bool:
    return person.request("GET", "/operator/me").status == 200


def cookies_of(page: Page) -> dict[str, Any]:
    return {
        name: morsel
        for line in page.headers.get_all("set-cookie") or []
        for name, morsel in SimpleCookie(line).items()
    }


def csrf_of(place: Desk, person: Person) -> str:
    token = person.cookies["pesisir_desk"]
    found = place.call(lambda: place.service.desk.desk.sign_ins.find(token))
    assert found is not None
    return found.csrf

"""A desk for tests: a village with operators, and operators whose browser keeps cookies.

    with desk(tmp_path) as d:
        sari = d.sign_in("sari")            # an operator of TANJUNG; also "kepala" (admin),
        page = sari.get("/operator/online") # "tinjau" (reviewer), "wayan" (operator of WAISAI)
        page = sari.submit(page, count="40")    # the first form in <main>, or form=2, or action=...

`d` is a Village (tests/unit/web/village.py): d.do(coroutine), d.call(function), d.issue(...),
d.node, d.clock, d.pass_time(seconds). The sites are TANJUNG and WAISAI.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode, urljoin, urlsplit

from portal import passwords
from portal.operators import Operators
from portal.store.audit import Deed
from tests.unit.web.village import Browser, Page, Village

PASSWORD = "ombak-biru-di-tanjung"
OPERATORS = (
    ("kepala", "admin", None),
    ("sari", "operator", "TANJUNG"),
    ("wayan", "operator", "WAISAI"),
    ("tinjau", "reviewer", "TANJUNG"),
    ("dinas", "reviewer", None),
)
"""Name, role, site (None: all) of those who can sign in."""
_HASH = passwords.hashed(PASSWORD)


class Desk(Village):
    """A village with a desk."""

    def start(self) -> None:
        super().start()
        self.do(self._people())

    async def _people(self) -> None:
        await self.node.admin.add_site("WAISAI", "WiFi Desa Waisai", "Asia/Jayapura")
        for name, role, site in OPERATORS:
            await add_operator(self.node.operators, name, role, site)

    @property
    def desk_url(self) -> str:
        """Origin of the desk's own listener."""
        host, port, _ = self.service.desk_addresses[0]
        return f"http://{host}:{port}"

    def sign_in(self, name: str, password: str = PASSWORD) -> "Person":
        """An operator in a browser of their own, signed in."""
        person = Person(self, name)
        page = person.get("/operator/sign-in")
        page = person.submit(page, name=name, password=password)
        assert "pesisir_desk" in person.cookies, f"{name} is not signed in: {page.text[:300]}"
        return person

    def enter(self, name: str) -> "Person":
        """An operator who is signed in already, without typing a password."""
        person = Person(self, name)

        def begin() -> str:
            operator = self.node.operators.operator(name)
            return self.service.desk.desk.sign_ins.begin(operator)[0]

        person.cookies["pesisir_desk"] = self.call(begin)
        return person

    def last_deed(self) -> dict[str, Any]:
        """The newest line of the audit."""
        rows = self.call(
            lambda: self.node.store.database.all("SELECT * FROM audit ORDER BY id DESC LIMIT 1")
        )
        return dict(rows[0])

    def deeds(self) -> list[dict[str, Any]]:
        """The whole audit, oldest first."""
        rows = self.call(lambda: self.node.store.database.all("SELECT * FROM audit ORDER BY id"))
        return [dict(row) for row in rows]


async def add_operator(
    operators: Operators, name: str, role: str, site: str | None, *, must_change: bool = False
) -> None:
    """An operator with the password PASSWORD, without the third of a second each hash takes."""
    admin = operators._admin
    site_ids = None if site is None or admin is None else {admin.site(site).id}
    deed = Deed("test", "operator.add", min(site_ids or (0,)) or None, name)
    await operators._store.add(name, role, site_ids, _HASH, must_change, operators._now(), deed)
    operators._by_name = {row["name"]: _read(row) for row in operators._store.operators()}


def _read(row: Any) -> Any:
    from portal.operators import _operator

    return _operator(row)


@contextmanager
def desk(directory: Path, **options: Any) -> Iterator[Desk]:
    """A desk for the length of a test."""
    found = Desk(directory, **options)
    found.start()
    try:
        yield found
    finally:
        found.stop()


class Form:
    """A form of a page: where it goes and what it holds."""

    def __init__(self, method: str, action: str) -> None:
        self.method = method
        self.action = action
        self.fields: list[tuple[str, str]] = []
        self.buttons: list[tuple[str, str, str]] = []
        """Name, value, words."""


class Forms(HTMLParser):
    """Every form of a page with its fields as a browser would send them, in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.forms: list[Form] = []
        self._form: Form | None = None
        self._select: str | None = None
        self._options: list[tuple[str, bool]] = []
        self._textarea: str | None = None
        self._text = ""
        self._button: tuple[str, str] | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._form = Form(found.get("method", "get").lower(), found.get("action", ""))
            self.forms.append(self._form)
        if self._form is None:
            return
        name = found.get("name", "")
        if tag == "input" and name:
            kind = found.get("type", "text")
            if kind not in ("checkbox", "radio") or "checked" in found:
                self._form.fields.append((name, found.get("value", "on" if kind != "text" else "")))
        elif tag == "select":
            self._select, self._options = name, []
        elif tag == "option" and self._select is not None:
            self._options.append((found.get("value", ""), "selected" in found))
        elif tag == "textarea":
            self._textarea, self._text = name, ""
        elif tag == "button":
            self._button, self._text = (name, found.get("value", "")), ""

    def handle_data(self, data: str) -> None:
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        if self._form is None:
            return
        if tag == "select" and self._select is not None:
            chosen = [value for value, is_chosen in self._options if is_chosen]
            first = [value for value, _ in self._options]
            for value in (chosen or first)[:1]:
                self._form.fields.append((self._select, value))
            self._select = None
        elif tag == "textarea" and self._textarea is not None:
            self._form.fields.append((self._textarea, self._text.removeprefix("\n")))
            self._textarea = None
        elif tag == "button" and self._button is not None:
            self._form.buttons.append((*self._button, self._text.strip()))
            self._button = None
        elif tag == "form":
            self._form = None


def forms_of(page: Page) -> list[Form]:
    """The forms of a page, without those of its frame (site switch, sign out)."""
    found = Forms(page.html.partition("<footer>")[0]).forms
    return found


class Desked(Protocol):
    """What a person signs in at."""

    @property
    def desk_url(self) -> str: ...


class Person(Browser):
    """An operator's browser: keeps cookies, follows redirects, fills in forms."""

    root = "/operator"
    """What the paths begin with that the cookies are for."""

    def __init__(self, desk: "Desked", name: str, source: str = "127.0.0.1") -> None:
        super().__init__(source)
        self.desk = desk
        self.name = name
        self.cookies: dict[str, str] = {}

    def request(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Page:
        """One request to the desk, a path or a whole address; no redirect is followed."""
        address = urljoin(self.desk.desk_url, url)
        sent = dict(headers or {})
        if self.cookies and urlsplit(address).path.startswith(self.root):
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        page = super().request(method, address, body, sent)
        for line in page.headers.get_all("set-cookie") or []:
            for name, morsel in SimpleCookie(line).items():
                if morsel.value and morsel["max-age"] != "0":
                    self.cookies[name] = morsel.value
                else:
                    self.cookies.pop(name, None)
        return page

    def submit(  # type: ignore[override]  # says more than a resident's form needs
        self,
        page: Page,
        *,
        form: int = 1,
        action: str | None = None,
        button: str | None = None,
        ticked: list[tuple[str, str]] | None = None,
        **typed: str,
    ) -> Page:
        """Fill in a form of the page (the first, the `form`th or the one to `action`) and send it.

        `button`: the words of the button to press, where it has a name. `ticked`: boxes to tick.
        """
        found = forms_of(page)
        if action is not None:
            found = [one for one in found if one.action == action]
        assert len(found) >= form, f"no such form on {page.url}: {page.text[:300]}"
        chosen = found[form - 1]
        fields = [(name, value) for name, value in chosen.fields if name not in typed]
        fields += [*typed.items(), *(ticked or [])]
        if button is not None:
            names = [(name, value) for name, value, words in chosen.buttons if words == button]
            assert names, f"no button {button!r}; there are {[b[2] for b in chosen.buttons]}"
            fields += [pair for pair in names if pair[0]]
        where = urljoin(page.url, chosen.action)
        if chosen.method == "get":
            return self.get(f"{where}?{urlencode(fields)}")
        return self.follow(self.send(where, fields))

    def send(
        self,
        url: str,
        fields: list[tuple[str, str]] | dict[str, str],
        headers: dict[str, str] | None = None,
    ) -> Page:
        """POST fields as they are; the redirect is not followed."""
        sent = {"content-type": "application/x-www-form-urlencoded", **(headers or {})}
        return self.request("POST", url, urlencode(fields).encode(), sent)

    def csrf(self) -> str:
        """The token of this sign-in's forms."""
        page = self.get(f"{self.root}/me")
        pairs = dict(pair for form in Forms(page.html).forms for pair in form.fields)
        return pairs["csrf"]

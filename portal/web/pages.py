"""Pages: templates to responses, with the headers every page carries.

One response is one whole page: its style stands in it, it asks for nothing else, and its
Content-Security-Policy allows nothing else. Templates are compiled when the program starts, so a
mistake in one stops the start and not a resident.
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

from portal.resources import data_dir

SECURITY_HEADERS: Mapping[str, str] = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""On every response. HSTS is never sent: at level 0 there is no certificate, and phones would
remember the demand for one."""

_FETCH = "connect-src 'self'"

# What may stand in an address as it is; everything else, line ends too, is percent-encoded.
_URL_SIGNS = ":/%#?=@[]!$&'()*+,;~"


# What could be a code in the text of an exception.
_CODES = re.compile(r"\d{4}[ -]?\d{4}[ -]?\d{4}")


def without_codes(text: str) -> str:
    """`text` for the log: whatever could be a voucher's code in it is hidden."""
    return _CODES.sub("**** **** ****", text)


class Pages:
    """The pages of one face, the residents' or the operators', ready to fill in."""

    def __init__(
        self, directory: Path | None = None, face: str = "resident", *, like: str | None = None
    ) -> None:
        """Compile every template in the folder `face` of `directory` (default: the installed
        `templates`). `like`: the face whose style these pages have too, before their own.

        Raises jinja2.TemplateError for a template that does not compile.
        """
        root = directory or data_dir("templates")
        self._environment = Environment(
            loader=FileSystemLoader(root),
            autoescape=select_autoescape(default=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates = {
            path.stem: self._environment.get_template(f"{face}/{path.name}")
            for path in sorted((root / face).glob("*.html"))
        }
        # Without line ends the hash is the same on every checkout, and the page is shorter.
        faces = (face,) if like is None else (like, face)
        text = "\n".join((root / each / "style.css").read_text("utf-8") for each in faces)
        style = re.sub(r"\s*\n\s*", "", text)
        self._style = Markup(style)
        self._style_hash = _hash(style)
        self._scripts = {
            path.stem: re.sub(r"\r\n?", "\n", path.read_text("utf-8")).strip()
            for path in sorted((root / face).glob("*.js"))
        }

    def respond(
        self,
        name: str,
        values: Mapping[str, object],
        *,
        status: int = 200,
        form_action: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
        script: str | None = None,
    ) -> Response:
        """Fill in the template `name` and return the page.

        `form_action`: the origins, besides our own, that a form of this page may lead to; Chromium
        holds redirects after a POST to them as well. `script`: the stem of a file `*.js` beside the
        templates, which the template puts into a script element as `script`; it may fetch from our
        own origin. Raises jinja2.UndefinedError for a value the template wants and does not get.
        """
        source = None if script is None else self._scripts[script]
        text = self._templates[name].render(
            values, css=self._style, script=None if source is None else Markup(source)
        )
        scripts = () if source is None else (f"script-src 'sha256-{_hash(source)}'", _FETCH)
        policy = "; ".join(
            (
                "default-src 'none'",
                f"style-src 'sha256-{self._style_hash}'",
                *scripts,
                "img-src data:",
                " ".join(("form-action 'self'", *form_action)),
                "base-uri 'none'",
                "frame-ancestors 'none'",
            )
        )
        return HTMLResponse(
            text,
            status,
            headers={**SECURITY_HEADERS, "content-security-policy": policy, **(headers or {})},
        )


@cache
def installed(face: str) -> Pages:
    """The pages of a face as they were installed, compiled at the first call.

    They do not change while a program runs, and compiling them is most of a node's start. Raises
    jinja2.TemplateError for a template that does not compile.
    """
    return Pages(face=face)


def _hash(text: str) -> str:
    """What a Content-Security-Policy calls the contents of an element by."""
    return b64encode(hashlib.sha256(text.encode()).digest()).decode()


def redirect(url: str, *, status: int = 303, close: bool = False) -> Response:
    """Send the phone to `url`, which the caller has built or checked.

    The body is there for Android, which takes an answer of 4 bytes or less for a broken network
    and not for a portal (AOSP, NetworkMonitor). `close` ends the connection, so that a probe made
    after the login does not travel over one that the gateway had intercepted.
    """
    headers = {
        **SECURITY_HEADERS,
        "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
        "location": quote(url, safe=_URL_SIGNS),
    }
    if close:
        headers["connection"] = "close"
    return HTMLResponse("<!doctype html><title>WiFi</title>\n", status, headers=headers)

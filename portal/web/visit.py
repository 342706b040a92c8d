"""Visit: one request of a resident: who asks, through which gateway, in which language, and the
frame that every page puts around its contents.

State travels in addresses and hidden fields, never in cookies: mini-browsers forget them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlencode, urlsplit
from zoneinfo import ZoneInfo

from starlette.requests import Request

from portal.admin import Admin, Gateway, Site
from portal.settings import Http
from portal.trace import Trace
from portal.web.arrivals import (
    NOTHING_RETURNED,
    Landing,
    Return,
    client_address,
    land,
    nearest_gateway,
    nobody_vouches,
    query_of,
    read_return,
)
from portal.web.forms import Form, Link, Seals
from portal.web.sentences import power_words
from portal.web.text import DEFAULT_LANGUAGE, Texts, Translator
from radius.nas import Arrival, ArrivalError

DEFAULT_ZONE = ZoneInfo("Asia/Jakarta")
_TELEPHONE = re.compile(r"\+?\d[\d .()/-]{6,18}\d")


class BackhaulState(Protocol):
    """What is known of the village's link."""

    @property
    def state(self) -> str:
        """`up`, `down` or `unknown`."""
        ...

    @property
    def down_since(self) -> int | None:
        """Epoch seconds UTC, None unless down."""
        ...


@dataclass(frozen=True, slots=True)
class Visit:
    """One request, understood as far as it can be."""

    request: Request
    now: int
    source: str
    """The phone's address, or its gateway's where that hides phones; '' when there is none."""
    own_url: str
    """Origin of the portal as this phone reaches it."""
    origins: tuple[str, ...]
    """All origins that are ours; an address under any other is never used."""
    landing: Landing | None
    is_fresh: bool
    """The arrival is in this very request, not brought back by a page of ours."""
    arrived_at: int
    has_good_form: bool
    """A POST came from a form of ours that is young enough."""
    returned: Return
    link: Link | None
    link_text: str | None
    nearest: Gateway | None
    site: Site | None
    t: Translator
    is_large: bool
    form_seal: str
    """What a form of this visit, and every link of its page, carries about the arrival."""

    @property
    def arrival(self) -> Arrival | None:
        """The gateway's redirect, None for a phone that came by itself."""
        return None if self.landing is None else self.landing.arrival

    @property
    def gateway(self) -> Gateway | None:
        """The gateway the phone came through, None when it came by itself or that is unknown."""
        return None if self.landing is None else self.landing.gateway

    @property
    def is_signed(self) -> bool:
        """The arrival is signed: its MAC may be believed."""
        return self.landing is not None and self.landing.is_signed

    @property
    def login_base(self) -> str | None:
        """Where this phone logs in and out: as its arrival says, else as its gateway last said."""
        if self.landing is not None:
            return self.landing.arrival.login_base
        return None if self.nearest is None else self.nearest.login_base

    @property
    def wishes(self) -> dict[str, str]:
        """Language and letter size, as parameters; nothing for the defaults."""
        found = {}
        if self.t.language != DEFAULT_LANGUAGE:
            found["lang"] = self.t.language
        if self.is_large:
            found["huruf"] = "besar"
        return found


@dataclass(slots=True)
class Reception:
    """Turns requests into visits."""

    admin: Admin
    seals: Seals
    texts: Texts
    http: Http
    now: Callable[[], int]
    announcements: Callable[[int], Sequence[str]]
    """What the residents of a site are told now."""
    trace: Trace | None = None
    vouches: Callable[[Gateway, Arrival], bool] = nobody_vouches
    """Whether a gateway told us that an unsigned arrival is true."""

    def visit(self, request: Request, fields: Mapping[str, str] | None = None) -> Visit:
        """Understand a request; `fields` are those of its POST.

        Raises radius.nas.ArrivalError for a redirect that must not be followed.
        """
        now = self.now()
        source = client_address(request, self.http.trusted_proxies)
        received = f"{request.scope['scheme']}://{request.headers.get('host', '')}".lower()
        own_url, origins = self._origins(request, source)
        raw_query = request.scope["query_string"].decode("latin-1")
        query = query_of(raw_query)
        gateways = list(self.admin.gateways_by_id.values())

        landing = None
        is_fresh = False
        if fields is None:
            path = request.scope.get("raw_path", b"/").decode("latin-1").partition("?")[0]
            try:
                landing = land(
                    query,
                    raw_query,
                    [origin + path for origin in (*origins, received)],
                    source,
                    gateways,
                    self.admin.gateway_of,
                    self.vouches,
                )
            except ArrivalError as error:
                if self.trace is not None and self.trace.is_on:
                    self.trace.arrival_refused(source, str(error))
                raise
            # A HEAD looks and changes nothing.
            is_fresh = landing is not None and request.method == "GET"
            if is_fresh and self.trace is not None and self.trace.is_on:
                self._tell_arrival(landing, source)
            if landing is not None and landing.is_signed and received not in origins:
                # A gateway of ours was told this address.
                own_url, origins = received, (*origins, received)
        arrived_at = now
        has_good_form = False
        said = query if fields is None else fields
        form = self.seals.open_form(said.get("f", "")) if landing is None else None
        if form is not None and form.is_good(source, now):
            has_good_form = True
            arrived_at = form.arrived_at
            landing = self._landing_of(form)
        elif form is not None and form.source == source:
            # Too old to be obeyed, but it still says through which gateway the phone came.
            arrived_at = form.arrived_at
            landing = self._landing_of(form)

        returned = NOTHING_RETURNED
        if landing is not None and is_fresh:
            returned = read_return(landing.arrival.return_url, origins)
        link_text = said.get("k")
        if landing is not None and landing.arrival.state not in ("notyet", "logoff"):
            # A phone that is out may be another person's by now: the last card is not theirs.
            link_text = link_text or returned.link
        link = self.seals.open_link(link_text) if link_text else None
        if link is None or not link.is_good(now):
            link = link_text = None

        nearest = landing.gateway if landing is not None else nearest_gateway(source, gateways)
        if nearest is None and link is not None and link.gateway_id is not None:
            nearest = self.admin.gateways_by_id.get(link.gateway_id)
        asked = {**(returned.wishes or {}), **said}
        return Visit(
            request=request,
            now=now,
            source=source,
            own_url=own_url,
            origins=origins,
            landing=landing,
            is_fresh=is_fresh,
            arrived_at=arrived_at,
            has_good_form=has_good_form,
            returned=returned,
            link=link,
            link_text=link_text,
            nearest=nearest,
            site=self._site_of(nearest),
            t=self.texts.translator(asked.get("lang")),
            is_large=asked.get("huruf") == "besar",
            form_seal=self._seal(landing, arrived_at, now, source),
        )

    def _tell_arrival(self, landing: Landing | None, source: str) -> None:
        if landing is not None and self.trace is not None:
            arrival = landing.arrival
            self.trace.arrival(
                landing.gateway,
                state=arrival.state,
                mac=arrival.mac,
                ip=arrival.ip,
                source=source,
                is_signed=landing.is_signed,
                family=arrival.family,
            )

    def _seal(self, landing: Landing | None, arrived_at: int, now: int, source: str) -> str:
        gateway = None if landing is None else landing.gateway
        return self.seals.seal_form(
            Form(
                arrival=None if landing is None else landing.arrival,
                gateway_id=None if gateway is None else gateway.id,
                is_signed=landing is not None and landing.is_signed,
                arrived_at=arrived_at,
                made_at=now,
                source=source,
            )
        )

    def _landing_of(self, form: Form) -> Landing | None:
        if form.arrival is None:
            return None
        gateway = None
        if form.gateway_id is not None:
            gateway = self.admin.gateways_by_id.get(form.gateway_id)
        return Landing(form.arrival, gateway, form.is_signed and gateway is not None)

    def _site_of(self, gateway: Gateway | None) -> Site | None:
        if gateway is not None:
            return self.admin.sites_by_id.get(gateway.site_id)
        sites = list(self.admin.sites_by_id.values())
        return sites[0] if len(sites) == 1 else None

    def _origins(self, request: Request, source: str) -> tuple[str, tuple[str, ...]]:
        """Return our origin as this phone reaches it, and all that are ours."""
        local = _local_origin(request)
        origins = [self.http.url] if self.http.url else []
        host = request.headers.get("host", "")
        received = f"{request.scope['scheme']}://{host}".lower()
        if self.http.url is not None and self._is_proxied(request):
            # What the proxy speaks to us says nothing about what phones speak to it.
            own_url = self.http.url
        elif self._is_own(host, request, source):
            origins.append(received)
            own_url = received
        else:
            own_url = self.http.url or local
        origins.append(local)
        return own_url, tuple(dict.fromkeys(origins))

    def _is_proxied(self, request: Request) -> bool:
        return client_address(request, ()) != client_address(request, self.http.trusted_proxies)

    def source(self, request: Request) -> str:
        """The address a request comes from, past trusted proxies."""
        return client_address(request, self.http.trusted_proxies)

    def own_url(self, request: Request) -> str:
        """Our origin as this phone reaches it."""
        return self._origins(request, self.source(request))[0]

    def is_own_host(self, request: Request) -> bool:
        """Tell whether the Host of a request is the portal itself."""
        source = client_address(request, self.http.trusted_proxies)
        return self._is_own(request.headers.get("host", ""), request, source)

    def _is_own(self, host: str, request: Request, source: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        local = urlsplit(_local_origin(request)).hostname
        configured = urlsplit(self.http.url).hostname if self.http.url else None
        if name and name in (local, configured):
            return True
        # A tunnel to this machine: only it can look like that.
        return name in ("localhost", "127.0.0.1", "::1") and source in ("127.0.0.1", "::1")

    def zone(self, site: Site | None) -> ZoneInfo:
        """The zone in which a page writes times."""
        site = site or next(iter(self.admin.sites_by_id.values()), None)
        return DEFAULT_ZONE if site is None else self.admin.zone(site.id)

    # --- the frame of a page -------------------------------------------------------------------

    def href(self, visit: Visit, path: str, /, **more: str) -> str:
        """An address of ours that keeps language, letters, arrival and link."""
        parameters = dict(visit.wishes)
        if visit.landing is not None:
            parameters["f"] = visit.form_seal
        if visit.link_text is not None:
            parameters["k"] = visit.link_text
        parameters.update(more)
        parameters = {name: value for name, value in parameters.items() if value}
        return f"{path}?{urlencode(parameters)}" if parameters else path

    def frame(
        self, visit: Visit, path: str, backhaul: BackhaulState, site: Site | None = None
    ) -> dict[str, object]:
        """The values of the base layout. `path` is the page's own address."""
        t, site = visit.t, site or visit.site
        down_since = None
        if backhaul.state == "down" and backhaul.down_since is not None:
            down_since = t.since(backhaul.down_since, visit.now, self.zone(site))
        languages = [
            (language, self.texts.translator(language)("language.name"))
            for language in self.texts.languages()
            if language != t.language
        ]
        return {
            "t": t,
            "is_large": visit.is_large,
            "site_name": site.name if site else t("site.unnamed"),
            "helper": split_telephone(site.helper) if site else [],
            "announcements": self.announcements(site.id) if site else (),
            "power": power_words(t, site, visit.now, self.zone(site)) if site else None,
            "down_since": down_since,
            "links": {
                "home": self.href(visit, "/"),
                "complaint": self.href(visit, "/complaint"),
                "terms": self.href(visit, "/terms"),
                "privacy": self.href(visit, "/privacy"),
                "size": self.href(visit, path, huruf="" if visit.is_large else "besar"),
                "languages": [
                    {
                        "code": language,
                        "name": name,
                        "href": self.href(
                            visit, path, lang="" if language == DEFAULT_LANGUAGE else language
                        ),
                    }
                    for language, name in languages
                ],
            },
        }


def _local_origin(request: Request) -> str:
    """The address of ours at which the request came in."""
    host, port = request.scope.get("server") or ("127.0.0.1", 80)
    scheme = request.scope["scheme"]
    host = f"[{host}]" if ":" in host else host
    is_usual = port in (None, {"http": 80, "https": 443}.get(scheme))
    return f"{scheme}://{host}" if is_usual else f"{scheme}://{host}:{port}"


def split_telephone(text: str) -> list[dict[str, str]]:
    """Cut a contact into pieces, telephone numbers with their `tel` address."""
    pieces = []
    end = 0
    for match in _TELEPHONE.finditer(text):
        digits = re.sub(r"[^0-9+]", "", match[0])
        if match.start() > end:
            pieces.append({"text": text[end : match.start()], "tel": ""})
        pieces.append({"text": match[0], "tel": digits})
        end = match.end()
    if end < len(text):
        pieces.append({"text": text[end:], "tel": ""})
    return pieces

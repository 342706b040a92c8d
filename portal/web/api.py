"""The pages for programs: the Captive Portal API, health and metrics."""

import ipaddress
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from portal.captivity import Captivities
from portal.certificates import API_PATH, https_host
from portal.setting_values import Network
from portal.web.pages import SECURITY_HEADERS
from portal.web.visit import Reception

CAPTIVE_JSON = "application/captive+json"
"""RFC 8908 8.3."""


class Api:
    """Handlers that answer with something other than a page."""

    def __init__(
        self,
        *,
        captivities: Captivities,
        reception: Reception,
        is_healthy: Callable[[], bool],
        registry: CollectorRegistry,
    ) -> None:
        self._captivities = captivities
        self._reception = reception
        self._is_healthy = is_healthy
        self._registry = registry

    async def captive_portal(self, request: Request) -> Response:
        """`/captive-portal/api`: whether this phone is captive, and how long not (RFC 8908 5).

        A phone is told by its address alone: parameters would be its own word, and an address with
        a MAC in it gives the MAC away (RFC 8952 6). Who cannot be told is captive. Answered on
        every listener; under the name that has a certificate, plain HTTP is sent on to HTTPS
        (RFC 8908 4.1).
        """
        visit = self._reception.visit(request, {})
        headers = {**SECURITY_HEADERS, "vary": "Accept"}
        url = visit.own_url
        configured = self._reception.http.url
        if configured is not None and configured.startswith("https:"):
            # RFC 8908 5: the portal's address has to be one with TLS.
            asked = urlsplit(url)
            if asked.scheme == "http" and asked.hostname == https_host(configured):
                return Response(None, 308, headers={**headers, "location": configured + API_PATH})
            url = configured
        found = self._captivities.of(
            visit.source, is_phone=CAPTIVE_JSON in request.headers.get("accept", "")
        )
        answer: dict[str, object] = {"captive": found.is_captive, "user-portal-url": f"{url}/"}
        if not found.is_captive:
            answer["venue-info-url"] = f"{url}/status"
            answer["can-extend-session"] = True
            if found.seconds_left is not None:
                answer["seconds-remaining"] = found.seconds_left
            if found.octets_left is not None:
                answer["bytes-remaining"] = found.octets_left
        return Response(msgspec.json.encode(answer), headers=headers, media_type=CAPTIVE_JSON)

    async def health(self, request: Request) -> Response:
        """`/healthz`: 200 while usage can be stored, else 503 (design, Power cuts and the box)."""
        is_healthy = self._is_healthy()
        return Response(
            msgspec.json.encode({"status": "ok" if is_healthy else "failing"}),
            200 if is_healthy else 503,
            headers=dict(SECURITY_HEADERS),
            media_type="application/json",
        )

    async def metrics(self, request: Request) -> Response:
        """`/metrics` in Prometheus' format, for loopback and `[http] metrics_from` only."""
        if not self._may_read(request, self._reception.http.metrics_from):
            return PlainTextResponse(
                "metrics are for addresses in [http] metrics_from\n",
                403,
                headers=dict(SECURITY_HEADERS),
            )
        return Response(
            generate_latest(self._registry),
            headers={**SECURITY_HEADERS, "content-type": CONTENT_TYPE_LATEST},
        )

    def _may_read(self, request: Request, networks: Sequence[Network]) -> bool:
        source = self._reception.source(request)
        peer = request.client.host if request.client else ""
        if request.headers.get("x-forwarded-for") and source == peer:
            # A proxy nobody told us to trust: what looks like loopback may be anybody.
            return False
        try:
            address = ipaddress.ip_address(source)
        except ValueError:
            return False
        return address.is_loopback or any(address in network for network in networks)

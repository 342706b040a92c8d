"""The pages for programs: the Captive Portal API, health and metrics."""

import ipaddress
from collections.abc import Callable, Sequence

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from portal.door import Door
from portal.setting_values import Network
from portal.web.pages import SECURITY_HEADERS
from portal.web.visit import Reception


class Api:
    """Handlers that answer with something other than a page."""

    def __init__(
        self,
        *,
        door: Door,
        reception: Reception,
        is_healthy: Callable[[], bool],
        registry: CollectorRegistry,
    ) -> None:
        self._door = door
        self._reception = reception
        self._is_healthy = is_healthy
        self._registry = registry

    async def captive_portal(self, request: Request) -> Response:
        """`/captive-portal/api`: whether this phone is captive, as RFC 8908 5 has it.

        A phone is told by its address alone: parameters would be its own word, and an address with
        a MAC in it gives the MAC away (RFC 8952 6). Who cannot be told is captive.
        """
        visit = self._reception.visit(request, {})
        found = self._door.status_of_address(visit.source, None)
        answer: dict[str, object]
        if found is None or not found[1].open_sessions:
            answer = {"captive": True, "user-portal-url": f"{visit.own_url}/"}
        else:
            status = found[1]
            answer = {
                "captive": False,
                "user-portal-url": f"{visit.own_url}/",
                "venue-info-url": f"{visit.own_url}/status",
                "can-extend-session": True,
            }
            seconds = [] if status.seconds_left is None else [status.seconds_left]
            if status.open_until_at is not None:
                seconds.append(max(0, status.open_until_at - visit.now))
            if seconds:
                answer["seconds-remaining"] = min(seconds)
            if status.octets_left is not None:
                answer["bytes-remaining"] = status.octets_left
        headers = {**SECURITY_HEADERS, "vary": "Accept"}
        return Response(
            msgspec.json.encode(answer), headers=headers, media_type="application/captive+json"
        )

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

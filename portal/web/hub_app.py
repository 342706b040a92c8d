"""The hub's web application: the faces it is given, and what every one of them needs.

Pages of reviewers and the API of nodes are routes from elsewhere; here are health, metrics and the
answers to what nobody serves.
"""

import ipaddress
import logging
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from portal.settings import Http
from portal.store.db.either import StoreUnavailableError
from portal.web.arrivals import client_address
from portal.web.pages import SECURITY_HEADERS

log = logging.getLogger(__name__)


def build(
    *,
    routes: Sequence[BaseRoute],
    http: Http,
    is_healthy: Callable[[], Awaitable[bool]],
    registry: CollectorRegistry,
    before_metrics: Callable[[], Awaitable[None]],
) -> Starlette:
    """Return the application; `routes` come first.

    `before_metrics` is awaited before the figures in `registry` are read.
    """

    async def health(request: Request) -> Response:
        """`/healthz`: 200 while records can be stored, else 503."""
        is_good = await is_healthy()
        return Response(
            msgspec.json.encode({"status": "ok" if is_good else "failing"}),
            200 if is_good else 503,
            headers=dict(SECURITY_HEADERS),
            media_type="application/json",
        )

    async def metrics(request: Request) -> Response:
        """`/metrics` in Prometheus' format, for loopback and `[http] metrics_from` only."""
        if not _may_read(request, http):
            return sentence(403, "Metrics are for addresses in [http] metrics_from.")
        await before_metrics()
        return Response(
            generate_latest(registry),
            headers={**SECURITY_HEADERS, "content-type": CONTENT_TYPE_LATEST},
        )

    return Starlette(
        routes=[*routes, Route("/healthz", health), Route("/metrics", metrics)],
        exception_handlers={
            HTTPException: _refused,
            StoreUnavailableError: _unavailable,
            Exception: _broken,
        },
    )


def sentence(status: int, text: str) -> Response:
    """An answer of one plain sentence."""
    return PlainTextResponse(f"{text}\n", status, headers=dict(SECURITY_HEADERS))


async def _refused(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    texts = {404: "There is no such page.", 405: "This page does not take such a request."}
    return sentence(status, texts.get(status, "The request cannot be answered."))


async def _unavailable(request: Request, error: Exception) -> Response:
    log.error("store_unavailable path=%s reason=%s", request.url.path, error)
    return sentence(503, "The hub cannot read or store anything now; try again later.")


async def _broken(request: Request, error: Exception) -> Response:
    log.error("request_failed path=%s", request.url.path, exc_info=error)
    return sentence(500, "Something went wrong here; the hub's log says what.")


def _may_read(request: Request, http: Http) -> bool:
    source = client_address(request, http.trusted_proxies)
    peer = request.client.host if request.client else ""
    if request.headers.get("x-forwarded-for") and source == peer:
        # A proxy nobody told us to trust: what looks like loopback may be anybody.
        return False
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return False
    return address.is_loopback or any(address in network for network in http.metrics_from)

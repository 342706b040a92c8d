"""Addresses for openNDS: where the program on a gateway speaks to us, and where a phone is let in.

Both stand on the residents' listeners, because that is what a gateway reaches. What the program
says is signed, so it is taken at any Host; a phone is let in only with a one-time password.
"""

import asyncio
from collections import OrderedDict
from urllib.parse import urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from portal.admin import Gateway
from portal.opennds.bridge import Opennds
from portal.opennds.talk import MAX_BODY_OCTETS
from portal.web.arrivals import query_of
from portal.web.forms import Link, Seals
from portal.web.pages import SECURITY_HEADERS, redirect
from radius.nas import Arrival, ArrivalError, opennds
from radius.nas.opennds import ENTER_PATH

AGENT_PATH = "/gateway/opennds/{name}"
ENTERED_KEPT = 500
"""Hand-offs whose outcome is told again: a phone that finds itself online may load twice."""


class OpenndsDoor:
    """The handlers; `routes` serves them."""

    def __init__(self, gateways: Opennds, seals: Seals) -> None:
        self._gateways = gateways
        self._seals = seals
        self._entered: OrderedDict[str, asyncio.Task[str]] = OrderedDict()

    def routes(self) -> list[BaseRoute]:
        """The routes of both addresses."""
        return [
            Route(ENTER_PATH, self.enter),
            Route(AGENT_PATH, self.agent, methods=["POST"]),
        ]

    async def look_up(self, arrival: Arrival, source: str) -> None:
        """Before an arrival of openNDS is shown anything: ask its gateway whether it is true."""
        if arrival.family == opennds.FAMILY:
            await self._gateways.look_up(arrival, source)

    async def agent(self, request: Request) -> Response:
        """POST: what the program on a gateway says, and what we say to it."""
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_BODY_OCTETS:
                return PlainTextResponse("too long\n", 413, headers=dict(SECURITY_HEADERS))
        answer = await self._gateways.take(request.path_params["name"], body)
        if answer is None:
            return PlainTextResponse("not known\n", 403, headers=dict(SECURITY_HEADERS))
        return PlainTextResponse(answer, headers=dict(SECURITY_HEADERS))

    async def enter(self, request: Request) -> Response:
        """GET `?hid=..&user=..&password=..&next=..`: where the portal sends a phone whose code was
        right. It waits here until its gateway has let it in.
        """
        query = query_of(request.scope["query_string"].decode("latin-1"))
        back = urlsplit(query.get("next", ""))
        link = self._seals.open_link(query_of(back.query).get("k", ""))
        gateway = None if link is None else self._gateways.gateway_by_id(link.gateway_id)
        if link is None or gateway is None or link.mac is None:
            return redirect("/")
        password = query.get("password", "")
        key = f"{gateway.id} {password}"
        entering = self._entered.get(key)
        if entering is None:
            entering = self._entered[key] = asyncio.get_running_loop().create_task(
                self._gateways.log_in(
                    gateway, link.mac, query.get("hid", ""), query.get("user", ""), password
                )
            )
            if len(self._entered) > ENTERED_KEPT:
                self._entered.popitem(last=False)
        result = await asyncio.shield(entering)
        if result == "in":
            return redirect(f"/connected?{back.query}")
        if result == "gone":
            start = opennds.login_start_url(link.login_base, None)
            return redirect(start or "/")
        return redirect(_failed(query, query_of(back.query), link, gateway, result))


def _failed(
    query: dict[str, str], back: dict[str, str], link: Link, gateway: Gateway, reason: str
) -> str:
    """The portal's own address with the arrival of a phone that was not let in."""
    try:
        name = gateway.nas_id or gateway.name
        arrival = opennds.write_fas(query.get("hid", ""), link.mac, name, link.login_base)
    except ArrivalError:
        return "/"
    return f"/?{urlencode({**back, 'fas': arrival, 'res': 'failed', 'reason': reason})}"

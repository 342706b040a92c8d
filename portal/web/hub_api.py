"""The hub's API for nodes: `/api/v1/nodes/...` and `/api/v1/ca`.

Bodies are bounded before they are read and before they are unpacked, signatures are checked before
anything is stored, and each refusal says one plain sentence. What an exchange means is decided in
portal/hub/ingest.py.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from portal import signed_requests, wire
from portal.hub.checkpoints import CheckpointError, verify
from portal.hub.ingest import Ingest
from portal.hub.sealed import Sealed
from portal.settings import Http
from portal.signed_requests import SignatureError, Signed
from portal.store.db.either import StoreUnavailableError
from portal.store.hub import HubStore
from portal.web.arrivals import client_address
from portal.web.hub_limits import SourceLimit
from portal.web.pages import SECURITY_HEADERS
from portal.wire import Answer, Problem, WireError

log = logging.getLogger(__name__)

MISSES_A_MINUTE = 20
"""Requests of one source that no key of ours has signed."""
BODY_WITHIN_S = 60.0
"""A body arrives within this, or the connection is another's."""


class TooLongError(Exception):
    """A body of more octets than its kind may have."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request whose signature is good."""

    node_id: str
    state: str
    counter: int
    body: bytes
    key: bytes
    """That signed it."""
    is_newer_key: bool
    """There are good keys that the node had before."""


class HubApi:
    """Handlers of nodes' requests."""

    def __init__(
        self,
        *,
        nodes: HubStore,
        ingest: Ingest,
        sealed: Sealed,
        introduction: Mapping[str, str],
        http: Http,
        now: Callable[[], int],
        elapsed_s: Callable[[], float],
    ):
        self._nodes = nodes
        self._ingest = ingest
        self._sealed = sealed
        self._introduction = dict(introduction)
        self._http = http
        self._now = now
        self._limit = SourceLimit(MISSES_A_MINUTE, now=elapsed_s)
        self.counts: dict[str, int] = {}
        """Requests by what became of them, for the metrics."""

    def routes(self) -> list[Route]:
        """The API's routes."""
        node = "/api/v1/nodes/{node_id}"
        return [
            Route(f"{node}/exchange", self._counted(self.exchange), methods=["POST"]),
            Route(f"{node}/backup", self._counted(self.put_backup), methods=["PUT"]),
            Route(f"{node}/backup", self._counted(self.get_backup), methods=["GET"]),
            Route("/api/v1/ca", self.introduce, methods=["GET"]),
        ]

    async def introduce(self, request: Request) -> Response:
        """`GET /api/v1/ca`: the hub's authority and public keys, for who compares six words."""
        return Response(
            msgspec.json.encode(self._introduction),
            headers=dict(SECURITY_HEADERS),
            media_type="application/json",
        )

    async def exchange(self, request: Request) -> Response:
        """`POST .../exchange`: a node's records come, its answer goes."""
        asked = await self._asked(request, wire.MOST_BODY_OCTETS)
        if isinstance(asked, Response):
            return asked
        try:
            message = wire.unpack(asked.body, wire.Exchange)
            outcome = await self._ingest.take(asked.node_id, asked.counter, message, self._now())
        except (WireError, CheckpointError) as error:
            log.warning("exchange_makes_no_sense node=%s reason=%s", asked.node_id, error)
            return self._refusal(422, Problem.BODY, _sentence(error))
        if asked.is_newer_key and outcome.status == 200:
            # The node has kept its new key, so it needs the old one no longer.
            async with self._nodes.database.transaction() as transaction:
                await self._nodes.end_older_keys(transaction, asked.node_id, asked.key, self._now())
        return _answer(outcome.status, outcome.answer)

    async def put_backup(self, request: Request) -> Response:
        """`PUT .../backup`: a node's sealed backup."""
        asked = await self._asked(request, wire.MOST_BACKUP_OCTETS)
        if isinstance(asked, Response):
            return asked
        try:
            backup = wire.unpack_backup(asked.body, wire.Backup)
        except WireError as error:
            return self._refusal(422, Problem.BODY, _sentence(error))
        if backup.number < 0 or backup.number >= 2**53:
            return self._refusal(422, Problem.BODY, "The backup's number is no delta number.")
        now = self._now()
        async with self._nodes.database.transaction() as transaction:
            await transaction.lock(f"node {asked.node_id}")
            if asked.state != "active":
                return self._not_active(asked.state)
            is_new = await self._nodes.take_counter(transaction, asked.node_id, asked.counter, now)
            if is_new:
                await self._sealed.put_backup(transaction, asked.node_id, backup, now)
        return Response(None, 204) if is_new else await self._old_counter(asked.node_id)

    async def get_backup(self, request: Request) -> Response:
        """`GET .../backup`: what a box gets that takes the place of another."""
        asked = await self._asked(request, 0)
        if isinstance(asked, Response):
            return asked
        if asked.state != "active":
            return self._not_active(asked.state)
        async with self._nodes.database.transaction() as transaction:
            await transaction.lock(f"node {asked.node_id}")
            is_new = await self._nodes.take_counter(
                transaction, asked.node_id, asked.counter, self._now()
            )
            recovery = await self._sealed.recovery(transaction, asked.node_id)
        if not is_new:
            return await self._old_counter(asked.node_id)
        return _packed(200, recovery)

    # --- who asks

    async def _asked(self, request: Request, most_octets: int) -> Asked | Response:
        """A request that a node's key has signed, or the refusal."""
        source = client_address(request, self._http.trusted_proxies)
        if self._limit.is_over(source):
            return self._refusal(
                429, Problem.UNKNOWN, "Too many requests without a known key; wait a minute."
            )
        node_id = str(request.path_params["node_id"])
        try:
            # Who has no key that we know does not get to send a long body.
            keys = await self._nodes.keys_of(self._nodes.database, node_id)
            node = await self._nodes.node(self._nodes.database, node_id) if keys else None
            if node is None:
                raise SignatureError("the hub knows no such node or key")
            async with asyncio.timeout(BODY_WITHIN_S):
                body = await _body(request, most_octets)
            signed = signed_requests.read(
                request.method, self._authority(request), request.url.path, request.headers, body
            )
            key = _fitting(signed, keys) if signed.keyid == node_id else None
            if key is None:
                raise SignatureError("the signature fits no key of this node")
        except SignatureError as error:
            self._limit.miss(source)
            log.warning("request_unsigned source=%s node=%r reason=%s", source, node_id, error)
            return self._refusal(401, Problem.UNKNOWN, _sentence(error))
        except TooLongError as error:
            return self._refusal(413, Problem.BODY, str(error))
        except (ClientDisconnect, TimeoutError):
            return self._refusal(408, Problem.BODY, "The body did not arrive.")
        return Asked(node_id, str(node["state"]), signed.counter, body, key, key != keys[0])

    def _authority(self, request: Request) -> str:
        """What the node has signed as the authority: the Host it asked."""
        return (
            request.headers.get("host", "")
            .lower()
            .removesuffix(":443" if request.url.scheme == "https" else ":80")
        )

    def _not_active(self, state: str) -> Response:
        if state == "pending":
            return self._refusal(
                202, Problem.PENDING, "Nobody at the office has approved this node yet."
            )
        return self._refusal(
            410, Problem.REVOKED, "The office has taken this node's right to report."
        )

    async def _old_counter(self, node_id: str) -> Response:
        node = await self._nodes.node(self._nodes.database, node_id)
        highest = 0 if node is None else int(node["request_counter"])
        return _answer(
            401,
            Answer(
                highest,
                problem=Problem.COUNTER,
                detail="This request counter was used before.",
            ),
        )

    def _refusal(self, status: int, problem: Problem, detail: str) -> Response:
        return _answer(status, Answer(0, problem=problem, detail=detail))

    def _counted(
        self, handler: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def counted(request: Request) -> Response:
            try:
                response = await handler(request)
            except StoreUnavailableError as error:
                log.error("not_stored path=%s reason=%s", request.url.path, error)
                response = self._refusal(
                    503, Problem.FULL, "The hub cannot store anything now; try again later."
                )
            name = str(response.status_code)
            self.counts[name] = self.counts.get(name, 0) + 1
            return response

        return counted


def _fitting(signed: Signed, keys: list[bytes]) -> bytes | None:
    """The key that signed, None where it is none of these."""
    return next((key for key in keys if verify(key, signed.signature, signed.base)), None)


async def _body(request: Request, most_octets: int) -> bytes:
    """The body, read only as far as it may be long. Raises TooLongError."""
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > most_octets:
        raise TooLongError(f"The body has {told} octets; expected at most {most_octets}.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_octets:
            raise TooLongError(f"The body has more than {most_octets} octets.")
    return bytes(body)


def _answer(status: int, answer: Answer) -> Response:
    return _packed(status, answer)


def _packed(status: int, message: msgspec.Struct) -> Response:
    return Response(
        wire.pack(message),
        status,
        headers={
            "cache-control": "no-store",
            "content-type": wire.CONTENT_TYPE,
            "content-encoding": wire.CONTENT_ENCODING,
        },
    )


def _sentence(error: Exception) -> str:
    text = str(error)
    return text[:1].upper() + text[1:].rstrip(".") + "."

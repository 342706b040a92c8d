"""Enrolment over HTTP: what a box asks of the hub before it may report, in JSON.

`POST /api/v1/enrol` and `POST /api/v1/nodes/{id}/key` carry their own proof. Refusals answer
{"problem": one English sentence}.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from portal.domain.ledger import key_statement
from portal.hub.enrolment import Enrolments, Presented, Refused
from portal.misses import Misses
from portal.signing import verify

log = logging.getLogger(__name__)

MOST_OCTETS = 8_000
T = TypeVar("T", bound=msgspec.Struct)


class _Asked(msgspec.Struct):
    token: str
    node: str
    signing: str
    sealing: str
    proof: str
    program: str = ""


class _NewKey(msgspec.Struct):
    old: str
    new: str
    signature_old: str
    signature_new: str


def routes(
    enrolments: Enrolments,
    *,
    source: Callable[[Request], str],
    elapsed_s: Callable[[], float],
) -> list[Route]:
    """The routes of enrolment."""
    misses = Misses()

    async def enrol(request: Request) -> Response:
        """POST /api/v1/enrol: 202 while a person has to approve, 200 from then on."""
        client = source(request)
        wait_s = misses.wait_s(client, None, elapsed_s())
        if wait_s > 0:
            return _json(429, {"problem": f"too many wrong tokens; wait {int(wait_s) + 1} s"})
        try:
            asked = await _body(request, _Asked)
            box = Presented(
                asked.token[:64],
                asked.node[:64],
                bytes.fromhex(asked.signing),
                bytes.fromhex(asked.sealing),
                bytes.fromhex(asked.proof),
            )
            welcome = await enrolments.present(box)
        except ValueError as error:
            return _json(422, {"problem": f"the request makes no sense: {error}"})
        except Refused as refused:
            if refused.status == 403:
                misses.miss(client, None, elapsed_s())
            log.warning("enrol_refused from=%s reason=%s", client, refused)
            return _json(refused.status, {"problem": str(refused)})
        misses.forgive(client)
        status = 200 if welcome.state == "active" else 202
        return _json(status, {"state": welcome.state, "site": welcome.site})

    async def key(request: Request) -> Response:
        """POST /api/v1/nodes/{id}/key: another signing key, signed by the old one and itself."""
        node_id = request.path_params["node_id"]
        try:
            asked = await _body(request, _NewKey)
            old, new = bytes.fromhex(asked.old), bytes.fromhex(asked.new)
            statement = key_statement(node_id, old, new)
            for public_key, signature in ((old, asked.signature_old), (new, asked.signature_new)):
                if not verify(public_key, bytes.fromhex(signature), statement):
                    raise Refused(401, "a signature does not fit its key")
            await enrolments.take_key(node_id, old, new)
        except ValueError as error:
            return _json(422, {"problem": f"the request makes no sense: {error}"})
        except Refused as refused:
            return _json(refused.status, {"problem": str(refused)})
        return _json(200, {"state": "taken"})

    return [
        Route("/api/v1/enrol", enrol, methods=["POST"]),
        Route("/api/v1/nodes/{node_id:str}/key", key, methods=["POST"]),
    ]


async def _body(request: Request, kind: type[T]) -> T:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_OCTETS:
            raise ValueError(f"more than {MOST_OCTETS} octets")
    return msgspec.json.decode(body, type=kind)


def _json(status: int, content: Mapping[str, Any]) -> Response:
    return Response(
        msgspec.json.encode(content),
        status,
        media_type="application/json",
        headers={"cache-control": "no-store", "x-content-type-options": "nosniff"},
    )

"""Forms: what travels through the phone and comes back, sealed, and how a POST is read.

Nothing here needs a cookie. A form carries a seal with the arrival it belongs to, bound to the
address of the phone; a link carries which card a phone logged in with. Seals are signed, not
secret: they hold only what the phone knows anyhow, never a code and never a password.
"""

import hashlib
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from itsdangerous import BadData, URLSafeSerializer
from starlette.requests import Request

from radius.nas import Arrival

FORM_LIFE_S = 1_800
"""A form older than this is shown again with the code kept (portal-ux U8)."""
LINK_LIFE_S = 90 * 86_400
"""How long a link shows what is left on its card. A phone that comes back by its MAC gets no new
one, so it lasts as long as cards usually do."""
MAX_BODY_OCTETS = 4_096
MAX_FIELDS = 20


class BodyTooLarge(Exception):
    """A POST with more octets than any form of ours makes."""


async def read_fields(request: Request, *, most_octets: int = MAX_BODY_OCTETS) -> dict[str, str]:
    """Return the fields of a posted form, the first of each name.

    Raises BodyTooLarge. A body that is no form gives no fields: the page is then shown again.
    """
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > most_octets:
            raise BodyTooLarge(f"body over {most_octets} octets")
    try:
        pairs = parse_qsl(
            body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS
        )
    except ValueError:
        return {}
    fields: dict[str, str] = {}
    for name, value in pairs:
        fields.setdefault(name, value)
    return fields


@dataclass(frozen=True, slots=True)
class Form:
    """What a form, or a link of a page, brings back about the arrival it was made for."""

    arrival: Arrival | None
    gateway_id: int | None
    is_signed: bool
    """The gateway signed the arrival."""
    arrived_at: int
    """When the gateway's redirect came in: its challenge is no younger."""
    made_at: int
    source: str

    def is_good(self, source: str, now: int) -> bool:
        """Tell whether it is young enough and comes from the address it was made for."""
        return self.source == source and -60 <= now - self.made_at <= FORM_LIFE_S


@dataclass(frozen=True, slots=True)
class Link:
    """Which card a phone logged in with, and where it can log out: lets a page find its status
    without a cookie.
    """

    voucher_id: int
    mac: str | None
    gateway_id: int | None
    login_base: str
    made_at: int
    attempt: int
    """1 for the hand-off of a typed code, 2 for the one after a stale challenge."""
    nonce: str

    def is_good(self, now: int) -> bool:
        """Tell whether it may still show a status."""
        return -60 <= now - self.made_at <= LINK_LIFE_S


@dataclass(frozen=True, slots=True)
class Ending:
    """What a log-out button ends: made for one address, like a form."""

    voucher_id: int
    mac: str | None
    gateway_id: int | None
    login_base: str | None
    made_at: int
    source: str

    def is_good(self, source: str, now: int) -> bool:
        """Tell whether it is young enough and comes from the address it was made for."""
        return self.source == source and -60 <= now - self.made_at <= FORM_LIFE_S


class Seals:
    """Signs and reads forms, links and endings with the node's secret key."""

    def __init__(self, secret: bytes) -> None:
        """Sign with `secret`, at least 16 random octets. Raises ValueError for a shorter one."""
        if len(secret) < 16:
            raise ValueError(f"the key has {len(secret)} octets, expected at least 16")
        self._serializers = {
            kind: URLSafeSerializer(
                secret,
                salt=f"pesisir {kind} 1",
                signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
            )
            for kind in ("form", "link", "ending")
        }

    def _seal(self, kind: str, values: list[Any]) -> str:
        return str(self._serializers[kind].dumps(values))

    def _open(self, kind: str, text: str) -> list[Any] | None:
        if not 0 < len(text) <= 2_000:
            return None
        try:
            values = self._serializers[kind].loads(text)
        except BadData:
            return None
        return values if isinstance(values, list) else None

    def seal_form(self, form: Form) -> str:
        """Sign a form's values: URL-safe text of about 300 characters."""
        arrival: list[Any] | None = None
        if form.arrival is not None:
            challenge = form.arrival.challenge
            arrival = [
                form.arrival.family,
                form.arrival.state,
                form.arrival.mac,
                form.arrival.nas_id,
                form.arrival.login_base,
                None if challenge is None else challenge.hex(),
                form.arrival.reason,
            ]
        return self._seal(
            "form",
            [
                *(arrival, form.gateway_id, form.is_signed),
                *(form.arrived_at, form.made_at, form.source),
            ],
        )

    def open_form(self, text: str) -> Form | None:
        """Return what `seal_form` signed, None for anything else; its age is not looked at."""
        values = self._open("form", text)
        if values is None:
            return None
        sealed, gateway_id, is_signed, arrived_at, made_at, source = values
        arrival = None
        if sealed is not None:
            family, state, mac, nas_id, login_base, challenge, reason = sealed
            arrival = Arrival(
                family=family,
                state=state,
                mac=mac,
                ip=None,
                nas_id=nas_id,
                login_base=login_base,
                challenge=None if challenge is None else bytes.fromhex(challenge),
                session_id=None,
                reply=None,
                reason=reason,
                return_url=None,
                seconds_left=None,
            )
        return Form(arrival, gateway_id, is_signed, arrived_at, made_at, source)

    def seal_link(self, link: Link) -> str:
        """Sign a link's values."""
        return self._seal(
            "link",
            [
                *(link.voucher_id, link.mac, link.gateway_id, link.login_base),
                *(link.made_at, link.attempt, link.nonce),
            ],
        )

    def open_link(self, text: str) -> Link | None:
        """Return what `seal_link` signed, None for anything else."""
        values = self._open("link", text)
        return None if values is None else Link(*values)

    def seal_ending(self, ending: Ending) -> str:
        """Sign a log-out button's values."""
        return self._seal(
            "ending",
            [
                *(ending.voucher_id, ending.mac, ending.gateway_id, ending.login_base),
                *(ending.made_at, ending.source),
            ],
        )

    def open_ending(self, text: str) -> Ending | None:
        """Return what `seal_ending` signed, None for anything else."""
        values = self._open("ending", text)
        return None if values is None else Ending(*values)

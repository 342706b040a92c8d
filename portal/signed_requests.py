"""Signed requests: one fixed form of RFC 9421 (HTTP message signatures), for both ends.

Ed25519 over the method, the authority, the path and the digest of the body (RFC 9530), with the
time, the node's name as `keyid` and the node's request counter as `nonce`. Keys, clocks and
counters stay outside: `sign` is given what it needs, `read` says what was signed, and the hub
decides whether the signature, the counter and the time please it. Any other form is refused, a
better one as well: what is not accepted cannot be confused.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

SIGNATURE_OCTETS: Final = 64
_COMPONENTS: Final = '("@method" "@authority" "@path" "content-digest")'
_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")
_INPUT = re.compile(
    r"sig=" + re.escape(_COMPONENTS) + r";created=(0|[1-9][0-9]{0,14})"
    r';keyid="([A-Za-z0-9/._-]{1,80})";nonce="(0|[1-9][0-9]{0,14})"'
)
_SIGNATURE = re.compile(r"sig=:([A-Za-z0-9+/]{86}==):")


class SignatureError(ValueError):
    """A request that is not signed in our form: what, seen, expected, in one sentence."""


@dataclass(frozen=True, slots=True)
class Signed:
    """What a request's headers say was signed; nothing of it is true before the signature fits."""

    keyid: str
    """The node's name."""
    created_at: int
    """By the node's clock, epoch s. A box without a clock may be decades off."""
    counter: int
    """The node's request counter: higher than any before, or the request is an old one."""
    base: bytes
    """The octets that the signature is over (RFC 9421 2.5)."""
    signature: bytes


def sign(
    method: str,
    authority: str,
    path: str,
    body: bytes,
    *,
    keyid: str,
    created_at: int,
    counter: int,
    signer: Callable[[bytes], bytes],
) -> dict[str, str]:
    """The headers that sign a request; `signer` makes the Ed25519 signature of octets."""
    digest = f"sha-256=:{_base64(hashlib.sha256(body).digest())}:"
    parameters = f'{_COMPONENTS};created={created_at};keyid="{keyid}";nonce="{counter}"'
    signature = signer(_base(method, authority, path, digest, parameters))
    return {
        "Content-Digest": digest,
        "Signature-Input": f"sig={parameters}",
        "Signature": f"sig=:{_base64(signature)}:",
    }


def read(method: str, authority: str, path: str, headers: Mapping[str, str], body: bytes) -> Signed:
    """What a request says was signed, its body's digest checked.

    `headers` finds names as HTTP does, without regard to case, or has them in lower case. Raises
    SignatureError when a header is missing, has another form or does not fit the body.
    """
    digest = _header(headers, "content-digest", _DIGEST)
    given = _header(headers, "signature-input", _INPUT)
    signature = _header(headers, "signature", _SIGNATURE)
    if _octets(digest[1]) != hashlib.sha256(body).digest():
        raise SignatureError("Content-Digest is another body's; it was changed on the way")
    parameters = given[0].removeprefix("sig=")
    return Signed(
        keyid=given[2],
        created_at=int(given[1]),
        counter=int(given[3]),
        base=_base(method, authority, path, digest[0], parameters),
        signature=_octets(signature[1]),
    )


def authority_of(host: str, port: int | None, *, is_tls: bool) -> str:
    """Host and port as RFC 9421 2.2.3 wants them: lower case, no port where it is the usual one."""
    name = host.lower()
    if port is None or port == (443 if is_tls else 80):
        return name
    return f"{name}:{port}"


def _base(method: str, authority: str, path: str, digest: str, parameters: str) -> bytes:
    return (
        f'"@method": {method}\n'
        f'"@authority": {authority}\n'
        f'"@path": {path}\n'
        f'"content-digest": {digest}\n'
        f'"@signature-params": {parameters}'
    ).encode()


def _header(headers: Mapping[str, str], name: str, form: re.Pattern[str]) -> re.Match[str]:
    found = form.fullmatch(headers.get(name, "").strip())
    if found is None:
        shown = headers.get(name)
        seen = "missing" if shown is None else "not in the form this program uses"
        raise SignatureError(f"the header {name} is {seen}")
    return found


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def _octets(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise SignatureError(f"a header holds no base64: {error}") from None

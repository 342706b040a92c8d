"""Class: what an Access-Accept carries so that accounting finds its session and its grant.

Opaque to the gateway and authenticated by us: 45 octets, within the 64 that every gateway keeps.
After a crash the grant it names is as good as the row that was not written yet.
"""

import functools
import hashlib
import hmac
import struct
from typing import Final, NamedTuple

_VERSION: Final = 1
_BODY: Final = struct.Struct(">BQQQI")
_pack_body: Final = _BODY.pack
_TAG_OCTETS: Final = 16
_NONE_OCTETS: Final = (1 << 64) - 1
_NONE_S: Final = (1 << 32) - 1
LENGTH: Final = _BODY.size + _TAG_OCTETS


class ClassContent(NamedTuple):
    """What a Class says."""

    session_id: int
    card_id: int
    granted_octets: int | None
    granted_s: int | None


def pack(
    session_id: int,
    card_id: int,
    granted_octets: int | None,
    granted_s: int | None,
    *,
    gateway_id: int,
    key: bytes,
) -> bytes:
    """Write a Class that is good at one gateway."""
    body = _pack_body(
        _VERSION,
        session_id,
        card_id,
        _NONE_OCTETS if granted_octets is None else granted_octets,
        _NONE_S if granted_s is None else granted_s,
    )
    return body + _tag(body, gateway_id, key)


def unpack(value: bytes, gateway_id: int, key: bytes) -> ClassContent | None:
    """Read a Class; None when it is not one of ours for this gateway."""
    if len(value) != LENGTH or value[0] != _VERSION:
        return None
    body = value[: _BODY.size]
    if not hmac.compare_digest(_tag(body, gateway_id, key), value[_BODY.size :]):
        return None
    _, session_id, card_id, octets, seconds = _BODY.unpack(body)
    return ClassContent(
        session_id,
        card_id,
        None if octets == _NONE_OCTETS else octets,
        None if seconds == _NONE_S else seconds,
    )


def _tag(body: bytes, gateway_id: int, key: bytes) -> bytes:
    state = _state(gateway_id, key).copy()
    state.update(body)
    return state.digest()


@functools.lru_cache(maxsize=1024)
def _state(gateway_id: int, key: bytes) -> "hashlib.blake2b":
    """The keyed hash of a gateway, to be copied: keying costs more than the hash itself."""
    return hashlib.blake2b(gateway_id.to_bytes(8, "big"), digest_size=_TAG_OCTETS, key=key)

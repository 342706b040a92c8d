"""RADIUS packets: a strict reader and a builder, made for the server's hot path.

The layout is RFC 2865 section 3. A packet is read in one pass over its octets into a dict of first
values; whatever is needed less often (repeated attributes, vendor attributes, numbers, texts) is
decoded when it is asked for. Attributes that are too short or run past the end make the whole
packet malformed (`PacketError`); a value of the wrong size for its type only reads as absent
(`None`).

Who signs what (the Request Authenticator is written RA):

* Access-Request, Status-Server: RA is random; Message-Authenticator = HMAC-MD5 over the packet (RFC
  3579 3.2).
* Accounting-Request, Disconnect-Request, CoA-Request: RA = MD5 over the packet with sixteen zero
  octets as RA, and the secret (RFC 2866 3, RFC 5176 2.3); a Message-Authenticator there is made
  with zero octets as RA (RFC 5176 3.4).
* every reply: Response Authenticator = MD5 over the packet with the request's RA, and the secret
  (RFC 2865 3); its Message-Authenticator is made with the request's RA.
"""

import functools
import hmac
import ipaddress
import socket
import struct
from enum import StrEnum
from typing import Final

from radius.md5 import Hash, md5
from radius.password import chap_fits, reveal

# Final: what is compiled has the number in place of the name (a look-up is 110 instructions).

# Codes (RFC 2865 3, RFC 2866 3, RFC 5997 2, RFC 5176 2.3)
ACCESS_REQUEST: Final = 1
ACCESS_ACCEPT: Final = 2
ACCESS_REJECT: Final = 3
ACCOUNTING_REQUEST: Final = 4
ACCOUNTING_RESPONSE: Final = 5
ACCESS_CHALLENGE: Final = 11
STATUS_SERVER: Final = 12
DISCONNECT_REQUEST: Final = 40
DISCONNECT_ACK: Final = 41
DISCONNECT_NAK: Final = 42
COA_REQUEST: Final = 43
COA_ACK: Final = 44
COA_NAK: Final = 45

# Attribute types (RFC 2865 5, 2866 5, 2869 5, 3162 2, 3576, 4372, 4818, 6911)
USER_NAME: Final = 1
USER_PASSWORD: Final = 2
CHAP_PASSWORD: Final = 3
NAS_IP_ADDRESS: Final = 4
NAS_PORT: Final = 5
SERVICE_TYPE: Final = 6
FRAMED_PROTOCOL: Final = 7
FRAMED_IP_ADDRESS: Final = 8
FILTER_ID: Final = 11
REPLY_MESSAGE: Final = 18
STATE: Final = 24
CLASS: Final = 25
VENDOR_SPECIFIC: Final = 26
SESSION_TIMEOUT: Final = 27
IDLE_TIMEOUT: Final = 28
TERMINATION_ACTION: Final = 29
CALLED_STATION_ID: Final = 30
CALLING_STATION_ID: Final = 31
NAS_IDENTIFIER: Final = 32
PROXY_STATE: Final = 33
ACCT_STATUS_TYPE: Final = 40
ACCT_DELAY_TIME: Final = 41
ACCT_INPUT_OCTETS: Final = 42
ACCT_OUTPUT_OCTETS: Final = 43
ACCT_SESSION_ID: Final = 44
ACCT_AUTHENTIC: Final = 45
ACCT_SESSION_TIME: Final = 46
ACCT_INPUT_PACKETS: Final = 47
ACCT_OUTPUT_PACKETS: Final = 48
ACCT_TERMINATE_CAUSE: Final = 49
ACCT_INPUT_GIGAWORDS: Final = 52
ACCT_OUTPUT_GIGAWORDS: Final = 53
EVENT_TIMESTAMP: Final = 55
CHAP_CHALLENGE: Final = 60
NAS_PORT_TYPE: Final = 61
EAP_MESSAGE: Final = 79
MESSAGE_AUTHENTICATOR: Final = 80
ACCT_INTERIM_INTERVAL: Final = 85
NAS_PORT_ID: Final = 87
CHARGEABLE_USER_IDENTITY: Final = 89
NAS_IPV6_ADDRESS: Final = 95
FRAMED_INTERFACE_ID: Final = 96
FRAMED_IPV6_PREFIX: Final = 97
FRAMED_IPV6_POOL: Final = 100
ERROR_CAUSE: Final = 101
DELEGATED_IPV6_PREFIX: Final = 123
FRAMED_IPV6_ADDRESS: Final = 168
DNS_SERVER_IPV6_ADDRESS: Final = 169

MIN_PACKET_OCTETS: Final = 20
MAX_PACKET_OCTETS: Final = 4096
MAX_VALUE_OCTETS: Final = 253
MAX_VENDOR_VALUE_OCTETS: Final = 247

_ZEROS: Final = bytes(16)
_EMPTY_MESSAGE_AUTHENTICATOR: Final = bytes((MESSAGE_AUTHENTICATOR, 18)) + _ZEROS
_SIGNED_BY_AUTHENTICATOR: Final = frozenset((ACCOUNTING_REQUEST, DISCONNECT_REQUEST, COA_REQUEST))
_ANSWERED_WITH_MESSAGE_AUTHENTICATOR: Final = frozenset((ACCESS_REQUEST, STATUS_SERVER))
_ACCESS_REPLIES = frozenset((ACCESS_ACCEPT, ACCESS_REJECT, ACCESS_CHALLENGE))
_INNER_PAD = bytes(octet ^ 0x36 for octet in range(256))
_OUTER_PAD = bytes(octet ^ 0x5C for octet in range(256))

_pack_header: Final = struct.Struct("!BBH").pack
_pack_integer: Final = struct.Struct("!I").pack


class PacketError(Exception):
    """A packet the peer should not have sent: drop it, count it, never answer it.

    The text says what is wrong, the value seen and what was expected; it holds no attribute value.
    """


class MessageAuthenticator(StrEnum):
    """What a check of attribute 80 found (RFC 3579 3.2)."""

    absent = "absent"
    valid = "valid"
    wrong = "wrong"


class Packet:
    """A packet that `parse` found well-formed. Nothing is authenticated yet.

    `raw` is exactly Length octets (padding is cut off); `first` holds the first value of each
    attribute type.
    """

    __slots__ = (
        "_message_authenticator_at",
        "_vendors",
        "authenticator",
        "code",
        "first",
        "identifier",
        "raw",
    )

    def __init__(
        self,
        code: int,
        identifier: int,
        raw: bytes,
        first: dict[int, bytes],
        message_authenticator_at: int,
    ) -> None:
        self.code = code
        self.identifier = identifier
        self.authenticator = raw[4:20]
        self.raw = raw
        self.first = first
        # Offset of the value of attribute 80 in raw; 0: absent, -1: more than one.
        self._message_authenticator_at = message_authenticator_at
        self._vendors: dict[tuple[int, int], bytes] | None = None

    def __repr__(self) -> str:
        """Shape only: values may be passwords or voucher codes."""
        return f"Packet(code={self.code}, identifier={self.identifier}, types={list(self.first)})"

    def all(self, kind: int) -> list[bytes]:
        """Every value of attribute type `kind`, in the packet's order."""
        if kind not in self.first:
            return []
        raw = self.raw
        found = []
        offset = MIN_PACKET_OCTETS
        length = len(raw)
        while offset < length:
            end = offset + raw[offset + 1]
            if raw[offset] == kind:
                found.append(raw[offset + 2 : end])
            offset = end
        return found

    def vendor(self, vendor: int, kind: int) -> bytes | None:
        """The first value of a vendor's sub-attribute, None if absent (RFC 2865 5.26).

        Several sub-attributes in one Vendor-Specific attribute are read; a Vendor-Specific
        attribute whose inside does not fit the recommended type-length-value form is ignored whole.
        """
        if VENDOR_SPECIFIC not in self.first:
            return None
        vendors = self._vendors
        if vendors is None:
            vendors = self._vendors = {}
            for value in self.all(VENDOR_SPECIFIC):
                _read_vendor_attributes(value, vendors)
        return vendors.get((vendor, kind))

    def text(self, kind: int) -> str | None:
        """A UTF-8 text; None if absent, empty or not UTF-8."""
        value = self.first.get(kind)
        if not value:
            return None
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None

    def integer(self, kind: int) -> int | None:
        """An unsigned 32-bit number; None if absent or not four octets."""
        value = self.first.get(kind)
        return None if value is None or len(value) != 4 else number(value)

    def address(self, kind: int) -> str | None:
        """An IPv4 address as dotted text; None if absent or not four octets."""
        value = self.first.get(kind)
        if value is None or len(value) != 4:
            return None
        return f"{value[0]}.{value[1]}.{value[2]}.{value[3]}"

    def ipv6_address(self, kind: int) -> str | None:
        """An IPv6 address, compressed; None if absent or not sixteen octets (RFC 3162 2.1)."""
        value = self.first.get(kind)
        if value is None or len(value) != 16:
            return None
        return socket.inet_ntop(socket.AF_INET6, value)

    def ipv6_prefix(self, kind: int) -> str | None:
        """An IPv6 prefix like `2001:db8::/64`; None if absent or malformed.

        The value is a reserved octet, the prefix length and 0 to 16 octets; bits beyond the prefix
        length must be zero (RFC 3162 2.3).
        """
        value = self.first.get(kind)
        if value is None or not 2 <= len(value) <= 18 or value[1] > 128:
            return None
        try:
            return str(ipaddress.IPv6Network((value[2:].ljust(16, b"\0"), value[1])))
        except ValueError:
            return None

    def interface_id(self, kind: int) -> str | None:
        """An interface identifier like `0:1:2:ff`; None if absent or not eight octets."""
        value = self.first.get(kind)
        if value is None or len(value) != 8:
            return None
        return ":".join(f"{group:x}" for group in struct.unpack("!4H", value))


def number(four: bytes) -> int:
    """Four octets as an unsigned number. Raises IndexError for fewer."""
    return four[0] << 24 | four[1] << 16 | four[2] << 8 | four[3]


def parse(datagram: bytes) -> Packet:
    """Read one datagram.

    Octets beyond the Length field are padding and are ignored everywhere (RFC 2865 3). Raises
    `PacketError` for a datagram shorter than its Length, a Length outside 20..4096, and an
    attribute shorter than two octets or running past the end.
    """
    received = len(datagram)
    if received < MIN_PACKET_OCTETS:
        raise PacketError(f"{received} octets received, a RADIUS packet has at least 20")
    length = datagram[2] << 8 | datagram[3]
    if length > received:
        raise PacketError(f"Length field says {length} octets, only {received} received")
    if not MIN_PACKET_OCTETS <= length <= MAX_PACKET_OCTETS:
        raise PacketError(f"Length field says {length} octets, expected 20 to 4096")
    raw = datagram if length == received else datagram[:length]
    first: dict[int, bytes] = {}
    message_authenticator_at = 0
    offset = MIN_PACKET_OCTETS
    try:
        while offset < length:
            kind = raw[offset]
            size = raw[offset + 1]
            if size < 2:
                raise PacketError(
                    f"attribute {kind} at octet {offset} has length {size}, expected at least 2"
                )
            value_at = offset + 2
            offset += size
            if kind == MESSAGE_AUTHENTICATOR:
                message_authenticator_at = -1 if kind in first else value_at
            # A value that runs past the end is cut by the slice and found after the loop.
            first.setdefault(kind, raw[value_at:offset])
    except IndexError:
        raise PacketError(
            f"one octet is left at octet {offset}, an attribute has at least 2"
        ) from None
    if offset > length:
        raise PacketError(
            f"attribute {kind} at octet {offset - size} has length {size}, "
            f"only {length - offset + size} octets are left"
        )
    return Packet(raw[0], raw[1], raw, first, message_authenticator_at)


def _read_vendor_attributes(value: bytes, into: dict[tuple[int, int], bytes]) -> None:
    """Add the sub-attributes of one Vendor-Specific value to `into`, unless it is malformed."""
    length = len(value)
    if length < 6:
        return
    vendor = int.from_bytes(value[:4], "big")
    found = []
    offset = 4
    while offset < length:
        if offset + 2 > length:
            return
        end = offset + value[offset + 1]
        if end < offset + 2 or end > length:
            return
        found.append(((vendor, value[offset]), value[offset + 2 : end]))
        offset = end
    for key, octets in found:
        into.setdefault(key, octets)


# Signatures


@functools.lru_cache(maxsize=1024)
def _hmac_states(secret: bytes) -> tuple[Hash, Hash]:
    """The MD5 states of HMAC-MD5 (RFC 2104) after the padded key: half the work, done once."""
    key = md5(secret).digest() if len(secret) > 64 else secret
    block = key.ljust(64, b"\0")
    return (
        md5(block.translate(_INNER_PAD)),
        md5(block.translate(_OUTER_PAD)),
    )


def _hmac_md5(secret: bytes, message: bytes) -> bytes:
    inner, outer = _hmac_states(secret)
    inner = inner.copy()
    inner.update(message)
    outer = outer.copy()
    outer.update(inner.digest())
    return outer.digest()


def _md5(message: bytes) -> bytes:
    return md5(message).digest()


def verify_accounting(packet: Packet, secret: bytes) -> bool:
    """True if the Request Authenticator is the MD5 that RFC 2866 3 and RFC 5176 2.3 ask for."""
    raw = packet.raw
    return hmac.compare_digest(
        _md5(b"".join((raw[:4], _ZEROS, raw[20:], secret))), packet.authenticator
    )


def message_authenticator_state(packet: Packet, secret: bytes) -> MessageAuthenticator:
    """Check the Message-Authenticator of a request (RFC 3579 3.2, RFC 5176 3.4).

    More than one, or one that is not 18 octets long, counts as wrong.
    """
    offset = packet._message_authenticator_at
    if offset == 0:
        return MessageAuthenticator.absent
    over = _ZEROS if packet.code in _SIGNED_BY_AUTHENTICATOR else packet.authenticator
    return (
        MessageAuthenticator.valid
        if _message_authenticator_fits(packet, over, secret)
        else MessageAuthenticator.wrong
    )


def _message_authenticator_fits(packet: Packet, authenticator: bytes, secret: bytes) -> bool:
    offset = packet._message_authenticator_at
    if offset < 0:
        return False
    raw = packet.raw
    message = b"".join((raw[:4], authenticator, raw[20:offset], _ZEROS, raw[offset + 16 :]))
    # A value that is not 16 octets long equals no digest.
    return hmac.compare_digest(_hmac_md5(secret, message), packet.first[MESSAGE_AUTHENTICATOR])


# Passwords


def decrypt_password(packet: Packet, secret: bytes) -> bytes | None:
    """The bytes the user typed; None if User-Password is absent or has an impossible size.

    Trailing NUL octets are padding and are taken off (RFC 2865 5.2). Compare in constant time. With
    a wrong secret the result is noise (`radius.password.is_noise`).
    """
    hidden = packet.first.get(USER_PASSWORD)
    return None if hidden is None else reveal(hidden, packet.authenticator, secret)


def verify_chap(packet: Packet, password: bytes) -> bool:
    """True if CHAP-Password answers its challenge with `password` (RFC 2865 5.3).

    The challenge is CHAP-Challenge, any length, or the Request Authenticator when there is none.
    False if CHAP-Password is absent or not 17 octets long.
    """
    value = packet.first.get(CHAP_PASSWORD)
    challenge = packet.first.get(CHAP_CHALLENGE) or packet.authenticator
    return value is not None and chap_fits(value, challenge, password)


# Attributes to send


def attribute(kind: int, value: bytes) -> bytes:
    """One encoded attribute. Raises ValueError if the value is empty or longer than 253 octets."""
    size = len(value)
    if not 1 <= size <= MAX_VALUE_OCTETS:
        raise ValueError(f"attribute {kind}: value has {size} octets, expected 1 to 253")
    return bytes((kind, size + 2)) + value


def vendor_attribute(vendor: int, kind: int, value: bytes) -> bytes:
    """One Vendor-Specific attribute with one sub-attribute (RFC 2865 5.26).

    Raises ValueError if the value is empty or longer than 247 octets.
    """
    size = len(value)
    if not 1 <= size <= MAX_VENDOR_VALUE_OCTETS:
        raise ValueError(
            f"vendor {vendor} attribute {kind}: value has {size} octets, expected 1 to 247"
        )
    return b"".join(
        (bytes((VENDOR_SPECIFIC, size + 8)), _pack_integer(vendor), bytes((kind, size + 2)), value)
    )


def integer_attribute(kind: int, value: int) -> bytes:
    """One attribute with an unsigned 32-bit number. Raises ValueError outside 0..2^32-1."""
    if not 0 <= value <= 0xFFFFFFFF:
        raise ValueError(f"attribute {kind}: {value} does not fit, expected 0 to 4294967295")
    return bytes((kind, 6)) + _pack_integer(value)


def text_attribute(kind: int, value: str) -> bytes:
    """One attribute with a text that any gateway can carry: ASCII, cut at 253 octets.

    A character outside printable ASCII becomes `?`: some gateways copy the text into HTML or a URL
    as it is, and NUL would end it (RFC 2865 5). Raises ValueError if the text is empty.
    """
    safe = "".join(char if " " <= char <= "~" else "?" for char in value)
    return attribute(kind, safe[:MAX_VALUE_OCTETS].encode("ascii"))


# Packets to send


def build_reply(request: Packet, code: int, attributes: bytes, secret: bytes) -> bytes:
    """The datagram that answers `request` with `code` and the already encoded `attributes`.

    A reply to an Access-Request or Status-Server begins with Message-Authenticator, whether or not
    the request had one (CVE-2024-3596). Every Proxy-State of the request follows, unmodified and in
    order (RFC 2865 5.33). Raises ValueError if the reply would be longer than 4096 octets.
    """
    if PROXY_STATE in request.first:
        proxied = [
            attribute(PROXY_STATE, v) if v else b"\x21\x02" for v in request.all(PROXY_STATE)
        ]
        attributes += b"".join(proxied)
    signed = request.code in _ANSWERED_WITH_MESSAGE_AUTHENTICATOR
    length = len(attributes) + (38 if signed else 20)
    if length > MAX_PACKET_OCTETS:
        raise ValueError(f"reply would have {length} octets, expected at most 4096")
    header = _pack_header(code, request.identifier, length)
    over = header + request.authenticator
    if signed:
        mark = _hmac_md5(secret, b"".join((over, _EMPTY_MESSAGE_AUTHENTICATOR, attributes)))
        attributes = b"".join((b"\x50\x12", mark, attributes))
    return b"".join((header, _md5(b"".join((over, attributes, secret))), attributes))


def sign_request(
    code: int,
    identifier: int,
    attributes: bytes,
    secret: bytes,
    *,
    message_authenticator: bool = False,
    authenticator: bytes | None = None,
) -> bytes:
    """The datagram of a request with the already encoded `attributes`.

    Disconnect-, CoA- and Accounting-Request get the computed Request Authenticator and take no
    `authenticator`; other codes need sixteen random octets as `authenticator`. With
    `message_authenticator` that attribute comes first. Raises ValueError if `authenticator` does
    not suit the code or the packet would be longer than 4096 octets.
    """
    computed = code in _SIGNED_BY_AUTHENTICATOR
    if computed:
        if authenticator is not None:
            raise ValueError(f"code {code} computes its authenticator, one was given")
        authenticator = _ZEROS
    elif authenticator is None or len(authenticator) != 16:
        seen = None if authenticator is None else len(authenticator)
        raise ValueError(f"code {code} needs an authenticator of 16 random octets, seen {seen}")
    length = MIN_PACKET_OCTETS + len(attributes) + (18 if message_authenticator else 0)
    if length > MAX_PACKET_OCTETS:
        raise ValueError(f"request would have {length} octets, expected at most 4096")
    header = _pack_header(code, identifier, length)
    if message_authenticator:
        empty = b"".join((header, authenticator, _EMPTY_MESSAGE_AUTHENTICATOR, attributes))
        attributes = b"".join((b"\x50\x12", _hmac_md5(secret, empty), attributes))
    if computed:
        authenticator = _md5(b"".join((header, _ZEROS, attributes, secret)))
    return b"".join((header, authenticator, attributes))


def verify_response(
    request_authenticator: bytes,
    datagram: bytes,
    secret: bytes,
    *,
    require_message_authenticator: bool | None = None,
) -> Packet:
    """Read and authenticate the reply to a request of ours that carried no Proxy-State.

    The caller matches code and identifier. Message-Authenticator must fit if it is present; by
    default it is required in replies to Access-Request (RFC 3579 3.2 and CVE-2024-3596). Raises
    `PacketError` if the datagram is malformed, a signature does not fit, or an Access reply carries
    a Proxy-State we never sent.
    """
    packet = parse(datagram)
    raw = packet.raw
    expected = _md5(b"".join((raw[:4], request_authenticator, raw[20:], secret)))
    if not hmac.compare_digest(expected, packet.authenticator):
        raise PacketError(
            f"reply with code {packet.code}: Response Authenticator does not fit the secret"
        )
    is_access = packet.code in _ACCESS_REPLIES
    if require_message_authenticator is None:
        require_message_authenticator = is_access
    if packet._message_authenticator_at:
        if not _message_authenticator_fits(packet, request_authenticator, secret):
            raise PacketError(
                f"reply with code {packet.code}: Message-Authenticator does not fit the secret"
            )
    elif require_message_authenticator:
        raise PacketError(f"reply with code {packet.code} has no Message-Authenticator")
    if is_access and PROXY_STATE in packet.first:
        raise PacketError(f"reply with code {packet.code} carries a Proxy-State that was not sent")
    return packet

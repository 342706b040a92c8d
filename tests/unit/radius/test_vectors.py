"""Every packet in tests/vectors/packets-*.txt through our codec, with pyrad as the oracle."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyrad.packet
import pytest
from pyrad.dictionary import Dictionary

from radius.packet import (
    ACCESS_REQUEST,
    CHAP_PASSWORD,
    MESSAGE_AUTHENTICATOR,
    STATUS_SERVER,
    USER_PASSWORD,
    MessageAuthenticator,
    Packet,
    PacketError,
    decrypt_password,
    message_authenticator_state,
    parse,
    verify_accounting,
    verify_chap,
    verify_response,
)

VECTORS = Path(__file__).parents[2] / "vectors"
FILES = sorted(VECTORS.glob("packets-*.txt"))
VERDICTS = ("fits", "unsigned", "malformed", "wrong-authenticator", "wrong-message-authenticator")


@dataclass
class Vector:
    file: str
    name: str
    secret: bytes = b""
    datagram: bytes = b""
    verdict: str = ""
    request: "Vector | None" = None
    password: str | None = None
    values: list[tuple[int, str]] = field(default_factory=list)
    vendors: list[tuple[int, int, str]] = field(default_factory=list)
    pyrad: str = ""


def read_file(path: Path) -> list[Vector]:
    vectors: list[Vector] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("    "):
            vectors[-1].datagram += bytes.fromhex(line)
            continue
        key, _, value = line.partition(":")
        value = value.strip()
        if key == "packet":
            vectors.append(Vector(path.stem, value))
            continue
        vector = vectors[-1]
        match key:
            case "secret":
                vector.secret = value.encode()
            case "hex":
                assert not value, f"{path.name}:{number}: hex digits stand on indented lines"
            case "verdict":
                assert value in VERDICTS, f"{path.name}:{number}: verdict {value!r}"
                vector.verdict = value
            case "reply-to":
                vector.request = next(other for other in vectors if other.name == value)
            case "password":
                vector.password = value
            case "value":
                kind, _, expected = value.partition(" = ")
                vector.values.append((int(kind), expected))
            case "vendor":
                name, _, expected = value.partition(" = ")
                vendor, _, kind = name.partition("/")
                vector.vendors.append((int(vendor), int(kind), expected))
            case "pyrad":
                verdict, _, reason = value.partition(", ")
                assert verdict in VERDICTS and reason, f"{path.name}:{number}: verdict and reason"
                vector.pyrad = verdict
            case _:
                raise AssertionError(f"{path.name}:{number}: unknown line {key!r}")
    return vectors


ALL = [vector for path in FILES for vector in read_file(path)]
each_vector = pytest.mark.parametrize(
    "vector", [pytest.param(vector, id=f"{vector.file}: {vector.name}") for vector in ALL]
)


def our_verdict(vector: Vector) -> str:
    if vector.request is not None:
        authenticator = vector.request.datagram[4:20]
        try:
            verify_response(
                authenticator, vector.datagram, vector.secret, require_message_authenticator=False
            )
        except PacketError as error:
            for sign, verdict in (
                ("Response Authenticator does not fit", "wrong-authenticator"),
                ("Message-Authenticator does not fit", "wrong-message-authenticator"),
            ):
                if sign in str(error):
                    return verdict
            return "malformed"
        return "fits"
    try:
        packet = parse(vector.datagram)
    except PacketError:
        return "malformed"
    signature = message_authenticator_state(packet, vector.secret)
    if packet.code in (ACCESS_REQUEST, STATUS_SERVER):
        return {
            MessageAuthenticator.absent: "unsigned",
            MessageAuthenticator.valid: "fits",
            MessageAuthenticator.wrong: "wrong-message-authenticator",
        }[signature]
    if not verify_accounting(packet, vector.secret):
        return "wrong-authenticator"
    if signature is MessageAuthenticator.wrong:
        return "wrong-message-authenticator"
    return "fits"


def pyrad_packet(datagram: bytes, secret: bytes) -> Any:
    """The packet as pyrad reads it, raw values only."""
    kinds = {
        4: pyrad.packet.AcctPacket,
        40: pyrad.packet.CoAPacket,
        43: pyrad.packet.CoAPacket,
    }
    kind = kinds.get(datagram[0] if datagram else 0, pyrad.packet.AuthPacket)
    return kind(packet=datagram, secret=secret, dict=Dictionary())


def pyrad_verdict(vector: Vector) -> str:
    secret = vector.secret
    try:
        packet = pyrad_packet(vector.datagram, secret)
    except pyrad.packet.PacketError:
        return "malformed"
    if vector.request is not None:
        request = pyrad_packet(vector.request.datagram, secret)
        if request.VerifyReply(packet, vector.datagram):
            return "fits"
        if MESSAGE_AUTHENTICATOR in packet and not packet.verify_message_authenticator(
            secret=secret, original_authenticator=request.authenticator, original_code=request.code
        ):
            return "wrong-message-authenticator"
        return "wrong-authenticator"
    if packet.code == 4 and not packet.VerifyAcctRequest():
        return "wrong-authenticator"
    if packet.code in (40, 43) and not packet.VerifyCoARequest():
        return "wrong-authenticator"
    if packet.message_authenticator:
        is_right = packet.verify_message_authenticator(secret=secret)
        return "fits" if is_right else "wrong-message-authenticator"
    return "unsigned" if packet.code in (ACCESS_REQUEST, STATUS_SERVER) else "fits"


def octets_fit(value: bytes | None, expected: str) -> bool:
    """Compare a value with the way the vector file writes it, without our own decoders."""
    if expected == "none":
        return value is None
    if expected.startswith('"'):
        return value == expected.strip('"').encode()
    if expected.startswith("0x"):
        return value == bytes.fromhex(expected[2:])
    if re.fullmatch(r"\d+", expected):
        return value == int(expected).to_bytes(4, "big")
    return value == bytes(int(part) for part in expected.split("."))


def typed_fits(packet: Packet, kind: int, expected: str) -> bool:
    """The same through our typed readers."""
    if expected == "none":
        return packet.text(kind) is None and packet.integer(kind) is None
    if expected.startswith('"'):
        return packet.text(kind) == expected.strip('"')
    if expected.startswith("0x"):
        return packet.first[kind] == bytes.fromhex(expected[2:])
    if re.fullmatch(r"\d+", expected):
        return packet.integer(kind) == int(expected)
    return packet.address(kind) == expected


def test_the_vector_files_are_found() -> None:
    assert {path.stem for path in FILES} >= {
        "packets-bad",
        "packets-coova",
        "packets-generic",
        "packets-mikrotik",
        "packets-uspot",
        "packets-rfc2865",
        "packets-rfc2866",
        "packets-rfc5997",
    }
    assert all(vector.verdict and vector.secret and vector.datagram for vector in ALL)


@each_vector
def test_our_verdict_is_the_written_one(vector: Vector) -> None:
    assert our_verdict(vector) == vector.verdict


@each_vector
def test_pyrad_agrees_or_the_vector_says_why_not(vector: Vector) -> None:
    assert pyrad_verdict(vector) == (vector.pyrad or vector.verdict)
    assert vector.pyrad != vector.verdict, "the line 'pyrad' states no difference"


@each_vector
def test_values_read_as_written(vector: Vector) -> None:
    if vector.verdict == "malformed":
        with pytest.raises(PacketError):
            parse(vector.datagram)
        return
    packet = parse(vector.datagram)
    for kind, expected in vector.values:
        assert typed_fits(packet, kind, expected), f"attribute {kind} is not {expected}"
    for vendor, kind, expected in vector.vendors:
        assert octets_fit(packet.vendor(vendor, kind), expected), f"{vendor}/{kind}: {expected}"


@each_vector
def test_attributes_are_those_pyrad_reads(vector: Vector) -> None:
    if "malformed" in (vector.verdict, vector.pyrad):
        return
    ours = parse(vector.datagram)
    oracle = pyrad_packet(vector.datagram, vector.secret)
    kinds = {kind for kind in oracle if isinstance(kind, int) and kind != 26}
    assert {kind for kind in ours.first if kind != 26} == kinds
    for kind in kinds:
        assert ours.all(kind) == list(dict.__getitem__(oracle, kind)), f"attribute {kind}"
        assert ours.first[kind] == ours.all(kind)[0]


@each_vector
def test_passwords_read_as_written_and_as_pyrad_reads_them(vector: Vector) -> None:
    if vector.password is None:
        return
    packet = parse(vector.datagram)
    oracle = pyrad_packet(vector.datagram, vector.secret)
    if vector.password == "none":
        assert decrypt_password(packet, vector.secret) is None
        assert not verify_chap(packet, b"")
        return
    password = vector.password.encode()
    if USER_PASSWORD in packet.first:
        assert decrypt_password(packet, vector.secret) == password
        assert oracle.PwDecrypt(packet.first[USER_PASSWORD]).encode() == password
    else:
        assert CHAP_PASSWORD in packet.first
        assert verify_chap(packet, password)
        assert not verify_chap(packet, password + b"x")

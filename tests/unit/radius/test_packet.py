"""The codec by itself: what the vectors and the checklist leave open, and its properties."""

import hashlib
import hmac

import pyrad.packet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyrad.dictionary import Dictionary

from radius.packet import (
    ACCESS_ACCEPT,
    ACCESS_REQUEST,
    ACCOUNTING_REQUEST,
    CLASS,
    COA_REQUEST,
    DISCONNECT_ACK,
    DISCONNECT_NAK,
    DISCONNECT_REQUEST,
    ERROR_CAUSE,
    NAS_IDENTIFIER,
    REPLY_MESSAGE,
    SESSION_TIMEOUT,
    STATUS_SERVER,
    USER_NAME,
    MessageAuthenticator,
    Packet,
    PacketError,
    attribute,
    build_reply,
    decrypt_password,
    integer_attribute,
    message_authenticator_state,
    parse,
    sign_request,
    text_attribute,
    vendor_attribute,
    verify_accounting,
    verify_chap,
    verify_response,
)
from radius.password import hide, is_noise, reveal

SECRET = b"pantai-secret-0123456789"
AUTHENTICATOR = bytes(range(16))

secrets = st.binary(min_size=1, max_size=80)
attributes = st.lists(
    st.tuples(
        st.integers(0, 255).filter(lambda kind: kind != 80), st.binary(min_size=1, max_size=60)
    ),
    max_size=20,
)


def encoded(pairs: list[tuple[int, bytes]]) -> bytes:
    return b"".join(attribute(kind, value) for kind, value in pairs)


def request(body: bytes = b"", code: int = ACCESS_REQUEST) -> Packet:
    return parse(sign_request(code, 7, body, SECRET, authenticator=AUTHENTICATOR))


@given(pairs=attributes, padding=st.binary(max_size=10))
def test_what_is_encoded_reads_back_in_order(
    pairs: list[tuple[int, bytes]], padding: bytes
) -> None:
    datagram = sign_request(1, 7, encoded(pairs), SECRET, authenticator=AUTHENTICATOR)
    packet = parse(datagram + padding)
    assert packet.raw == datagram
    assert (packet.code, packet.identifier, packet.authenticator) == (1, 7, AUTHENTICATOR)
    for kind in {kind for kind, _value in pairs}:
        values = [value for other, value in pairs if other == kind]
        assert packet.all(kind) == values
        assert packet.first[kind] == values[0]
    assert packet.first.keys() == {kind for kind, _value in pairs}


@given(datagram=st.binary(max_size=200))
def test_any_datagram_reads_or_is_refused(datagram: bytes) -> None:
    try:
        packet = parse(datagram)
    except PacketError as error:
        assert str(error)
        return
    assert len(packet.raw) == int.from_bytes(datagram[2:4], "big") <= len(datagram)


@given(body=st.binary(max_size=60))
def test_any_attributes_read_through_every_reader_without_an_exception(body: bytes) -> None:
    header = bytes((1, 7, 0, 20 + len(body)))
    try:
        packet = parse(header + AUTHENTICATOR + body)
    except PacketError:
        return
    for kind in range(256):
        packet.text(kind)
        packet.integer(kind)
        packet.address(kind)
        packet.ipv6_address(kind)
        packet.ipv6_prefix(kind)
        packet.interface_id(kind)
        packet.vendor(14559, kind)
        assert packet.all(kind)[:1] == [v for k, v in packet.first.items() if k == kind]
    assert message_authenticator_state(packet, SECRET) is not MessageAuthenticator.valid
    decrypt_password(packet, SECRET)
    assert not verify_chap(packet, b"x")
    assert not verify_accounting(packet, SECRET)


@given(value=st.binary(max_size=60))
def test_any_vendor_value_is_read_whole_or_ignored_whole(value: bytes) -> None:
    if value:
        packet = request(attribute(26, value))
        vendor = int.from_bytes(value[:4], "big")
        found = {
            kind: inner for kind in range(256) if (inner := packet.vendor(vendor, kind)) is not None
        }
        assert sum(len(inner) + 2 for inner in found.values()) <= max(0, len(value) - 4)


@given(secret=secrets, pairs=attributes)
def test_signatures_fit_their_own_secret_only_and_pyrad_agrees(
    secret: bytes, pairs: list[tuple[int, bytes]]
) -> None:
    body = encoded(pairs)
    for code in (ACCESS_REQUEST, STATUS_SERVER):
        datagram = sign_request(
            code, 7, body, secret, authenticator=AUTHENTICATOR, message_authenticator=True
        )
        packet = parse(datagram)
        assert message_authenticator_state(packet, secret) is MessageAuthenticator.valid
        assert message_authenticator_state(packet, secret + b"x") is MessageAuthenticator.wrong
        blank = datagram[:22] + bytes(16) + datagram[38:]
        assert datagram[22:38] == hmac.new(secret, blank, "md5").digest()
    for code in (ACCOUNTING_REQUEST, DISCONNECT_REQUEST, COA_REQUEST):
        datagram = sign_request(code, 7, body, secret, message_authenticator=True)
        packet = parse(datagram)
        assert verify_accounting(packet, secret)
        assert not verify_accounting(packet, secret + b"x")
        assert message_authenticator_state(packet, secret) is MessageAuthenticator.valid
        assert message_authenticator_state(packet, secret + b"x") is MessageAuthenticator.wrong
        kind = pyrad.packet.AcctPacket if code == 4 else pyrad.packet.CoAPacket
        oracle = kind(packet=datagram, secret=secret, dict=Dictionary())
        assert oracle.verify_message_authenticator()
        assert oracle.VerifyAcctRequest() if code == 4 else oracle.VerifyCoARequest()


def test_a_flipped_bit_anywhere_breaks_the_message_authenticator() -> None:
    body = attribute(USER_NAME, b"A017-23") + attribute(NAS_IDENTIFIER, b"warung-ap")
    datagram = sign_request(
        1, 7, body, SECRET, authenticator=AUTHENTICATOR, message_authenticator=True
    )
    for at in range(len(datagram)):
        for bit in range(8):
            changed = bytearray(datagram)
            changed[at] ^= 1 << bit
            try:
                packet = parse(bytes(changed))
            except PacketError:
                continue
            assert message_authenticator_state(packet, SECRET) is not MessageAuthenticator.valid


@given(password=st.binary(max_size=128), secret=secrets)
def test_passwords_survive_hiding_and_pyrad_hides_them_alike(
    password: bytes, secret: bytes
) -> None:
    hidden = hide(password, AUTHENTICATOR, secret)
    assert reveal(hidden, AUTHENTICATOR, secret) == password.rstrip(b"\0")
    if password:
        oracle = pyrad.packet.AuthPacket(
            secret=secret, authenticator=AUTHENTICATOR, dict=Dictionary()
        )
        assert oracle.PwCrypt(password) == hidden


def test_hiding_refuses_more_than_128_octets() -> None:
    with pytest.raises(ValueError, match="129 octets, expected at most 128"):
        hide(bytes(129), AUTHENTICATOR, SECRET)


def test_a_password_revealed_with_a_wrong_secret_looks_like_noise() -> None:
    hidden = hide(b"rahasia-pantai", AUTHENTICATOR, SECRET)
    wrong = reveal(hidden, AUTHENTICATOR, b"another secret")
    assert wrong is not None
    assert is_noise(wrong)
    assert not is_noise(b"rahasia-pantai")
    assert not is_noise("kunci ☀".encode())


def test_readers_return_none_for_what_is_not_there() -> None:
    packet = request()
    assert packet.all(1) == []
    assert packet.text(1) is None
    assert packet.integer(27) is None
    assert packet.address(4) is None
    assert packet.ipv6_address(95) is None
    assert packet.ipv6_prefix(97) is None
    assert packet.interface_id(96) is None
    assert packet.vendor(14559, 1) is None
    assert decrypt_password(packet, SECRET) is None
    assert not verify_chap(packet, b"")


def test_errors_say_where_what_and_how_much_was_expected() -> None:
    head = AUTHENTICATOR + attribute(USER_NAME, b"nemo")
    for datagram, sentence in (
        (b"\x01" * 5, "5 octets received, a RADIUS packet has at least 20"),
        (b"\x01\x07\x00\x40" + head, "Length field says 64 octets, only 26 received"),
        (b"\x01\x07\x00\x05" + head, "Length field says 5 octets, expected 20 to 4096"),
        (
            b"\x01\x07\x00\x1e" + head + b"\x12\x32ab",
            "attribute 18 at octet 26 has length 50, only 4 octets are left",
        ),
        (
            b"\x01\x07\x00\x1e" + head + b"\x12\x01ab",
            "attribute 18 at octet 26 has length 1, expected at least 2",
        ),
        (
            b"\x01\x07\x00\x1b" + head + b"\x12",
            "one octet is left at octet 26, an attribute has at least 2",
        ),
    ):
        with pytest.raises(PacketError) as caught:
            parse(datagram)
        assert str(caught.value) == sentence


def test_the_repr_of_a_packet_shows_no_value() -> None:
    packet = request(attribute(USER_NAME, b"482917305515"))
    assert "482917305515" not in repr(packet)
    assert "code=1" in repr(packet)


def test_attributes_of_impossible_size_are_refused_before_they_are_sent() -> None:
    with pytest.raises(ValueError, match="attribute 25: value has 254 octets"):
        attribute(CLASS, bytes(254))
    with pytest.raises(ValueError, match="attribute 25: value has 0 octets"):
        attribute(CLASS, b"")
    with pytest.raises(ValueError, match="vendor 14559 attribute 3: value has 248 octets"):
        vendor_attribute(14559, 3, bytes(248))
    with pytest.raises(ValueError, match="attribute 27: -1 does not fit"):
        integer_attribute(SESSION_TIMEOUT, -1)
    with pytest.raises(ValueError, match="4294967296 does not fit"):
        integer_attribute(SESSION_TIMEOUT, 2**32)
    with pytest.raises(ValueError, match="value has 0 octets"):
        text_attribute(REPLY_MESSAGE, "")
    assert integer_attribute(SESSION_TIMEOUT, 2**32 - 1) == b"\x1b\x06\xff\xff\xff\xff"
    assert len(vendor_attribute(14559, 3, bytes(247))) == 255
    assert len(attribute(CLASS, bytes(253))) == 255


@given(pairs=attributes, secret=secrets, is_proxied=st.booleans())
def test_replies_are_what_pyrad_accepts(
    pairs: list[tuple[int, bytes]], secret: bytes, is_proxied: bool
) -> None:
    pairs = [(kind, value) for kind, value in pairs if kind != 33]
    proxy = attribute(33, b"a") + attribute(33, b"b") if is_proxied else b""
    for code, answer in ((ACCESS_REQUEST, 2), (ACCESS_REQUEST, 3), (STATUS_SERVER, 2)):
        asked = sign_request(code, 9, proxy, secret, authenticator=AUTHENTICATOR)
        reply = build_reply(parse(asked), answer, encoded(pairs), secret)
        oracle = pyrad.packet.AuthPacket(packet=asked, secret=secret, dict=Dictionary())
        read = pyrad.packet.AuthPacket(packet=reply, secret=secret, dict=Dictionary())
        assert oracle.VerifyReply(read, reply, enforce_ma=True)
        assert reply[20] == 80
        assert parse(reply).all(33) == ([b"a", b"b"] if is_proxied else [])
    asked = sign_request(ACCOUNTING_REQUEST, 9, proxy, secret)
    reply = build_reply(parse(asked), 5, encoded(pairs), secret)
    oracle = pyrad.packet.AcctPacket(packet=asked, secret=secret, dict=Dictionary())
    read = pyrad.packet.AcctPacket(packet=reply, secret=secret, dict=Dictionary())
    assert oracle.VerifyReply(read, reply)
    assert 80 not in parse(reply).first


def test_a_reply_over_4096_octets_is_refused() -> None:
    body = b"".join(attribute(CLASS, bytes(253)) for _ in range(16))
    assert len(build_reply(request(), ACCESS_ACCEPT, body[:4058], SECRET)) == 4096
    with pytest.raises(ValueError, match="reply would have 4097 octets"):
        build_reply(request(), ACCESS_ACCEPT, body[:4059], SECRET)


def test_sign_request_demands_the_authenticator_that_suits_the_code() -> None:
    with pytest.raises(ValueError, match="code 1 needs an authenticator of 16 random octets"):
        sign_request(ACCESS_REQUEST, 1, b"", SECRET)
    with pytest.raises(ValueError, match="seen 5"):
        sign_request(ACCESS_REQUEST, 1, b"", SECRET, authenticator=b"short")
    with pytest.raises(ValueError, match="code 40 computes its authenticator"):
        sign_request(DISCONNECT_REQUEST, 1, b"", SECRET, authenticator=AUTHENTICATOR)
    with pytest.raises(ValueError, match="request would have 4097 octets"):
        sign_request(DISCONNECT_REQUEST, 1, bytes(4077), SECRET)


def answer_to(
    asked: bytes, code: int, body: bytes, secret: bytes = SECRET, *, is_signed: bool
) -> bytes:
    """A gateway's answer, signed with hashlib and hmac."""
    length = 20 + len(body) + (18 if is_signed else 0)
    head = bytes((code, asked[1])) + length.to_bytes(2, "big") + asked[4:20]
    if is_signed:
        blank = head + body + b"\x50\x12" + bytes(16)
        body += b"\x50\x12" + hmac.new(secret, blank, "md5").digest()
    return head[:4] + hashlib.md5(head + body + secret).digest() + body


@pytest.mark.parametrize("is_signed", [False, True])
def test_answers_to_a_disconnect_are_verified(is_signed: bool) -> None:
    asked = sign_request(DISCONNECT_REQUEST, 9, attribute(USER_NAME, b"A017-23"), SECRET)
    ack = answer_to(asked, DISCONNECT_ACK, b"", is_signed=is_signed)
    assert verify_response(asked[4:20], ack, SECRET).code == DISCONNECT_ACK
    nak = answer_to(asked, DISCONNECT_NAK, integer_attribute(ERROR_CAUSE, 503), is_signed=is_signed)
    assert verify_response(asked[4:20], nak, SECRET).integer(ERROR_CAUSE) == 503
    with pytest.raises(PacketError, match="Response Authenticator does not fit"):
        verify_response(asked[4:20], ack, b"another secret")
    with pytest.raises(PacketError, match="Response Authenticator does not fit"):
        verify_response(AUTHENTICATOR, ack, SECRET)
    with pytest.raises(PacketError, match="20 octets|left|received"):
        verify_response(asked[4:20], ack[:19], SECRET)


def test_a_disconnect_answer_without_message_authenticator_can_be_refused() -> None:
    asked = sign_request(DISCONNECT_REQUEST, 9, b"", SECRET)
    ack = answer_to(asked, DISCONNECT_ACK, b"", is_signed=False)
    with pytest.raises(PacketError, match="no Message-Authenticator"):
        verify_response(asked[4:20], ack, SECRET, require_message_authenticator=True)

"""The RADIUS checklist A1 to A4 (packets, duplicates, logins, signatures), item by item, as far as
the server and the codec are responsible; the rest is in test_conformance_services.py.

Each test bears the number of its item. The server listens on real UDP sockets; a missing answer is
proved by a later packet that was answered (`rig.Rig.ask`).
"""

import hashlib
import os
import struct

import pyrad.packet
import pytest
from pyrad.dictionary import Dictionary

from radius.packet import (
    ACCESS_ACCEPT,
    ACCESS_REJECT,
    CHAP_CHALLENGE,
    CHAP_PASSWORD,
    CLASS,
    EAP_MESSAGE,
    FRAMED_INTERFACE_ID,
    FRAMED_IPV6_PREFIX,
    MESSAGE_AUTHENTICATOR,
    NAS_IP_ADDRESS,
    NAS_IPV6_ADDRESS,
    PROXY_STATE,
    REPLY_MESSAGE,
    SESSION_TIMEOUT,
    USER_NAME,
    USER_PASSWORD,
    PacketError,
    attribute,
    build_reply,
    decrypt_password,
    integer_attribute,
    parse,
    sign_request,
    text_attribute,
    vendor_attribute,
    verify_chap,
    verify_response,
)
from radius.password import hide
from tests.unit.radius.rig import (
    SECRET,
    START,
    Rig,
    access_request,
    accounting_request,
    begins_with_right_message_authenticator,
    gateway,
    nas_identifier,
    raw_packet,
    reply_fits,
    signed_packet,
    status_server,
)

WISPR = 14122
PROXY_STATES = attribute(PROXY_STATE, b"\x01") + attribute(PROXY_STATE, b"\x02\x00")


def chap_request(attributes: bytes, authenticator: bytes) -> bytes:
    body = attribute(USER_NAME, b"A017-23") + attributes
    return signed_packet(1, 1, authenticator, body, SECRET)


# A1 Packet reception


def test_item_01_unknown_source_gets_no_answer_and_is_counted() -> None:
    with Rig() as rig:
        assert rig.ask(access_request(), source="127.0.0.2") == []
        assert rig.ask(accounting_request(), source="127.0.0.2", is_acct=True) == []
        assert rig.stats["unknown_client"] == 2
        assert rig.desk.seen == []


def test_item_02_secret_follows_the_source_address_not_a_forged_nas_address() -> None:
    other = gateway("127.0.0.3/32", number=2, name="masjid", secret=b"another-secret-987654321")
    with Rig(gateway(nas_id="warung"), other) as rig:
        forged = attribute(NAS_IP_ADDRESS, bytes((127, 0, 0, 3))) + nas_identifier("masjid")
        request = access_request(attributes=forged)
        [reply] = rig.ask(request)
        assert reply_fits(request, reply)
        assert rig.desk.seen[0].client.name == "warung"
        assert rig.ask(access_request(2, forged, secret=other.secret)) == []


def test_item_02_gateways_behind_one_address_are_told_apart_by_nas_identifier() -> None:
    first = gateway("127.0.0.0/24", number=1, name="utara", nas_id="ap-utara")
    second = gateway("127.0.0.0/24", number=2, name="selatan", nas_id="ap-selatan")
    with Rig(first, second) as rig:
        rig.ask(access_request(1, nas_identifier("ap-selatan")))
        rig.ask(access_request(2, nas_identifier("ap-utara"), is_signed=False), source="127.0.0.2")
        rig.ask(accounting_request(3, START + nas_identifier("ap-utara")), is_acct=True)
        assert [exchange.client.id for exchange in rig.desk.seen] == [2, 1, 1]
        assert rig.ask(access_request(4, nas_identifier("ap-timur"))) == []
        assert rig.ask(access_request(5)) == []
        assert rig.ask(accounting_request(6, START), is_acct=True) == []
        assert rig.stats["unknown_nas_identifier"] == 3


def test_item_02_a_single_gateway_takes_any_nas_identifier() -> None:
    with Rig(gateway(nas_id="ap-utara")) as rig:
        assert len(rig.ask(access_request(1, nas_identifier("replaced-router")))) == 1
        assert len(rig.ask(access_request(2))) == 1


@pytest.mark.parametrize(
    "datagram",
    [
        pytest.param(access_request()[:19], id="19 octets"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\x01\x01\x10\x01" + bytes(4093), id="Length 4097"),
        pytest.param(access_request()[:-1], id="Length larger than received"),
        pytest.param(b"\x01\x01\x00\x13" + bytes(16), id="Length 19"),
    ],
)
def test_item_03_wrong_lengths_are_dropped(datagram: bytes) -> None:
    with Rig() as rig:
        assert rig.ask(datagram) == []
        assert rig.stats["malformed"] == 1


def test_item_03_octets_after_the_end_are_padding_and_not_hashed() -> None:
    with Rig() as rig:
        request = access_request()
        [reply] = rig.ask(request + b"padding")
        assert reply_fits(request, reply)
        record = accounting_request(attributes=START)
        [reply] = rig.ask(record + b"padding", is_acct=True)
        assert reply_fits(record, reply)
        assert rig.desk.seen[0].packet.raw == request


@pytest.mark.parametrize("last", ["1232616263", "0100", "0101", "010400", "01"])
def test_item_04_attributes_of_impossible_length_are_dropped_and_counted(last: str) -> None:
    with Rig(gateway(policy="no")) as rig:
        broken = raw_packet(1, 1, os.urandom(16), attribute(1, b"nemo") + bytes.fromhex(last))
        assert rig.ask(broken) == []
        assert rig.stats["malformed"] == 1


def test_item_05_odd_values_read_as_absent_and_never_break_the_server() -> None:
    odd = (
        b"\x00\x03A"
        + b"\x1f\x02"
        + attribute(SESSION_TIMEOUT, b"\0\0\1")
        + attribute(NAS_IP_ADDRESS, bytes(5))
        + attribute(NAS_IPV6_ADDRESS, bytes(15))
        + attribute(FRAMED_IPV6_PREFIX, b"\0")
        + attribute(FRAMED_INTERFACE_ID, bytes(7))
        + attribute(REPLY_MESSAGE, b"\xff")
    )
    with Rig() as rig:
        assert len(rig.ask(access_request(attributes=odd))) == 1
        packet = rig.desk.seen[0].packet
        assert packet.text(31) is None
        assert packet.integer(SESSION_TIMEOUT) is None
        assert packet.address(NAS_IP_ADDRESS) is None
        assert packet.ipv6_address(NAS_IPV6_ADDRESS) is None
        assert packet.ipv6_prefix(FRAMED_IPV6_PREFIX) is None
        assert packet.interface_id(FRAMED_INTERFACE_ID) is None
        assert packet.text(REPLY_MESSAGE) is None


def test_item_06_codes_that_are_not_for_the_port_are_dropped() -> None:
    with Rig() as rig:
        for code in (0, 2, 3, 4, 5, 11, 13, 40, 43, 255):
            assert rig.ask(accounting_request(code, START, code=code)) == []
            assert rig.ask(signed_packet(code, code, os.urandom(16), b"", SECRET)) == []
        for code in (0, 1, 2, 3, 5, 11, 13, 40, 41, 42, 43, 255):
            assert rig.ask(accounting_request(code, START, code=code), is_acct=True) == []
        assert rig.ask(access_request(), is_acct=True) == []
        assert rig.stats["wrong_code"] == 33
        assert rig.desk.seen == []


def test_item_07_a_reply_over_4096_octets_is_never_sent(caplog: pytest.LogCaptureFixture) -> None:
    long = b"".join(attribute(CLASS, bytes(253)) for _ in range(16))
    with Rig() as rig:
        rig.desk.on_access = lambda exchange: exchange.answer(ACCESS_ACCEPT, long[: 4096 - 38])
        [reply] = rig.ask(access_request(1))
        assert len(reply) == 4096
        assert rig.stats["large_reply"] == 1
        rig.desk.on_access = lambda exchange: exchange.answer(ACCESS_ACCEPT, long)
        assert rig.ask(access_request(2)) == []
        assert rig.stats["reply_too_large"] == 1
        request = access_request(3)
        rig.ask(request, request)
        assert len(rig.desk.seen) == 4, "it was not tried anew"
    assert "expected at most 4096" in caplog.text


@pytest.mark.parametrize("is_acct", [False, True])
def test_item_08_the_answer_leaves_from_the_address_that_was_asked(is_acct: bool) -> None:
    with Rig(gateway("127.0.0.0/24"), auth="0.0.0.0:0", acct="0.0.0.0:0") as rig:
        for number, asked in enumerate(("127.0.0.1", "127.0.0.77", "127.0.0.78")):
            request = accounting_request(number, START) if is_acct else access_request(number)
            [(reply, sender)] = rig.ask_from(request, source="127.0.0.5", to=asked, is_acct=is_acct)
            assert sender == asked
            assert reply_fits(request, reply)
            assert rig.desk.seen[-1].local_address == asked


# A2 Duplicates


def test_item_09_a_retransmission_gets_identical_octets_and_no_second_decision() -> None:
    with Rig() as rig:
        counter = iter(range(10))
        rig.desk.on_access = lambda exchange: exchange.answer(
            ACCESS_ACCEPT, integer_attribute(SESSION_TIMEOUT, 60 + next(counter))
        )
        request = access_request()
        first, second = rig.ask(request, request)
        [third] = rig.ask(request)
        assert first == second == third
        assert len(rig.desk.seen) == 1
        assert rig.stats["duplicate"] == 2


def test_item_09_accounting_retransmissions_too() -> None:
    with Rig() as rig:
        record = accounting_request(7, START)
        assert len(set(rig.ask(record, record, is_acct=True))) == 1
        assert len(rig.desk.seen) == 1


def test_item_09_a_retransmission_during_the_work_is_dropped() -> None:
    with Rig() as rig:
        rig.desk.on_access = lambda exchange: None
        request = access_request()
        assert rig.ask(request, request) == []
        assert rig.ask(request) == []
        assert len(rig.desk.seen) == 1
        assert rig.stats["duplicate_in_progress"] == 2
        rig.desk.seen[0].answer(ACCESS_ACCEPT)
        [(reply, _sender)] = rig.received()
        assert reply_fits(request, reply)
        assert rig.ask(request) == [reply]


def test_item_09_port_socket_and_code_are_part_of_the_key() -> None:
    with Rig(gateway("127.0.0.0/24")) as rig:
        request = access_request()
        assert len(rig.ask(request)) == 1
        assert len(rig.ask(request, source="127.0.0.1#2")) == 1
        assert len(rig.ask(request, source="127.0.0.4")) == 1
        assert len(rig.desk.seen) == 3
        assert rig.stats["duplicate"] == 0


def test_item_10_the_same_identifier_with_another_authenticator_is_a_new_request() -> None:
    with Rig() as rig:
        old, new = access_request(9), access_request(9)
        assert len(rig.ask(old)) == 1
        [reply] = rig.ask(new)
        assert reply_fits(new, reply)
        assert len(rig.desk.seen) == 2
        assert len(rig.ask(old)) == 1
        assert len(rig.desk.seen) == 3


def test_item_10_a_wrong_message_authenticator_never_touches_the_cache() -> None:
    with Rig() as rig:
        request = access_request(9)
        forged = access_request(9, secret=b"guess")
        same_authenticator = bytearray(request)
        same_authenticator[25] ^= 1
        [reply] = rig.ask(request)
        assert rig.ask(forged) == []
        assert rig.ask(bytes(same_authenticator)) == []
        assert rig.ask(request) == [reply]
        assert len(rig.desk.seen) == 1


def test_item_10_a_forged_packet_does_not_block_the_real_one() -> None:
    with Rig() as rig:
        request = access_request(9)
        forged = bytearray(request)
        forged[-1] ^= 1
        replies = rig.ask(bytes(forged), request)
        assert len(replies) == 1
        assert reply_fits(request, replies[0])


def test_item_11_entries_last_30_seconds() -> None:
    with Rig() as rig:
        request = access_request()
        rig.ask(request)
        rig.now_s += 29.9
        rig.ask(request)
        assert len(rig.desk.seen) == 1
        rig.now_s += 0.2
        rig.ask(request)
        assert len(rig.desk.seen) == 2


def test_item_11_a_flood_from_one_gateway_does_not_evict_another() -> None:
    with Rig(gateway("127.0.0.0/24")) as rig:
        quiet = access_request()
        [reply] = rig.ask(quiet, source="127.0.0.9")
        for start in range(0, 5120, 128):
            numbers = range(start, start + 128)
            batch = [access_request(number % 256, is_signed=False) for number in numbers]
            rig.ask(*batch, source=f"127.0.0.1#{start // 256}")
        assert len(rig.desk.seen) == 5121
        assert rig.ask(quiet, source="127.0.0.9") == [reply]
        assert len(rig.desk.seen) == 5121


# A3 Access-Request


@pytest.mark.parametrize(
    "password",
    [
        b"p",
        b"p" * 15,
        b"p" * 16,
        b"p" * 17,
        b"p" * 32,
        b"p" * 128,
        "pantai ☀".encode(),
        b"\xff\xfe1",
    ],
)
def test_item_13_pap_passwords_of_any_length_arrive_octet_by_octet(password: bytes) -> None:
    authenticator = os.urandom(16)
    oracle = pyrad.packet.AuthPacket(
        secret=SECRET, authenticator=authenticator, dict=Dictionary()
    ).PwCrypt(password)
    assert hide(password, authenticator, SECRET) == oracle
    with Rig() as rig:
        body = attribute(USER_PASSWORD, oracle)
        rig.ask(signed_packet(1, 1, authenticator, body, SECRET))
        packet = rig.desk.seen[0].packet
        assert decrypt_password(packet, rig.desk.seen[0].client.secret) == password


@pytest.mark.parametrize("size", [0, 1, 15, 17, 24, 129, 144])
def test_item_13_impossible_password_sizes_read_as_no_password(size: int) -> None:
    body = bytes((USER_PASSWORD, size + 2)) + bytes(size)
    packet = parse(raw_packet(1, 1, os.urandom(16), body))
    assert decrypt_password(packet, SECRET) is None


def test_item_14_chap_with_a_challenge_of_any_length_and_without() -> None:
    authenticator = os.urandom(16)
    for challenge in (bytes(range(16)), b"1234567", bytes(64)):
        value = b"\x07" + hashlib.md5(b"\x07" + b"rahasia" + challenge).digest()
        body = attribute(CHAP_CHALLENGE, challenge) + attribute(CHAP_PASSWORD, value)
        packet = parse(chap_request(body, authenticator))
        assert verify_chap(packet, b"rahasia")
        assert not verify_chap(packet, b"Rahasia")
    value = b"\x07" + hashlib.md5(b"\x07" + b"rahasia" + authenticator).digest()
    assert verify_chap(
        parse(chap_request(attribute(CHAP_PASSWORD, value), authenticator)), b"rahasia"
    )


@pytest.mark.parametrize("size", [1, 16, 18])
def test_item_14_chap_passwords_of_another_size_never_fit(size: int) -> None:
    packet = parse(chap_request(attribute(CHAP_PASSWORD, bytes(size)), os.urandom(16)))
    assert not verify_chap(packet, b"")


def test_item_15_pap_and_chap_together_are_rejected() -> None:
    with Rig() as rig:
        request = access_request(attributes=attribute(CHAP_PASSWORD, bytes(17)))
        [reply] = rig.ask(request)
        assert reply[0] == ACCESS_REJECT
        assert reply_fits(request, reply)
        assert rig.desk.seen == []


def test_item_18_reply_messages_are_short_plain_ascii() -> None:
    built = text_attribute(REPLY_MESSAGE, "Kuota habis\0 – kembali besok" + "!" * 300)
    assert len(built) == 255
    assert built[2:].startswith(b"Kuota habis? ? kembali besok!!!")


def test_item_21_proxy_states_come_back_in_order_in_every_reply() -> None:
    with Rig() as rig:
        rig.desk.on_access = lambda exchange: exchange.answer(
            exchange.packet.identifier, text_attribute(REPLY_MESSAGE, "ya")
        )
        for code in (ACCESS_ACCEPT, ACCESS_REJECT):
            spread = PROXY_STATES[:3] + nas_identifier("x") + PROXY_STATES[3:]
            request = access_request(code, spread)
            [reply] = rig.ask(request)
            assert reply[0] == code
            assert reply_fits(request, reply)
            assert parse(reply).all(PROXY_STATE) == [b"\x01", b"\x02\x00"]
        record = accounting_request(3, START + PROXY_STATES)
        [reply] = rig.ask(record, is_acct=True)
        assert reply[20:] == PROXY_STATES
        status = signed_packet(12, 4, os.urandom(16), PROXY_STATES, SECRET)
        [reply] = rig.ask(status)
        assert reply[38:] == PROXY_STATES


def test_item_21_an_empty_proxy_state_comes_back_empty() -> None:
    with Rig() as rig:
        [reply] = rig.ask(accounting_request(3, START + b"\x21\x02"), is_acct=True)
        assert reply[20:] == b"\x21\x02"


def test_item_22_vendor_attributes_several_in_one_unknown_and_malformed() -> None:
    two = struct.pack("!I", WISPR) + b"\x07\x06\0\0\1\0\x08\x06\0\0\2\0"
    body = (
        attribute(26, two)
        + vendor_attribute(99999, 1, b"unknown")
        + attribute(26, struct.pack("!I", 14559) + b"\x03\x06\0\0\0\1\x04\x09")
        + attribute(26, b"\0\0\1")
        + vendor_attribute(14559, 4, b"later")
        + vendor_attribute(WISPR, 7, b"second value")
    )
    with Rig() as rig:
        assert len(rig.ask(access_request(attributes=body))) == 1
        packet = rig.desk.seen[0].packet
        assert packet.vendor(WISPR, 7) == b"\0\0\1\0"
        assert packet.vendor(WISPR, 8) == b"\0\0\2\0"
        assert packet.vendor(99999, 1) == b"unknown"
        assert packet.vendor(14559, 3) is None
        assert packet.vendor(14559, 4) == b"later"


# A4 Message-Authenticator


def test_item_25_a_wrong_message_authenticator_is_dropped_under_every_policy() -> None:
    for policy in ("no", "auto", "yes"):
        with Rig(gateway(policy=policy)) as rig:
            assert rig.ask(access_request(secret=b"wrong")) == []
            assert rig.stats["wrong_message_authenticator"] == 1
            assert rig.desk.seen == []


@pytest.mark.parametrize("octets", [b"\x50\x02", b"\x50\x11" + bytes(15), b"\x50\x13" + bytes(17)])
def test_item_25_a_message_authenticator_of_another_length_is_dropped(octets: bytes) -> None:
    with Rig(gateway(policy="no")) as rig:
        assert rig.ask(access_request(attributes=octets, is_signed=False)) == []
        assert rig.stats["wrong_message_authenticator"] == 1


def test_item_25_two_message_authenticators_are_dropped() -> None:
    with Rig(gateway(policy="no")) as rig:
        inner = attribute(MESSAGE_AUTHENTICATOR, bytes(16))
        assert rig.ask(access_request(attributes=inner)) == []
        assert rig.stats["wrong_message_authenticator"] == 1


def test_item_25_eap_without_message_authenticator_is_dropped() -> None:
    with Rig(gateway(policy="no")) as rig:
        eap = attribute(EAP_MESSAGE, b"\x02\x05\x00\x06\x01x")
        assert rig.ask(access_request(attributes=eap, password=None, is_signed=False)) == []
        assert rig.stats["missing_message_authenticator"] == 1


@pytest.mark.parametrize("is_signed", [False, True])
@pytest.mark.parametrize("code", [ACCESS_ACCEPT, ACCESS_REJECT])
def test_item_26_every_access_reply_begins_with_message_authenticator(
    code: int, is_signed: bool
) -> None:
    with Rig(gateway(policy="no")) as rig:
        rig.desk.on_access = lambda exchange: exchange.answer(
            code, text_attribute(REPLY_MESSAGE, "ya")
        )
        request = access_request(attributes=PROXY_STATES, is_signed=is_signed)
        [reply] = rig.ask(request)
        assert begins_with_right_message_authenticator(request, reply)
        oracle = pyrad.packet.AuthPacket(packet=request, secret=SECRET, dict=Dictionary())
        answer = pyrad.packet.AuthPacket(packet=reply, secret=SECRET, dict=Dictionary())
        assert oracle.VerifyReply(answer, reply, enforce_ma=True)


def test_item_27_auto_takes_unsigned_requests_until_it_has_seen_a_signed_one() -> None:
    with Rig(gateway("127.0.0.0/24")) as rig:
        assert len(rig.ask(access_request(1, is_signed=False))) == 1
        assert rig.learned == []
        assert len(rig.ask(access_request(2))) == 1
        assert len(rig.ask(access_request(3))) == 1
        assert rig.learned == ["127.0.0.1"]
        assert rig.ask(access_request(4, is_signed=False)) == []
        assert rig.stats["missing_message_authenticator"] == 1
        # learned for one address, not for the whole network
        assert len(rig.ask(access_request(5, is_signed=False), source="127.0.0.2")) == 1


def test_item_27_what_was_learned_survives_a_restart_and_a_change_of_gateways() -> None:
    with Rig(learned=["127.0.0.1"]) as rig:
        assert rig.ask(access_request(1, is_signed=False)) == []
        assert len(rig.ask(access_request(2))) == 1
        rig.replace_clients(gateway(name="renamed", secret=b"a-new-secret-0123456789"))
        assert rig.ask(access_request(3, is_signed=False)) == []
        assert rig.learned == []


def test_item_27_a_forged_request_teaches_nothing() -> None:
    with Rig() as rig:
        rig.ask(access_request(1, secret=b"wrong"))
        rig.ask(status_server(2))
        rig.ask(accounting_request(3, START), is_acct=True)
        assert rig.learned == []
        assert len(rig.ask(access_request(4, is_signed=False))) == 1


def test_item_27_policy_yes_requires_it_and_policy_no_does_not() -> None:
    with Rig(gateway(policy="yes")) as rig:
        assert rig.ask(access_request(1, is_signed=False)) == []
        assert len(rig.ask(access_request(2))) == 1
    with Rig(gateway(policy="no")) as rig:
        assert len(rig.ask(access_request(1))) == 1
        assert len(rig.ask(access_request(2, is_signed=False))) == 1


def test_item_28_an_unsigned_proxy_state_is_dropped_unless_the_policy_is_no() -> None:
    for policy, answers in (("auto", 0), ("yes", 0), ("no", 1)):
        with Rig(gateway(policy=policy)) as rig:
            assert len(rig.ask(access_request(1, PROXY_STATES, is_signed=False))) == answers
            assert len(rig.ask(access_request(2, PROXY_STATES))) == 1
    with Rig(gateway()) as rig:
        rig.ask(access_request(1, PROXY_STATES, is_signed=False))
        assert rig.stats["unsigned_proxy_state"] == 1


def test_item_29_as_a_client_we_require_it_and_refuse_foreign_proxy_states() -> None:
    authenticator = os.urandom(16)
    request = parse(sign_request(1, 5, b"", SECRET, authenticator=authenticator))
    good = build_reply(request, ACCESS_ACCEPT, b"", SECRET)
    assert verify_response(authenticator, good, SECRET).code == ACCESS_ACCEPT
    unsigned = raw_packet(2, 5, authenticator, b"")
    unsigned = unsigned[:4] + hashlib.md5(unsigned + SECRET).digest()
    with pytest.raises(PacketError, match="no Message-Authenticator"):
        verify_response(authenticator, unsigned, SECRET)
    foreign = build_reply(request, ACCESS_ACCEPT, PROXY_STATES, SECRET)
    with pytest.raises(PacketError, match="Proxy-State"):
        verify_response(authenticator, foreign, SECRET)
    flipped = bytearray(good)
    flipped[22] ^= 1
    resigned = bytes(flipped[:4]) + authenticator + bytes(flipped[20:])
    flipped[4:20] = hashlib.md5(resigned + SECRET).digest()
    with pytest.raises(PacketError, match="Message-Authenticator does not fit"):
        verify_response(authenticator, bytes(flipped), SECRET)


def test_item_30_a_message_authenticator_in_accounting_must_fit_if_present() -> None:
    with Rig() as rig:
        good = sign_request(4, 1, START, SECRET, message_authenticator=True)
        assert pyrad.packet.AcctPacket(
            packet=good, secret=SECRET, dict=Dictionary()
        ).verify_message_authenticator()
        assert len(rig.ask(good, is_acct=True)) == 1
        bad = accounting_request(2, attribute(MESSAGE_AUTHENTICATOR, bytes(16)) + START)
        assert rig.ask(bad, is_acct=True) == []
        assert rig.stats["wrong_message_authenticator"] == 1


def test_item_31_an_empty_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="warung: the shared secret is empty"):
        gateway(secret=b"")

"""The RADIUS checklist A5, A6 and A8 (accounting, Status-Server, IPv6, MAC, WISPr, EAP), item by
item, as far as the server and the codec are responsible; A1 to A4 are in test_conformance.py.
"""

import errno
import logging
import os
import socket

import pyrad.packet
import pytest
from pyrad.dictionary import Dictionary

from radius.packet import (
    ACCESS_ACCEPT,
    ACCESS_REJECT,
    ACCOUNTING_RESPONSE,
    DELEGATED_IPV6_PREFIX,
    DNS_SERVER_IPV6_ADDRESS,
    EAP_MESSAGE,
    FRAMED_INTERFACE_ID,
    FRAMED_IPV6_ADDRESS,
    FRAMED_IPV6_PREFIX,
    NAS_IPV6_ADDRESS,
    SERVICE_TYPE,
    USER_PASSWORD,
    attribute,
    decrypt_password,
    integer_attribute,
    parse,
    vendor_attribute,
)
from radius.server import Exchange
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
    status_server,
)

WISPR = 14122


# A5 Accounting, as far as the server goes


def test_item_32_a_wrong_request_authenticator_is_dropped() -> None:
    with Rig() as rig:
        assert rig.ask(accounting_request(1, START, secret=b"wrong"), is_acct=True) == []
        zero = raw_packet(4, 2, bytes(16), START)
        assert rig.ask(zero, is_acct=True) == []
        assert rig.stats["wrong_authenticator"] == 2
        assert rig.desk.seen == []


def test_item_33_nothing_is_answered_before_the_handler_says_so() -> None:
    with Rig() as rig:
        rig.desk.on_accounting = lambda exchange: None
        record = accounting_request(1, START)
        assert rig.ask(record, is_acct=True) == []
        rig.desk.seen[0].answer(ACCOUNTING_RESPONSE)
        [(reply, _sender)] = rig.received()
        assert reply_fits(record, reply)


def test_item_33_a_failed_recording_stays_unanswered_and_is_tried_anew() -> None:
    with Rig() as rig:
        rig.desk.on_accounting = lambda exchange: exchange.drop()
        record = accounting_request(1, START)
        assert rig.ask(record, record, is_acct=True) == []
        assert len(rig.desk.seen) == 2
        rig.desk.on_accounting = lambda exchange: exchange.answer(ACCOUNTING_RESPONSE)
        assert len(rig.ask(record, is_acct=True)) == 1
        assert len(rig.desk.seen) == 3


def test_item_33_a_handler_that_fails_leaves_the_packet_unanswered_and_the_server_alive(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(exchange: Exchange) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with Rig() as rig:
        rig.desk.on_accounting = fail
        record = accounting_request(1, START)
        assert rig.ask(record, is_acct=True) == []
        assert rig.stats["handler_failed"] == 1
        assert "no space left on device" in caplog.text
        rig.desk.on_accounting = lambda exchange: exchange.answer(ACCOUNTING_RESPONSE)
        assert len(rig.ask(record, is_acct=True)) == 1


def test_item_36_forbidden_attributes_in_accounting_are_ignored_and_never_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    body = START + attribute(USER_PASSWORD, b"482917305515abcd") + attribute(18, b"hello")
    with Rig() as rig:
        assert len(rig.ask(accounting_request(1, body), is_acct=True)) == 1
        rig.ask(accounting_request(2, body, secret=b"wrong"), is_acct=True)
    assert "warung" in caplog.text
    assert "482917305515" not in caplog.text
    assert b"482917305515".hex() not in caplog.text


def test_item_42_an_accounting_response_carries_nothing_by_itself() -> None:
    with Rig() as rig:
        record = accounting_request(1, START + nas_identifier("ap"))
        [reply] = rig.ask(record, is_acct=True)
        assert len(reply) == 20
        assert reply[0] == ACCOUNTING_RESPONSE
        assert reply_fits(record, reply)


# A6 Status-Server


@pytest.mark.parametrize("is_acct", [False, True])
def test_item_45_status_server_without_a_right_message_authenticator_is_dropped(
    is_acct: bool,
) -> None:
    with Rig() as rig:
        assert rig.ask(raw_packet(12, 1, os.urandom(16), b""), is_acct=is_acct) == []
        assert rig.ask(status_server(2, secret=b"wrong"), is_acct=is_acct) == []
        assert rig.ask(status_server(3), source="127.0.0.2", is_acct=is_acct) == []
        assert rig.stats["missing_message_authenticator"] == 1
        assert rig.stats["wrong_message_authenticator"] == 1


def test_item_45_status_server_is_limited_per_source() -> None:
    with Rig(gateway("127.0.0.0/24")) as rig:
        assert len(rig.ask(*(status_server(number) for number in range(30)))) == 20
        assert rig.stats["status_limited"] == 10
        assert len(rig.ask(status_server(1), source="127.0.0.2")) == 1
        rig.now_s += 1
        assert len(rig.ask(status_server(31))) == 1


@pytest.mark.parametrize(("is_acct", "code"), [(False, ACCESS_ACCEPT), (True, ACCOUNTING_RESPONSE)])
def test_item_46_status_server_is_answered_on_both_ports_without_asking_anybody(
    is_acct: bool, code: int
) -> None:
    with Rig() as rig:
        request = status_server()
        [reply] = rig.ask(request, is_acct=is_acct)
        assert reply[0] == code
        assert len(reply) == 38
        assert reply_fits(request, reply)
        assert begins_with_right_message_authenticator(request, reply)
        assert rig.desk.seen == []


@pytest.mark.parametrize("is_acct", [False, True])
def test_item_46_status_server_is_silent_while_the_node_is_not_well(is_acct: bool) -> None:
    with Rig() as rig:
        rig.desk.is_well = False
        assert rig.ask(status_server(1), is_acct=is_acct) == []
        assert rig.stats["unhealthy"] == 1
        rig.desk.is_well = True
        assert len(rig.ask(status_server(1), is_acct=is_acct)) == 1


def test_item_46_gateways_behind_one_address_need_no_nas_identifier_for_it() -> None:
    with Rig(gateway(nas_id="a"), gateway(number=2, name="b", nas_id="b")) as rig:
        assert len(rig.ask(status_server())) == 1


# A8 IPv6, MAC authentication, WISPr, EAP


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
@pytest.mark.parametrize("listen", ["[::1]:0", "[::]:0"])
def test_item_55_gateways_are_served_over_ipv6(listen: str) -> None:
    with Rig(gateway("::1/128"), auth=listen, acct=listen) as rig:
        request = access_request()
        [(reply, sender)] = rig.ask_from(request, source="::1", to="::1", is_acct=False)
        assert reply_fits(request, reply)
        assert sender == "::1"
        record = accounting_request(1, START)
        [(reply, sender)] = rig.ask_from(record, source="::1", to="::1", is_acct=True)
        assert reply_fits(record, reply)
        assert rig.desk.seen[0].source[0] == "::1"
        assert rig.desk.seen[0].local_address == "::1"


def test_item_55_ipv6_attributes_are_read() -> None:
    address = socket.inet_pton(socket.AF_INET6, "2001:db8::1:2")
    body = (
        attribute(NAS_IPV6_ADDRESS, address)
        + attribute(FRAMED_INTERFACE_ID, bytes.fromhex("0000000a00ff1234"))
        + attribute(FRAMED_IPV6_PREFIX, b"\0\x40" + address[:8])
        + attribute(DELEGATED_IPV6_PREFIX, b"\0\x00")
        + attribute(FRAMED_IPV6_ADDRESS, address)
        + attribute(DNS_SERVER_IPV6_ADDRESS, address)
    )
    packet = parse(raw_packet(1, 1, bytes(16), body))
    assert packet.ipv6_address(NAS_IPV6_ADDRESS) == "2001:db8::1:2"
    assert packet.ipv6_address(FRAMED_IPV6_ADDRESS) == "2001:db8::1:2"
    assert packet.ipv6_address(DNS_SERVER_IPV6_ADDRESS) == "2001:db8::1:2"
    assert packet.interface_id(FRAMED_INTERFACE_ID) == "0:a:ff:1234"
    assert packet.ipv6_prefix(FRAMED_IPV6_PREFIX) == "2001:db8::/64"
    assert packet.ipv6_prefix(DELEGATED_IPV6_PREFIX) == "::/0"


@pytest.mark.parametrize("value", [b"\0", b"\0\x81", b"\0\x40" + bytes(17), b"\0\x08\x20\x01"])
def test_item_55_malformed_ipv6_prefixes_read_as_absent(value: bytes) -> None:
    packet = parse(raw_packet(1, 1, bytes(16), attribute(FRAMED_IPV6_PREFIX, value)))
    assert packet.ipv6_prefix(FRAMED_IPV6_PREFIX) is None


def test_item_56_mac_authentication_reaches_the_handler_with_or_without_a_password() -> None:
    mac = b"02-AA-BB-CC-DD-01"
    body = integer_attribute(SERVICE_TYPE, 10) + attribute(31, mac)
    with Rig() as rig:
        assert len(rig.ask(access_request(1, body, user=mac, password=mac))) == 1
        assert len(rig.ask(access_request(2, body, user=mac, password=None))) == 1
        with_password, without = (exchange.packet for exchange in rig.desk.seen)
        assert decrypt_password(with_password, SECRET) == mac
        assert decrypt_password(without, SECRET) is None
        assert without.integer(SERVICE_TYPE) == 10
        assert without.text(31) == "02-AA-BB-CC-DD-01"


def test_item_58_wispr_attributes_are_written_as_pyrad_reads_them_and_read_back() -> None:
    values = {
        1: b"isocc=id,cc=62,ac=0251,network=Pesisir",
        3: b"http://10.1.0.1:3990/logoff",
        7: (512_000).to_bytes(4, "big"),
        8: (2_000_000).to_bytes(4, "big"),
        9: b"2026-11-22T22:00:00+07:00",
    }
    body = b"".join(vendor_attribute(WISPR, kind, value) for kind, value in values.items())
    datagram = raw_packet(1, 1, bytes(16), body)
    oracle = pyrad.packet.AuthPacket(packet=datagram, secret=SECRET, dict=Dictionary())
    packet = parse(datagram)
    for kind, value in values.items():
        assert packet.vendor(WISPR, kind) == value
        assert dict.__getitem__(oracle, (WISPR, kind)) == [value]


def test_item_61_eap_gets_a_reject_with_eap_failure_at_once() -> None:
    with Rig() as rig:
        eap = attribute(EAP_MESSAGE, b"\x02\x2a\x00\x06\x01x")
        request = access_request(attributes=eap, password=None)
        [reply] = rig.ask(request)
        assert reply[0] == ACCESS_REJECT
        assert reply_fits(request, reply)
        assert begins_with_right_message_authenticator(request, reply)
        assert parse(reply).all(EAP_MESSAGE) == [b"\x04\x2a\x00\x04"]
        assert rig.desk.seen == []


def test_item_61_an_eap_message_too_short_for_an_identifier_is_rejected_as_well() -> None:
    with Rig() as rig:
        [reply] = rig.ask(access_request(attributes=b"\x4f\x02", password=None))
        assert parse(reply).all(EAP_MESSAGE) == [b"\x04\x00\x00\x04"]

import hashlib
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radius.nas import Arrival, ArrivalError, Family, uspot
from radius.packet import ACCESS_ACCEPT, IDLE_TIMEOUT, SESSION_TIMEOUT, parse
from tests.unit.radius.nas_vectors import Vector, check, limits_of, read

FAMILY: Family = uspot
CHALLENGE = bytes.fromhex("62b89439f6341320c3e67eac2f986dd3")


def arrival(**changes: str) -> Arrival:
    query = {
        "res": "notyet",
        "uamip": "10.20.0.1",
        "uamport": "3990",
        "challenge": CHALLENGE.hex().upper(),
    }
    found = uspot.read_arrival(query | changes)
    assert found is not None
    return found


@pytest.mark.parametrize("vector", read("uspot"), ids=lambda vector: vector.title)
def test_vector(vector: Vector) -> None:
    check(FAMILY, vector)


def test_hand_off_refuses_what_the_gateway_would_cut() -> None:
    with pytest.raises(ArrivalError, match="17 octets, uspot takes 16"):
        uspot.hand_off_url(arrival(), "A017-23", "0123456789abcdefg", "secret", "")
    with pytest.raises(ArrivalError, match="253 octets"):
        uspot.hand_off_url(arrival(), "a" * 254, "pw", None, "")
    with pytest.raises(ArrivalError, match="no challenge"):
        uspot.hand_off_url(arrival(challenge=""), "A017-23", "pw", "secret", "")


@given(st.text(max_size=16), st.text(min_size=1, max_size=20))
def test_the_gateway_reads_back_the_password(password: str, secret: str) -> None:
    if len(password.encode()) > 16 or "\0" in password:
        return
    location = uspot.hand_off_url(arrival(), "A017-23", password, secret, "")
    hidden = bytes.fromhex(parse_qs(urlsplit(location).query)["password"][0])
    key = hashlib.md5(CHALLENGE + secret.encode()).digest()
    # uam.c: MIN(length, 16) octets, then a C string.
    plain = bytes(a ^ b for a, b in zip(hidden[:16], key, strict=True)).split(b"\0")[0]
    assert plain == password.encode()


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
def test_the_return_address_survives_one_decoding_and_a_redirect(url: str) -> None:
    location = uspot.hand_off_url(arrival(), "A017-23", "pw", "secret", url)
    redir = next(
        chunk.removeprefix("redir=")
        for chunk in urlsplit(location).query.split("&")
        if chunk.startswith("redir=")
    )
    # portal.uc decodes %XX once and writes the text as it is into its next redirect.
    userurl = unquote(redir)
    assert "&" not in userurl and "#" not in userurl
    again = uspot.read_arrival(
        {"res": "success", "uamip": "10.20.0.1", "uamport": "3990", "userurl": unquote(userurl)}
    )
    assert again is not None and again.return_url == url[:2000]


def test_addresses_of_the_gateway() -> None:
    base = "http://10.20.0.1:3990"
    assert uspot.login_start_url(base, None) == "http://10.20.0.1/hotspot/"
    assert uspot.login_start_url(base, "http://192.168.10.2/v/1") == (
        "http://10.20.0.1/hotspot/?redir=http%253A%252F%252F192.168.10.2%252Fv%252F1"
    )
    assert uspot.login_start_url("http://[fd00::1]:3990", None) == "http://[fd00::1]/hotspot/"
    assert uspot.logoff_url(base) == "http://10.20.0.1:3990/logoff"
    assert uspot.status_url(base) is None
    assert uspot.form_action(arrival()) == base


def test_an_idle_time_is_always_told_and_never_zero() -> None:
    for idle_s in (None, 60):
        encoded = uspot.accept_attributes(limits_of(idle_timeout_s=idle_s))
        header = bytes((ACCESS_ACCEPT, 1)) + (20 + len(encoded)).to_bytes(2, "big") + bytes(16)
        packet = parse(header + encoded)
        assert packet.integer(IDLE_TIMEOUT) == (idle_s or 86_400)
        assert packet.integer(SESSION_TIMEOUT) == 3600


@given(st.lists(st.text(max_size=30), max_size=3), st.text(max_size=60), st.text(max_size=20))
def test_checking_a_signature_never_raises(urls: list[str], query: str, secret: str) -> None:
    assert uspot.is_signed(urls, query, secret) is False
    assert uspot.is_signed(urls, f"{query}&md={'0' * 32}", secret) is False


def test_an_ssid_that_is_not_utf_8_can_be_signed() -> None:
    raw = b"http://10.20.0.2/?res=notyet&ssid=D\xe9sa kunci"
    md = hashlib.md5(raw[:-6] + b"kunci").hexdigest()
    query = f"res=notyet&ssid=D%E9sa&md={md}"
    assert uspot.is_signed(["http://10.20.0.2/"], query, "kunci")

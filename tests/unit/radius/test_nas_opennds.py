import base64
from dataclasses import replace
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radius.nas import Arrival, ArrivalError, Family, opennds, private_host
from radius.packet import ACCESS_ACCEPT, Packet, parse
from tests.unit.radius.nas_vectors import Vector, check, limits_of, read

FAMILY: Family = opennds
HID = "93821a01c0f1d2e3b4a5968778695a4b3c2d1e0ff0e1d2c3b4a5968778699923"


def arrival(**changes: str) -> Arrival:
    fields = {"hid": HID, "gatewayaddress": "10.10.0.1:2050"} | changes
    found = opennds.read_arrival({"fas": fas(fields)})
    assert found is not None
    return found


def fas(fields: dict[str, str]) -> str:
    text = ", ".join(f"{name}={value}" for name, value in fields.items())
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("vector", read("opennds"), ids=lambda vector: vector.title)
def test_vector(vector: Vector) -> None:
    check(FAMILY, vector)


def test_a_query_without_fas_is_not_ours() -> None:
    assert opennds.read_arrival({}) is None
    assert opennds.read_arrival({"fas": ""}) is None
    # A phone that is online and opens an old hand-off again.
    assert opennds.read_arrival({"tok": "0" * 64, "status": "authenticated"}) is None


def test_a_hand_off_needs_a_hid_and_the_portal() -> None:
    with pytest.raises(ArrivalError, match="address of the portal"):
        opennds.hand_off_url(arrival(), "A017-23", "pw", "kunci", "")
    with pytest.raises(ArrivalError, match="no hid"):
        opennds.hand_off_url(
            replace(arrival(), challenge=None), "A017-23", "pw", None, "http://10.1.0.2/connected"
        )


def test_the_faskey_goes_nowhere() -> None:
    given = (arrival(), "A017-23", "pw")
    back = "http://192.168.10.2/connected"
    with_key = opennds.hand_off_url(*given, "kunci-fas-balai-desa-0001", back)
    assert with_key == opennds.hand_off_url(*given, None, back)


@given(
    st.text(alphabet="ABCDEFGHJKMNPQRSTVWXYZ0123456789-", min_size=1, max_size=12),
    st.text(min_size=1, max_size=40),
)
def test_name_and_password_come_back_whole(serial: str, password: str) -> None:
    back = "http://192.168.10.2:8080/connected?k=abc.def&lang=en"
    location = opennds.hand_off_url(arrival(), serial, password, None, back)
    assert urlsplit(location).path == opennds.ENTER_PATH
    assert parse_qs(urlsplit(location).query, keep_blank_values=True) == {
        "hid": [HID],
        "user": [serial],
        "password": [password],
        "next": [back],
    }


@pytest.mark.parametrize("mac", ["02aabbccdd01", None])
@pytest.mark.parametrize("nas_id", ["balai-desa", "Balai Desa, pos 1", None])
def test_a_redirect_written_by_the_portal_is_read_again(
    mac: str | None, nas_id: str | None
) -> None:
    text = opennds.write_fas(HID, mac, nas_id, "http://10.10.0.1:2050")
    found = opennds.read_arrival({"fas": text, "res": "failed", "reason": "reject"})
    assert found is not None
    assert (found.mac, found.nas_id, found.login_base) == (mac, nas_id, "http://10.10.0.1:2050")
    assert (found.state, found.reason) == ("failed", "reject")
    with pytest.raises(ArrivalError, match="expected 64 hexadecimal digits"):
        opennds.write_fas("x, gatewayaddress=203.0.113.9:80", mac, nas_id, "http://10.10.0.1:2050")


def test_addresses_of_the_gateway() -> None:
    base = "http://10.10.0.1:2050"
    assert opennds.login_start_url(base, None) == f"{base}/login"
    back = "http://192.168.10.2/v/1?a=b&c=d"
    start = opennds.login_start_url(base, back)
    assert start == f"{base}/login?userurl=http%3A%2F%2F192.168.10.2%2Fv%2F1%3Fa%3Db%26c%3Dd"
    # 9.10 decodes the query, drops the path, and encodes the whole.
    again = arrival(originurl=quote(f"{base}/?userurl={back}", safe=""))
    assert again.return_url == back
    assert opennds.logoff_url(base) is None
    assert opennds.status_url(base) is None
    assert opennds.form_action(arrival()) == base


@given(
    st.integers(1, 2**32 - 1),
    st.integers(60, 3600),
    st.none() | st.integers(1, 2**32 - 1),
    st.none() | st.integers(1, 2**64 - 1),
    st.none() | st.integers(1, 4_000_000),
    st.none() | st.integers(1, 4_000_000),
)
def test_limits_come_back_whole(
    session_s: int,
    interim_s: int,
    idle_s: int | None,
    octets: int | None,
    down: int | None,
    up: int | None,
) -> None:
    limits = limits_of(session_s, interim_s, idle_s, octets, down, up)
    assert opennds.limits_of(accept(opennds.accept_attributes(limits))) == limits


def accept(encoded: bytes) -> Packet:
    header = bytes((ACCESS_ACCEPT, 1)) + (20 + len(encoded)).to_bytes(2, "big") + bytes(16)
    return parse(header + encoded)


def test_an_accept_of_something_else_has_no_limits() -> None:
    with pytest.raises(ValueError, match="without Session-Timeout"):
        opennds.limits_of(accept(b""))


@given(st.binary(max_size=300), st.dictionaries(st.text(max_size=5), st.text(max_size=9)))
def test_no_fas_leads_out_of_the_private_networks(inside: bytes, more: dict[str, str]) -> None:
    texts = [inside, f"hid={HID}, gatewayaddress=".encode() + inside]
    for text in texts:
        try:
            found = opennds.read_arrival({**more, "fas": base64.b64encode(text).decode()})
        except ArrivalError:
            continue
        if found is not None:
            private_host("host", urlsplit(found.login_base).hostname or "", False)

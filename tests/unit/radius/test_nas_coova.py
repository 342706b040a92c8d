import hashlib
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radius.nas import Arrival, ArrivalError, Family, coova, family, private_host
from tests.unit.radius.nas_vectors import Vector, check, read

FAMILY: Family = coova
CHALLENGE = bytes.fromhex("62b89439f6341320c3e67eac2f986dd3")


def arrival(**changes: str | None) -> Arrival:
    query = {
        "res": "notyet",
        "uamip": "10.10.0.1",
        "uamport": "3990",
        "challenge": CHALLENGE.hex(),
    }
    for name, value in changes.items():
        if value is None:
            del query[name]
        else:
            query[name] = value
    found = coova.read_arrival(query)
    assert found is not None
    return found


@pytest.mark.parametrize("vector", read("coova"), ids=lambda vector: vector.title)
def test_vector(vector: Vector) -> None:
    check(FAMILY, vector)


@pytest.mark.parametrize("missing", ["res", "uamip", "uamport"])
def test_a_query_without_a_uam_parameter_is_not_ours(missing: str) -> None:
    query = {"res": "notyet", "uamip": "10.10.0.1", "uamport": "3990", "mac": "02-AA-BB-CC-DD-01"}
    del query[missing]
    assert coova.read_arrival(query) is None


def test_hand_off_without_challenge_says_so() -> None:
    online = arrival(res="already", challenge=None)
    with pytest.raises(ArrivalError, match="no challenge"):
        coova.hand_off_url(online, "A017-23", "pw", "secret", "")


def test_hand_off_refuses_what_the_gateway_would_cut() -> None:
    with pytest.raises(ArrivalError, match="253 octets"):
        coova.hand_off_url(arrival(), "a" * 254, "pw", None, "")
    with pytest.raises(ArrivalError, match="129 octets"):
        coova.hand_off_url(arrival(), "a", "p" * 129, None, "")


def test_hand_off_has_no_plus_for_a_space() -> None:
    location = coova.hand_off_url(arrival(), "ünï x&y=1+2", "p", None, "http://10.20.0.2/a b?c=d")
    assert location.endswith("&userurl=http%3A%2F%2F10.20.0.2%2Fa%20b%3Fc%3Dd")
    assert "username=%C3%BCn%C3%AF%20x%26y%3D1%2B2&" in location


@given(st.text(max_size=32), st.one_of(st.none(), st.text(min_size=1, max_size=20)))
def test_the_gateway_reads_back_the_password(password: str, uam_secret: str | None) -> None:
    location = coova.hand_off_url(arrival(), "A017-23", password, uam_secret, "")
    hidden = bytes.fromhex(parse_qs(urlsplit(location).query)["password"][0])
    key = hashlib.md5(CHALLENGE + uam_secret.encode()).digest() if uam_secret else CHALLENGE
    plain = bytes(a ^ b for a, b in zip(hidden, key * 8, strict=False))
    assert len(hidden) in (16, 32, 48, 64, 80, 96, 112, 128)
    assert plain.rstrip(b"\0") == password.encode().rstrip(b"\0")


@pytest.mark.parametrize(
    ("base", "start", "start_with_url"),
    [
        (
            "http://10.1.0.1:3990",
            "http://10.1.0.1:3990/prelogin",
            "http://10.1.0.1:3990/prelogin?userurl=http%3A%2F%2F10.1.0.2%2Fv%2F482917305515",
        )
    ],
)
def test_addresses_of_the_gateway(base: str, start: str, start_with_url: str) -> None:
    assert coova.login_start_url(base, None) == start
    assert coova.login_start_url(base, "http://10.1.0.2/v/482917305515") == start_with_url
    assert coova.logoff_url(base) == "http://10.1.0.1:3990/logoff"
    assert coova.status_url(base) == "http://10.1.0.1:3990/status"
    assert coova.form_action(arrival(uamip="10.1.0.1")) == "http://10.1.0.1:3990"


URL = "http://10.1.0.2/"
SIGNED = "res=notyet&mac=02-AA-BB-CC-DD-01"


def md(text: str, secret: str) -> str:
    return hashlib.md5((text + secret).encode()).hexdigest().upper()


@pytest.mark.parametrize(
    ("query", "secret"),
    [
        (SIGNED, "s3cret"),
        (SIGNED + "&md=", "s3cret"),
        (SIGNED + "&md=" + "0" * 32, "s3cret"),
        (SIGNED + "&md=" + "é" * 32, "s3cret"),
        (SIGNED + "&md=" + md(f"{URL}?{SIGNED}", "other"), "s3cret"),
        (SIGNED + "&md=" + md(f"{URL}?{SIGNED}", ""), ""),
        ("md=" + md(URL, "s3cret"), "s3cret"),
        ("\udcff&md=" + "0" * 32, "s3cret"),
    ],
)
def test_what_does_not_fit_is_unsigned(query: str, secret: str) -> None:
    assert coova.is_signed([URL], query, secret) is False


def test_a_fitting_md_is_found_among_several_addresses() -> None:
    query = f"{SIGNED}&md={md(f'{URL}?{SIGNED}', 's3cret')}"
    assert coova.is_signed(["http://wifi.example/", URL], query, "s3cret")
    assert not coova.is_signed(["http://wifi.example/"], query, "s3cret")
    assert not coova.is_signed([], query, "s3cret")


def test_texts_are_cut_and_cleaned() -> None:
    found = arrival(reply="a\x00b\r\nc" + "x" * 400, userurl="u" * 3000, sessionid=" \t ")
    assert found.reply is not None and found.reply.startswith("abcxxx") and len(found.reply) <= 253
    assert found.return_url == "u" * 2000
    assert found.session_id is None


texts = st.text(max_size=40)
parameters = st.dictionaries(
    st.sampled_from(
        "res uamip uamport challenge mac ip nasid sessionid userurl reply reason timeleft uid "
        "login link-login-only err orig".split()
    ),
    st.one_of(
        texts,
        st.sampled_from(["10.1.0.1", "fd00::1", "3990", "notyet", "failed", "127.0.0.1"]),
        st.sampled_from(["http://10.1.0.1/login", "http://1.1.1.1/login", "http://[::1"]),
        st.ip_addresses().map(str),
    ),
)


@given(parameters, st.sampled_from(["coova", "mikrotik", "uspot"]))
def test_no_query_leads_out_of_the_private_networks(query: dict[str, str], name: str) -> None:
    try:
        found = family(name).read_arrival(query)
    except ArrivalError:
        return
    if found is not None:
        assert family(name).form_action(found) in found.login_base
        private_host("host", urlsplit(found.login_base).hostname or "", False)
        assert found.mac is None or (len(found.mac) == 12 and found.mac == found.mac.lower())


@given(st.lists(texts, max_size=3), texts, texts)
def test_checking_a_signature_never_raises(urls: list[str], query: str, secret: str) -> None:
    assert coova.is_signed(urls, query, secret) is False

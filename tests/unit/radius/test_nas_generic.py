import base64
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

import radius.nas
from radius.nas import (
    ArrivalError,
    Family,
    canonical_mac,
    coova,
    family,
    family_names,
    generic,
    read_arrival,
)
from radius.packet import MESSAGE_AUTHENTICATOR, attribute
from tests.unit.radius.nas_vectors import Vector, check, limits_of, read

FAMILY: Family = generic


@pytest.mark.parametrize("vector", read("generic"), ids=lambda vector: vector.title)
def test_vector(vector: Vector) -> None:
    check(FAMILY, vector)


def test_it_has_no_pages_of_ours() -> None:
    arrival = coova.read_arrival({"res": "notyet", "uamip": "10.1.0.1", "uamport": "3990"})
    assert arrival is not None
    assert generic.read_arrival({"mac": "AA:BB:CC:DD:EE:FF"}) is None
    assert generic.is_signed(["http://10.1.0.2/"], "a=b&md=" + "0" * 32, "s3cret") is False
    assert generic.login_start_url("http://10.1.0.1", None) is None
    assert generic.logoff_url("http://10.1.0.1") is None
    assert generic.status_url("http://10.1.0.1") is None
    with pytest.raises(ArrivalError, match="own login page"):
        generic.hand_off_url(arrival, "A017-23", "pw", None, "")
    with pytest.raises(ArrivalError, match="own login page"):
        generic.form_action(arrival)


# What holds for every family


@pytest.mark.parametrize("name", family_names())
def test_every_family_can_be_used(name: str) -> None:
    make = family(name)
    assert make.LABEL
    assert (1 <= make.DISCONNECT_PORT <= 65535) if make.USES_RADIUS else make.DISCONNECT_PORT == 0
    assert make.accept_attributes(limits_of()).startswith(b"\x1b\x06\x00\x00\x0e\x10")
    assert make.read_arrival({}) is None
    keys = radius.nas.SessionKeys("A017-23", "80a00012", None, None, None, None)
    kinds = [kind for kind, _ in make.disconnect_attributes(keys)]
    assert kinds[0] == 1 and 44 in kinds and MESSAGE_AUTHENTICATOR not in kinds


@pytest.mark.parametrize("name", family_names())
def test_a_family_changes_only_what_it_says(name: str) -> None:
    make = family(name)
    keys = radius.nas.SessionKeys("A017-23", "80a00012", "10.5.50.254", None, None, None)
    limits = limits_of(7200, 300, 900, 5_000_000_000, 2000, 512)
    attributes = make.coa_attributes(keys, limits)
    assert make.COA in ("none", "limits")
    assert make.COA_CHANGES <= {"time", "data", "rate"}
    assert bool(attributes) is (make.COA == "limits") is bool(make.COA_CHANGES)
    if attributes:
        named = make.disconnect_attributes(keys)
        assert attributes[: len(named)] == named
        told = attributes[len(named) :]
        assert ("time" in make.COA_CHANGES) is ((27, (7200).to_bytes(4, "big")) in told)
        changed = make.coa_attributes(keys, limits_of(7200, 300, 900, 6_000_000_000, 2000, 512))
        assert (changed != attributes) is ("data" in make.COA_CHANGES)
        changed = make.coa_attributes(keys, limits_of(7200, 300, 900, 5_000_000_000, 128, 512))
        assert (changed != attributes) is ("rate" in make.COA_CHANGES)
        assert not {MESSAGE_AUTHENTICATOR, 55} & {kind for kind, _ in attributes}


@pytest.mark.parametrize("name", family_names())
def test_a_family_without_octets_limits_no_data(name: str) -> None:
    make = family(name)
    assert make.SENDS_OCTETS or not make.LIMITS_DATA
    assert make.SENDS_OCTETS or "data" not in make.COA_CHANGES


@pytest.mark.parametrize("name", family_names())
def test_a_family_limits_data_only_if_it_says_so(name: str) -> None:
    make = family(name)
    with_data = make.accept_attributes(limits_of(octets=1000))
    assert (with_data != make.accept_attributes(limits_of())) is make.LIMITS_DATA


def test_the_families_we_know() -> None:
    assert family_names() == ("coova", "generic", "mikrotik", "opennds", "uspot")


def test_an_unknown_family_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="'cisco', expected one of coova, generic, mikrotik, op"):
        family("cisco")
    with pytest.raises(ValueError, match="unknown gateway family"):
        family("../packet")


def test_an_arrival_is_found_whatever_its_family() -> None:
    uam = {"res": "notyet", "uamip": "10.1.0.1", "uamport": "3990", "mac": "02-AA-BB-CC-DD-01"}
    page = {"mac": "AA:BB:CC:DD:EE:FF", "login": "http://10.5.50.1/login"}
    fas = base64.b64encode(f"hid={'0' * 64}, gatewayaddress=10.10.0.1:2050".encode()).decode()
    for query, name in ((uam, "coova"), (page, "mikrotik"), ({"fas": fas}, "opennds")):
        arrival = read_arrival(query)
        assert arrival is not None and arrival.family == name
    assert read_arrival({"page": "1"}) is None
    with pytest.raises(ArrivalError):
        read_arrival(page | {"login": "http://evil.example/login"})


@pytest.mark.parametrize(
    ("text", "mac"),
    [
        ("AA-BB-CC-DD-EE-FF", "aabbccddeeff"),
        ("aa:bb:cc:dd:ee:ff", "aabbccddeeff"),
        ("aabb.ccdd.eeff", "aabbccddeeff"),
        ("AABBCC-DDEEFF", "aabbccddeeff"),
        ("aabbccddeeff", "aabbccddeeff"),
        ("AA BB CC DD EE FF", "aabbccddeeff"),
        (None, None),
        ("", None),
        ("A017-23", None),
        ("aabbccddeef", None),
        ("aabbccddeeff0", None),
        ("aabbccddeefg", None),
        ("+abbccddeeff", None),
        ("aa-bb-cc-dd-ee-ff:desa", None),
        ("\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19\uff10\uff11\uff12", None),
    ],
)
def test_canonical_mac(text: str | None, mac: str | None) -> None:
    assert canonical_mac(text) == mac


# How the families write a phone's MAC: CoovaChilli and uspot, RouterOS with each of its
# radius-mac-format, openNDS, access points with a comma-free mix.
SPELLINGS = (
    lambda pairs: "-".join(pairs).upper(),
    lambda pairs: ":".join(pairs),
    lambda pairs: ":".join(pairs).upper(),
    lambda pairs: "-".join(pairs),
    lambda pairs: "".join(pairs),
    lambda pairs: "".join(pairs).upper(),
    lambda pairs: f"{''.join(pairs[:3])}-{''.join(pairs[3:])}".upper(),
    lambda pairs: f"{''.join(pairs[:3])}:{''.join(pairs[3:])}",
    lambda pairs: ".".join(pairs[at] + pairs[at + 1] for at in (0, 2, 4)),
    lambda pairs: "-".join(pairs[at] + pairs[at + 1] for at in (0, 2, 4)).upper(),
    lambda pairs: " ".join(pairs),
)


@given(st.binary(min_size=6, max_size=6), st.sampled_from(SPELLINGS))
def test_every_spelling_of_a_mac_is_one(octets: bytes, spell: Callable[[list[str]], str]) -> None:
    assert canonical_mac(spell([f"{octet:02x}" for octet in octets])) == octets.hex()


@given(st.text(max_size=20))
def test_what_is_called_a_mac_is_twelve_digits(text: str) -> None:
    mac = canonical_mac(text)
    assert mac is None or (len(mac) == 12 and set(mac) <= set("0123456789abcdef"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("octets", 0),
        ("octets", -1),
        ("octets", 2**64),
        ("session_timeout_s", 0),
        ("session_timeout_s", 2**32),
        ("idle_timeout_s", 0),
        ("rate_down_kbps", 0),
        ("rate_up_kbps", -5),
        ("interim_s", 0),
    ],
)
def test_a_limit_that_would_mean_no_limit_is_refused(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{field}={value}.* expected each to be at least 1"):
        limits_of(**{field: value})


def test_reply_attributes_of_the_largest_grant_stay_small() -> None:
    for name in family_names():
        encoded = family(name).accept_attributes(
            limits_of(2**32 - 1, 3600, 2**32 - 1, 2**64 - 1, 2**32 - 1, 2**32 - 1)
        )
        assert len(encoded) + len(attribute(25, bytes(64))) < 400

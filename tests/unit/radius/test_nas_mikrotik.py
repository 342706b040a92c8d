import pytest

from radius.nas import Arrival, Family, mikrotik
from tests.unit.radius.nas_vectors import Vector, check, limits_of, read

FAMILY: Family = mikrotik


def arrival(**changes: str) -> Arrival:
    query = {"mac": "AA:BB:CC:DD:EE:FF", "login": "http://10.5.50.1/login"} | changes
    found = mikrotik.read_arrival(query)
    assert found is not None
    return found


@pytest.mark.parametrize("vector", read("mikrotik"), ids=lambda vector: vector.title)
def test_vector(vector: Vector) -> None:
    check(FAMILY, vector)


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"mac": "AA:BB:CC:DD:EE:FF"},
        {"mac": "AA:BB:CC:DD:EE:FF", "login": ""},
        {"login": "http://10.5.50.1/login"},
        {"mac": "$(mac-esc)", "login": "$(link-login-only-esc)"},
        {"res": "notyet", "uamip": "10.1.0.1", "uamport": "3990", "mac": "AA-BB-CC-DD-EE-FF"},
    ],
)
def test_a_query_without_mac_or_login_is_not_ours(query: dict[str, str]) -> None:
    assert mikrotik.read_arrival(query) is None


def test_addresses_of_the_gateway() -> None:
    base = arrival(login="http://10.5.50.1:8080/login?dst=x").login_base
    assert base == "http://10.5.50.1:8080/login"
    assert mikrotik.login_start_url(base, None) == base
    assert (
        mikrotik.login_start_url(base, "http://192.168.88.10/v/482917305515")
        == "http://10.5.50.1:8080/login?dst=http%3A%2F%2F192.168.88.10%2Fv%2F482917305515"
    )
    assert mikrotik.logoff_url(base) == "http://10.5.50.1:8080/logout"
    assert mikrotik.status_url(base) == "http://10.5.50.1:8080/status"
    assert mikrotik.form_action(arrival()) == "http://10.5.50.1"


def test_hand_off_has_no_plus_for_a_space() -> None:
    location = mikrotik.hand_off_url(arrival(), "A 1", "p w", "unused", "http://10.1.0.2/a b")
    assert location == (
        "http://10.5.50.1/login?username=A%201&password=p%20w&dst=http%3A%2F%2F10.1.0.2%2Fa%20b"
    )


def test_the_router_is_never_told_a_data_limit_of_zero() -> None:
    for octets in (1, 2**32 - 1, 2**32, 2**32 + 1, 2**33, 2**63):
        encoded = mikrotik.accept_attributes(limits_of(octets=octets))
        low, high = encoded[-16:-12], encoded[-4:]
        told = int.from_bytes(high, "big") * 2**32 + int.from_bytes(low, "big")
        assert low != bytes(4)
        assert octets - 1 <= told <= octets

"""Certificates: what phones think of them, and whether they may be told of the API."""

from pathlib import Path

import pytest

from portal import certificates
from portal.certificates import Fault, announcement, is_announced, standing, trusted_until
from tests.unit.certificates import DAY_S, HOST, Authority, make_key, put

NOW_AT = 1_795_233_600
URL = f"https://{HOST}"


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The one authority this machine knows."""
    found = Authority()
    (tmp_path / "authorities.pem").write_bytes(b"# ours\n" + found.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authorities.pem"))
    return found


def test_a_certificate_phones_trust(authority: Authority) -> None:
    until_at = NOW_AT + 60 * DAY_S
    found = standing(authority.issue(until_at=until_at).chain, HOST, NOW_AT)
    assert found == certificates.Standing(until_at, (HOST,), None)
    wild = authority.issue("desa.example", "*.desa.example", until_at=until_at)
    assert standing(wild.chain, HOST, NOW_AT).fault is None


@pytest.mark.parametrize(
    ("names", "from_days", "until_days", "fault"),
    [
        (("kantor.desa.example",), -10, 60, Fault.OTHER_NAME),
        (("*.example",), -10, 60, Fault.OTHER_NAME),
        ((HOST,), -90, -1, Fault.ENDED),
        ((HOST,), -90, 0, Fault.ENDED),
        ((HOST,), 1, 60, Fault.NOT_YET),
    ],
)
def test_a_certificate_phones_do_not_trust(
    authority: Authority, names: tuple[str, ...], from_days: int, until_days: int, fault: Fault
) -> None:
    made = authority.issue(
        *names, from_at=NOW_AT + from_days * DAY_S, until_at=NOW_AT + until_days * DAY_S
    )
    found = standing(made.chain, HOST, NOW_AT)
    assert found.fault is fault
    assert certificates.sentence(found, HOST)


def test_a_strangers_certificate_is_not_trusted(authority: Authority) -> None:
    made = Authority().issue(until_at=NOW_AT + 60 * DAY_S)
    assert standing(made.chain, HOST, NOW_AT).fault is Fault.UNKNOWN_ISSUER


def test_a_chain_without_its_middle_is_not_trusted(authority: Authority) -> None:
    made = Authority("Antara", authority).issue(until_at=NOW_AT + 60 * DAY_S)
    assert standing(made.chain, HOST, NOW_AT).fault is None
    leaf = made.chain[: made.chain.index(b"-----END") + 26]
    assert standing(leaf, HOST, NOW_AT).fault is Fault.UNKNOWN_ISSUER
    # Cut off in the middle of the second one.
    assert standing(made.chain[:-200], HOST, NOW_AT).fault is Fault.UNKNOWN_ISSUER


def test_what_is_no_certificate(authority: Authority) -> None:
    for text in (b"", b"words", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        assert standing(text, HOST, NOW_AT) == certificates.Standing(None, (), Fault.UNREADABLE)


def test_without_authorities_nothing_can_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Authority().issue(until_at=NOW_AT + 60 * DAY_S)
    (tmp_path / "none.pem").write_bytes(b"")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    assert standing(made.chain, HOST, NOW_AT).fault is Fault.NO_AUTHORITIES


def test_a_new_authority_counts_without_a_restart(authority: Authority, tmp_path: Path) -> None:
    other = Authority("Baru")
    made = other.issue(until_at=NOW_AT + 60 * DAY_S)
    assert standing(made.chain, HOST, NOW_AT).fault is Fault.UNKNOWN_ISSUER
    damaged = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    (tmp_path / "authorities.pem").write_bytes(authority.pem + damaged + other.pem)
    assert standing(made.chain, HOST, NOW_AT).fault is None


def test_without_a_name_only_the_time_counts(authority: Authority) -> None:
    made = Authority().issue("meja.desa.example", until_at=NOW_AT + DAY_S)
    assert standing(made.chain, None, NOW_AT).fault is None
    assert standing(made.chain, None, NOW_AT + DAY_S).fault is Fault.ENDED


# --- what DHCP option 114 may say


def test_the_api_is_announced_until_seven_days_before_the_end(
    authority: Authority, tmp_path: Path
) -> None:
    until_at = NOW_AT + 30 * DAY_S
    put(tmp_path, authority.issue(until_at=until_at))
    file = tmp_path / "cert.pem"
    for at, is_told in (
        (NOW_AT, True),
        (until_at - 7 * DAY_S, True),
        (until_at - 7 * DAY_S + 1, False),
        (until_at, False),
        (until_at + 365 * DAY_S, False),
    ):
        assert is_announced(file, HOST, at) is is_told
        found = announcement(URL, file, at)
        assert found.uri == (f"{URL}/captive-portal/api" if is_told else None)
        assert bool(found.why) is not is_told
    assert trusted_until(file, HOST, NOW_AT) == until_at
    assert trusted_until(file, "kantor.desa.example", NOW_AT) is None
    assert trusted_until(None, HOST, NOW_AT) is trusted_until(file, None, NOW_AT) is None


@pytest.mark.parametrize(
    "url", [None, "", f"http://{HOST}", "https://10.1.0.2", "https://[fd00::2]:443"]
)
def test_no_announcement_without_a_name_and_https(
    authority: Authority, tmp_path: Path, url: str | None
) -> None:
    put(tmp_path, authority.issue(until_at=NOW_AT + 60 * DAY_S))
    assert announcement(url, tmp_path / "cert.pem", NOW_AT).uri is None


def test_no_announcement_of_what_phones_do_not_trust(authority: Authority, tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    assert announcement(URL, None, NOW_AT).uri is None
    assert "cannot be read" in announcement(URL, file, NOW_AT).why
    put(tmp_path, Authority().issue(until_at=NOW_AT + 60 * DAY_S, key=make_key("rsa")))
    assert "authority" in announcement(URL, file, NOW_AT).why
    put(tmp_path, authority.issue("kantor.desa.example", until_at=NOW_AT + 60 * DAY_S))
    assert "kantor.desa.example" in announcement(URL, file, NOW_AT).why


def test_an_address_too_long_for_the_option_is_not_announced(
    authority: Authority, tmp_path: Path
) -> None:
    host = ".".join(["d" * 60] * 4)[:250].rstrip(".")
    put(tmp_path, authority.issue(host, until_at=NOW_AT + 60 * DAY_S))
    found = announcement(f"https://{host}", tmp_path / "cert.pem", NOW_AT)
    assert found.uri is None and "255" in found.why

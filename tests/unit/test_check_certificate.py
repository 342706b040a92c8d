"""What `pesisir check` says of the certificate and of DHCP option 114."""

import time
from pathlib import Path
from typing import Any

import pytest

from portal import control
from portal.cli import check
from portal.errors import UserError
from tests.unit.certificates import DAY_S, HOST, Authority, put

LEVEL_1 = f"""[http]
listen = ["127.0.0.1:0", "https://127.0.0.1:0"]
url = "https://{HOST}"
tls_cert = "cert.pem"
tls_key = "key.pem"
"""
API = f"https://{HOST}/captive-portal/api"


def now_at() -> int:
    """The clock that the check reads too; a test may begin long after it was collected."""
    return int(time.time())


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    found = Authority()
    (tmp_path / "authorities.pem").write_bytes(found.pem)
    (tmp_path / "pesisir.toml").write_text(LEVEL_1)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authorities.pem"))
    return found


def found(directory: Path) -> dict[str, tuple[str, str]]:
    """Each check: (status, message), no node running."""

    def call(name: str) -> Any:
        raise UserError("no node")

    checks = check.look(directory, call)["checks"]
    return {one["name"]: (one["status"], one["message"]) for one in checks}


def test_a_good_certificate_and_what_option_114_may_be(
    tmp_path: Path, authority: Authority
) -> None:
    put(tmp_path, authority.issue(until_at=now_at() + 60 * DAY_S))
    checks = found(tmp_path)
    status, message = checks["certificate"]
    assert status == "ok" and message.startswith(f"phones trust it for {HOST} until ")
    assert checks["DHCP option 114"] == ("ok", f"may be {API}")


@pytest.mark.parametrize(
    ("left_s", "certificate", "words", "option"),
    [
        (21 * DAY_S + 600, "ok", "phones trust it", "ok"),
        (21 * DAY_S - 600, "warning", "20 days left; put a renewed one in place", "ok"),
        (7 * DAY_S + 600, "warning", "7 days left", "ok"),
        (7 * DAY_S - 600, "warning", "6 days left", "warning"),
        (DAY_S + 600, "warning", "1 day left", "warning"),
        (-600, "fail", "it ended ", "warning"),
    ],
)
def test_the_end_of_a_certificate_is_warned_of(
    tmp_path: Path,
    authority: Authority,
    left_s: int,
    certificate: str,
    words: str,
    option: str,
) -> None:
    put(tmp_path, authority.issue(until_at=now_at() + left_s))
    checks = found(tmp_path)
    assert checks["certificate"][0] == certificate and words in checks["certificate"][1]
    assert checks["DHCP option 114"][0] == option
    if option == "warning":
        assert checks["DHCP option 114"][1].startswith("take it out of every gateway that has it: ")


def test_a_certificate_for_another_name_or_of_nobody(tmp_path: Path, authority: Authority) -> None:
    put(tmp_path, authority.issue("kantor.desa.example", until_at=now_at() + 60 * DAY_S))
    checks = found(tmp_path)
    assert checks["certificate"] == (
        "warning",
        f"the certificate is for kantor.desa.example and not for {HOST}",
    )
    assert "not for" in checks["DHCP option 114"][1]
    put(tmp_path, Authority().issue(until_at=now_at() + 60 * DAY_S))
    assert "authority" in found(tmp_path)["certificate"][1]


def test_a_half_written_pair_without_a_node_is_a_failure(
    tmp_path: Path, authority: Authority
) -> None:
    put(tmp_path, authority.issue(until_at=now_at() + 60 * DAY_S))
    (tmp_path / "key.pem").write_bytes(authority.issue(until_at=now_at() + 60 * DAY_S).key)
    status, message = found(tmp_path)["certificate"]
    assert status == "fail" and "do not belong together" in message


@pytest.mark.parametrize("refusal", [None, "The certificate is for x and not for y."])
def test_with_a_node_it_says_that_the_old_one_is_kept(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch, refusal: str | None
) -> None:
    put(tmp_path, authority.issue(until_at=now_at() + 60 * DAY_S))
    if refusal is None:
        (tmp_path / "key.pem").write_bytes(b"half")
    (tmp_path / "pesisir.db").touch()
    status = {
        "addresses": {"http": [], "radius": []},
        "desk": {"urls": ["x"], "warnings": []},
        "is_healthy": True,
        "is_disk_full": False,
        "is_clock_doubtful": False,
        "now_at": now_at(),
        "backhaul": {"state": "unknown", "down_since": None},
        "open_sessions": 0,
        "gateways": [],
        "certificate": {"ends_at": now_at() + 30 * DAY_S, "refusal": refusal},
        "hiding": ["pos-1"],
    }
    with control.own(tmp_path, "node"):
        checks = {
            one["name"]: (one["status"], one["message"])
            for one in check.look(tmp_path, lambda name: status)["checks"]
        }
    level, message = checks["certificate"]
    assert level == "warning" and "the node keeps the one before, which ends " in message
    assert checks["gateway pos-1"][0] == "warning"
    assert "cannot be told apart; take DHCP option 114 away" in checks["gateway pos-1"][1]


def test_at_level_0_there_is_nothing_to_say(tmp_path: Path) -> None:
    checks = found(tmp_path)
    assert "certificate" not in checks and "DHCP option 114" not in checks

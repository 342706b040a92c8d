"""The certificate in use: changed under the listeners, with a real TLS client on the other end."""

import http.client
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portal import serve
from portal.alerts import alerts
from portal.commands import execute
from portal.served_certificate import fits
from tests.unit.certificates import DAY_S, HOST, Authority, Issued, make_key, phone, put
from tests.unit.web.village import NOON_AT, Village, village

PAIR = '["127.0.0.1:0", "https://127.0.0.1:0"]'


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    found = Authority()
    (tmp_path / "authorities.pem").write_bytes(found.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authorities.pem"))
    return found


@pytest.fixture
def place(tmp_path: Path, authority: Authority) -> Iterator[Village]:
    """A village at level 1, with a certificate for 60 days."""
    put(tmp_path, authority.issue(until_at=NOON_AT + 60 * DAY_S))
    variables = {
        "PESISIR_HTTP_LISTEN": PAIR,
        "PESISIR_HTTP_URL": f"https://{HOST}",
        "PESISIR_HTTP_TLS_CERT": "cert.pem",
        "PESISIR_HTTP_TLS_KEY": "key.pem",
    }
    with village(tmp_path, variables=variables) as found:
        yield found


def connect(place: Village, context: ssl.SSLContext, name: str | None = HOST) -> ssl.SSLSocket:
    """A TLS connection; raises ssl.SSLError where the phone does not trust what it is shown."""
    address = next((host, port) for host, port, tls in place.service.http_addresses if tls)
    return context.wrap_socket(socket.create_connection(address, 5), server_hostname=name)


def end_of(place: Village, context: ssl.SSLContext) -> int:
    """When the certificate that a phone is shown ends."""
    with connect(place, context) as found:
        shown: Any = found.getpeercert()
        return int(ssl.cert_time_to_seconds(shown["notAfter"]))


def look(place: Village) -> bool:
    assert place.node.certificate is not None
    return place.call(place.node.certificate.look)


def refusal(place: Village) -> str:
    assert place.node.certificate is not None
    return place.node.certificate.refusal or ""


def test_a_renewed_certificate_is_served_without_a_restart(
    place: Village, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert end_of(place, phone(authority)) == NOON_AT + 60 * DAY_S
    with connect(place, phone(authority)) as open_before:
        put(tmp_path, authority.issue(until_at=NOON_AT + 120 * DAY_S))
        assert look(place)
        assert end_of(place, phone(authority)) == NOON_AT + 120 * DAY_S
        # Who is connected is not disturbed.
        open_before.sendall(f"GET /healthz HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        assert open_before.recv(100).startswith(b"HTTP/1.1 200")
    assert "certificate_reloaded" in caplog.text
    assert not look(place), "nothing has changed since"


def test_another_kind_of_key_replaces_the_old_one_for_every_phone(
    place: Village, authority: Authority, tmp_path: Path
) -> None:
    put(tmp_path, authority.issue(until_at=NOON_AT + 90 * DAY_S, kind="rsa"))
    assert look(place)
    assert end_of(place, phone(authority)) == NOON_AT + 90 * DAY_S
    assert end_of(place, phone(authority, kinds="ECDHE+aRSA")) == NOON_AT + 90 * DAY_S
    with pytest.raises(ssl.SSLError):
        # The old one, had it stayed, would be what such a phone is shown.
        end_of(place, phone(authority, kinds="ECDHE+aECDSA"))


def test_a_phone_without_server_name_is_shown_it_too(
    place: Village, authority: Authority, tmp_path: Path
) -> None:
    put(tmp_path, authority.issue(until_at=NOON_AT + 120 * DAY_S))
    assert look(place)
    context = phone(authority)
    context.check_hostname = False
    with connect(place, context, None) as found:
        shown: Any = found.getpeercert()
    assert ssl.cert_time_to_seconds(shown["notAfter"]) == NOON_AT + 120 * DAY_S


def test_a_half_written_pair_keeps_the_old_one_in_use(
    place: Village, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    new = authority.issue(until_at=NOON_AT + 120 * DAY_S)
    old_key = (tmp_path / "key.pem").read_bytes()
    for chain, key in (
        (new.chain, old_key),
        (new.chain[:300], old_key),
        (b"", old_key),
        (new.chain, new.key[:60]),
        (new.chain, b""),
    ):
        caplog.clear()
        (tmp_path / "cert.pem").write_bytes(chain)
        (tmp_path / "key.pem").write_bytes(key)
        assert not look(place) and not look(place)
        assert "do not belong together" in refusal(place)
        assert caplog.text.count("certificate_kept") == 1, "said once"
        assert key not in caplog.text.encode() or not key
        assert end_of(place, phone(authority)) == NOON_AT + 60 * DAY_S
    (tmp_path / "key.pem").unlink()
    assert not look(place) and "key.pem cannot be read" in refusal(place)
    assert end_of(place, phone(authority)) == NOON_AT + 60 * DAY_S
    put(tmp_path, new)
    assert look(place) and not refusal(place)
    assert end_of(place, phone(authority)) == NOON_AT + 120 * DAY_S


def test_files_put_back_as_they_were_are_no_trouble(
    place: Village, authority: Authority, tmp_path: Path
) -> None:
    before = (tmp_path / "cert.pem").read_bytes()
    (tmp_path / "cert.pem").write_bytes(b"half")
    assert not look(place) and refusal(place)
    (tmp_path / "cert.pem").write_bytes(before)
    assert not look(place) and not refusal(place)


def test_what_phones_would_not_trust_does_not_replace_what_they_do(
    place: Village, authority: Authority, tmp_path: Path
) -> None:
    later_at = NOON_AT + 120 * DAY_S
    middle = Authority("Antara", authority).issue(until_at=later_at)
    cut_off = Issued(middle.chain[: middle.chain.index(b"-----END") + 26], middle.key)
    for pair, words in (
        (cut_off, "missing from the file"),
        (Authority().issue(until_at=later_at), "No certificate authority"),
        (authority.issue("kantor.desa.example", until_at=later_at), "kantor.desa.example"),
        (authority.issue(until_at=NOON_AT - DAY_S), "has ended"),
    ):
        put(tmp_path, pair)
        assert not look(place) and words in refusal(place)
        assert end_of(place, phone(authority)) == NOON_AT + 60 * DAY_S
    put(tmp_path, middle)
    assert look(place) and end_of(place, phone(authority)) == later_at


def test_once_the_old_one_has_ended_any_that_fits_is_served(place: Village, tmp_path: Path) -> None:
    other = Authority()
    put(tmp_path, other.issue(until_at=NOON_AT + 120 * DAY_S))
    assert not look(place)
    place.pass_time(61 * DAY_S)
    assert look(place)
    assert end_of(place, phone(other)) == NOON_AT + 120 * DAY_S


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(authority: Authority) -> None:
    from cryptography.hazmat.primitives import serialization

    key = make_key()
    made = authority.issue(until_at=NOON_AT + DAY_S, key=key)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"rahasia"),
    )
    assert fits(made.chain, made.key) and not fits(made.chain, locked)


def test_the_node_looks_by_itself(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "CERTIFICATE_LOOKED_AT_EVERY_S", 0.02)
    put(tmp_path, authority.issue(until_at=NOON_AT + 60 * DAY_S))
    variables = {
        "PESISIR_HTTP_LISTEN": PAIR,
        "PESISIR_HTTP_TLS_CERT": "cert.pem",
        "PESISIR_HTTP_TLS_KEY": "key.pem",
    }
    with village(tmp_path, variables=variables) as place:
        put(tmp_path, authority.issue(until_at=NOON_AT + 120 * DAY_S))
        deadline = time.monotonic() + 30
        while end_of(place, phone(authority)) != NOON_AT + 120 * DAY_S:
            assert time.monotonic() < deadline, "still the old one"
            time.sleep(0.02)


def test_phones_that_connect_while_it_changes_are_all_served(
    place: Village, authority: Authority, tmp_path: Path
) -> None:
    context, failed, is_done = phone(authority), [], threading.Event()

    def keep_asking() -> None:
        while not is_done.is_set():
            try:
                end_of(place, context)
            except OSError as error:
                failed.append(error)

    phones = [threading.Thread(target=keep_asking) for _ in range(3)]
    for one in phones:
        one.start()
    for days in range(70, 80):
        put(tmp_path, authority.issue(until_at=NOON_AT + days * DAY_S))
        assert look(place)
    is_done.set()
    for one in phones:
        one.join(60)
    assert failed == []


def test_the_desk_and_check_say_what_is_wrong_with_it(
    place: Village, authority: Authority, tmp_path: Path
) -> None:
    def said() -> list[str]:
        assert place.node.certificate is not None
        place.call(place.node.certificate.look)
        return [
            alert.name
            for alert in alerts(place.do(place.node.day_view.of(1)))
            if alert.name.startswith("certificate")
        ]

    def status() -> Any:
        found: Any = place.do(execute(place.node, "status", {}, lambda done, whole: None))
        return found["certificate"]

    assert said() == []
    assert status() == {"ends_at": NOON_AT + 60 * DAY_S, "refusal": None}
    (tmp_path / "key.pem").write_bytes(b"half")
    assert said() == ["certificate_kept"]
    assert "do not belong together" in status()["refusal"]
    place.pass_time(40 * DAY_S)
    assert said() == ["certificate_ending", "certificate_kept"]
    place.pass_time(14 * DAY_S)
    assert said() == ["certificate_last_days", "certificate_kept"]
    place.pass_time(6 * DAY_S)
    assert said() == ["certificate_ended", "certificate_kept"]
    put(tmp_path, authority.issue(until_at=NOON_AT + 120 * DAY_S))
    assert said() == []


def test_the_captive_portal_api_answers_over_tls(place: Village, authority: Authority) -> None:
    address = next((host, port) for host, port, tls in place.service.http_addresses if tls)
    connection = http.client.HTTPSConnection(*address, timeout=60, context=phone(authority))
    connection.sock = connect(place, phone(authority))
    connection.request(
        "GET",
        "/captive-portal/api",
        headers={"host": HOST, "accept": "application/captive+json"},
    )
    answer = connection.getresponse()
    assert (answer.status, answer.headers["content-type"]) == (200, "application/captive+json")
    assert json.loads(answer.read()) == {"captive": True, "user-portal-url": f"https://{HOST}/"}
    connection.close()

"""Signed requests: the library reads ours, we read the library's, and nothing changed passes."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from http_message_signatures import (
    HTTPMessageSigner,
    HTTPMessageVerifier,
    HTTPSignatureKeyResolver,
    algorithms,
)

from portal import signed_requests

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
NODE = "3f2a9c0d11e47b58"
PATH = f"/api/v1/nodes/{NODE}/exchange"
AUTHORITY = "hub.example.go.id:8443"
BODY = b"a body"
COMPONENTS = ("@method", "@authority", "@path", "content-digest")


class Keys(HTTPSignatureKeyResolver):
    """The library's way to the one key."""

    def resolve_public_key(self, key_id: str) -> object:
        assert key_id == NODE
        return KEY.public_key()

    def resolve_private_key(self, key_id: str) -> object:
        return KEY


@dataclass
class Message:
    """A request as the library likes it."""

    method: str = "POST"
    url: str = f"https://{AUTHORITY}{PATH}"
    headers: dict[str, str] = field(default_factory=lambda: {"Host": AUTHORITY})


def the_time() -> int:
    return int(datetime.datetime.now(datetime.UTC).timestamp())


def our_headers(created_at: int) -> dict[str, str]:
    return signed_requests.sign(
        "POST",
        AUTHORITY,
        PATH,
        BODY,
        keyid=NODE,
        created_at=created_at,
        counter=41,
        signer=KEY.sign,
    )


def lower(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def test_the_library_verifies_what_we_sign() -> None:
    message = Message()
    message.headers |= our_headers(the_time())
    verifier = HTTPMessageVerifier(signature_algorithm=algorithms.ED25519, key_resolver=Keys())
    results = verifier.verify(message, require_components=COMPONENTS, body=BODY)
    assert [result.parameters["nonce"] for result in results] == ["41"]


def test_we_verify_what_the_library_signs() -> None:
    message = Message()
    signer = HTTPMessageSigner(signature_algorithm=algorithms.ED25519, key_resolver=Keys())
    signer.sign(
        message,
        key_id=NODE,
        nonce="41",
        label="sig",
        include_alg=False,
        covered_component_ids=COMPONENTS,
        created=datetime.datetime.fromtimestamp(1_780_000_000, datetime.UTC),
        body=BODY,
    )
    found = signed_requests.read("POST", AUTHORITY, PATH, lower(message.headers), BODY)
    KEY.public_key().verify(found.signature, found.base)
    assert (found.keyid, found.counter, found.created_at) == (NODE, 41, 1_780_000_000)


def test_a_box_in_1970_can_sign() -> None:
    found = signed_requests.read("POST", AUTHORITY, PATH, lower(our_headers(0)), BODY)
    KEY.public_key().verify(found.signature, found.base)
    assert found.created_at == 0


@pytest.mark.parametrize(
    ("method", "authority", "path"),
    [
        ("PUT", AUTHORITY, PATH),
        ("POST", "hub.example.org", PATH),
        ("POST", AUTHORITY, PATH.replace("3", "4")),
    ],
)
def test_a_request_sent_elsewhere_does_not_fit(method: str, authority: str, path: str) -> None:
    found = signed_requests.read(method, authority, path, lower(our_headers(5)), BODY)
    with pytest.raises(InvalidSignature):
        KEY.public_key().verify(found.signature, found.base)


def test_a_changed_body_is_refused() -> None:
    with pytest.raises(signed_requests.SignatureError, match="changed on the way"):
        signed_requests.read("POST", AUTHORITY, PATH, lower(our_headers(5)), BODY + b"x")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("signature-input", lambda text: text.replace("created=5", "created=6")),
        ("signature-input", lambda text: text.replace('nonce="41"', 'nonce="42"')),
        ("signature-input", lambda text: text.replace(NODE, "0" * 16)),
    ],
)
def test_a_changed_parameter_does_not_fit(name: str, change: Callable[[str], str]) -> None:
    headers = lower(our_headers(5))
    headers[name] = change(headers[name])
    found = signed_requests.read("POST", AUTHORITY, PATH, headers, BODY)
    with pytest.raises(InvalidSignature):
        KEY.public_key().verify(found.signature, found.base)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("content-digest", None, "content-digest is missing"),
        ("content-digest", "md5=:AAAA:", "not in the form"),
        ("signature-input", None, "signature-input is missing"),
        ("signature-input", 'sig=("@method");created=5;keyid="a";nonce="1"', "not in the form"),
        ("signature", None, "signature is missing"),
        ("signature", "sig=:AAAA:", "not in the form"),
        ("signature", "sig=:" + "A" * 86 + "==:, b=:AAAA:", "not in the form"),
    ],
)
def test_another_form_is_refused(name: str, value: str | None, complaint: str) -> None:
    headers = lower(our_headers(5))
    if value is None:
        del headers[name]
    else:
        headers[name] = value
    with pytest.raises(signed_requests.SignatureError, match=complaint):
        signed_requests.read("POST", AUTHORITY, PATH, headers, BODY)


def test_the_usual_port_is_left_out() -> None:
    assert signed_requests.authority_of("Hub.Example", 443, is_tls=True) == "hub.example"
    assert signed_requests.authority_of("hub.example", None, is_tls=True) == "hub.example"
    assert signed_requests.authority_of("hub.example", 443, is_tls=False) == "hub.example:443"

"""Enrolment of a box: the file or the token from the office becomes a hub that this box trusts.

The box is given an address and a token. The token names the hub's CA, so nothing that lies in the
way can pose as the hub; the box shows that it has the token with an HMAC over its own public keys,
and a person compares six words. Asked again after a lost answer, everything ends the same.
"""

import http.client
import json
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from portal.domain import enrol_token, ledger, note
from portal.domain.enrol_token import Token, TokenError
from portal.errors import UserError
from portal.signing import FILE_NAME as KEY_FILE_NAME
from portal.signing import SigningKeys
from portal.sync import trust as hub_trust
from portal.sync.trust import HubTrust

FORM = "pesisir-enrolment-1"
TIMEOUT_S = 60.0
MOST_OCTETS = 64_000
CA_PATH = "/api/v1/ca"
ENROL_PATH = "/api/v1/enrol"


@dataclass(frozen=True, slots=True)
class Given:
    """What the office gave: a file, or an address and a token."""

    url: str
    token: Token
    trust: HubTrust | None
    """With the file, the hub's keys; with an address alone they are asked for."""
    site: str | None


@dataclass(frozen=True, slots=True)
class Enrolled:
    """How it went."""

    url: str
    node_id: str
    words: tuple[str, ...]
    state: str
    """"pending": the office has not approved the box yet; "active"."""
    site: dict[str, str]
    """code, name, zone, power_window, without_node, as the office has them."""
    trust: HubTrust


def file_text(trust: HubTrust, token: str, site: dict[str, str], expires_at: int) -> str:
    """The enrolment file that `read_file` reads."""
    content = {
        "form": FORM,
        "url": trust.url,
        "ca": trust.authority,
        "cosigner": trust.cosigner,
        "documents": trust.documents,
        "recovery": trust.recovery,
        "token": token,
        "site": site,
        "expires_at": expires_at,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def read_file(path: Path) -> Given:
    """What an enrolment file says. Raises UserError."""
    try:
        if path.stat().st_size > MOST_OCTETS:
            raise ValueError("too long")
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["form"] != FORM:
            raise ValueError(f"form {found['form']!r}")
        texts = [found[name] for name in ("url", "ca", "cosigner", "documents", "recovery")]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("expected texts")
        return Given(
            _url(texts[0]), _token(found["token"]), HubTrust(*texts), found["site"]["code"]
        )
    except FileNotFoundError:
        raise UserError(f"There is no file {path}; expected the enrolment file.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"The file {path} is no enrolment file ({error}); ask the office for it again."
        ) from error


def read_words(url: str, token: str) -> Given:
    """An address and a token as somebody typed them. Raises UserError."""
    return Given(_url(url), _token(token), None, None)


def _url(text: str) -> str:
    parts = urlsplit(text.strip())
    is_plain = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username)
    if parts.scheme != "https" or not parts.hostname or not is_plain:
        raise UserError(f'The hub is "{text[:80]}"; expected an address as https://host[:port].')
    return f"https://{parts.netloc}"


def _token(text: str) -> Token:
    try:
        return enrol_token.read(text)
    except TokenError as error:
        raise UserError(f"{str(error)[0].upper()}{str(error)[1:]}.") from error


def enrol(given: Given, keys: SigningKeys, *, program: str, proxy: str | None = None) -> Enrolled:
    """Ask the hub to let this box in; nothing is written here. Raises UserError."""
    trust = given.trust or _ask_trust(given, proxy)
    ca_der = ssl.PEM_cert_to_DER_cert(trust.authority)
    if not given.token.fits_ca(ca_der):
        raise UserError("The token is of another hub than the certificate; ask the office again.")
    node_id, signing, sealing = keys.node_id, keys.public, keys.exchange_public
    answer = _ask(
        given.url,
        _trusting(trust.authority),
        ENROL_PATH,
        {
            "token": given.token.id,
            "node": node_id,
            "signing": signing.hex(),
            "sealing": sealing.hex(),
            "proof": enrol_token.proof(given.token.key, node_id, signing, sealing, ca_der).hex(),
            "program": program,
        },
        proxy,
    )
    try:
        site = {str(name): str(value) for name, value in answer["site"].items()}
        state = str(answer["state"])
        if not {"code", "name", "zone"} <= site.keys():
            raise KeyError("site")
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError("The hub's answer makes no sense to this program.") from error
    words = enrol_token.words(signing, sealing, ca_der)
    return Enrolled(given.url, node_id, words, state, site, trust)


def _ask_trust(given: Given, proxy: str | None) -> HubTrust:
    """The hub's keys, asked for twice: first anybody may answer, but only the CA that the token
    names is taken; then only the hub itself can."""
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE
    authority = str(_ask(given.url, anybody, CA_PATH, None, proxy).get("authority", ""))
    try:
        is_named = given.token.fits_ca(ssl.PEM_cert_to_DER_cert(authority))
    except ValueError:
        is_named = False
    if not is_named:
        raise UserError(
            "Whoever answers at this address is not the hub that made the token; check the"
            " address, and tell the office."
        )
    found = _ask(given.url, _trusting(authority), CA_PATH, None, proxy)
    try:
        return HubTrust(
            given.url,
            authority,
            *(str(found[name]) for name in ("cosigner", "documents", "recovery")),
        )
    except KeyError as error:
        raise UserError("The hub's answer makes no sense to this program.") from error


def _trusting(authority: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=authority)
    return context


def _ask(
    url: str, context: ssl.SSLContext, path: str, content: object, proxy: str | None
) -> dict[str, Any]:
    """A question to the hub in JSON; a POST where there is `content`. Raises UserError."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    try:
        if proxy is None:
            connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
        else:
            by = urlsplit(proxy)
            connection = http.client.HTTPSConnection(
                by.hostname or "", by.port or 3128, timeout=TIMEOUT_S, context=context
            )
            connection.set_tunnel(host, port)
        try:
            body = None if content is None else json.dumps(content).encode()
            headers = {"Content-Type": "application/json"} if body else {}
            connection.request("GET" if body is None else "POST", path, body, headers)
            response = connection.getresponse()
            octets = response.read(MOST_OCTETS + 1)
        finally:
            connection.close()
    except ssl.SSLCertVerificationError as error:
        raise UserError(
            f"The hub shows a certificate that is not its own ({error.verify_message})."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise UserError(f"The hub at {url} cannot be reached: {error}.") from error
    try:
        found = json.loads(octets)
        if not isinstance(found, dict):
            raise ValueError("no object")
    except ValueError as error:
        raise UserError(f"The hub answered {response.status} and nothing of use.") from error
    if response.status not in (200, 202):
        why = str(found.get("problem", "no reason given"))[:300]
        raise UserError(f"The hub does not let this box in: {why}.")
    return found


# --- new keys


NEXT_KEY_NAME = f"{KEY_FILE_NAME}.next"
_SIGNATURE_NAME = "signature"
"""Of the old key, for the ledger: when it is told there, the old key is gone."""


def change_key(
    directory: Path,
    keys: SigningKeys,
    trust: HubTrust,
    random_bytes: Callable[[int], bytes],
    *,
    proxy: str | None = None,
) -> SigningKeys:
    """Have the hub take a new signing key, and keep it here. Raises UserError.

    The hub takes the old key until the new one is used, and the new one is on disk before the hub
    hears of it: after a lost answer, or a power cut anywhere, the box goes on with the key it has,
    and asking again ends the same. Call `key_told` when the ledger has it.
    """
    beside = directory / NEXT_KEY_NAME
    beside.mkdir(mode=0o700, exist_ok=True)
    former = (*keys.former, keys.public)
    try:
        fresh = SigningKeys.read(beside)
    except FileNotFoundError:
        fresh = keys
    if fresh.former != former:
        # None was made yet, or it is in use since a power cut kept it from being cleared away.
        fresh = SigningKeys(random_bytes(32), keys.exchange, keys.node_id, former)
        fresh.write(beside)
    statement = ledger.key_statement(keys.node_id, keys.public, fresh.public)
    signature_old = keys.sign(statement).hex()
    with open(beside / _SIGNATURE_NAME, "w", encoding="ascii") as file:
        file.write(signature_old)
        file.flush()
        # Nobody can make it again once the old key is overwritten.
        os.fsync(file.fileno())
    try:
        _ask(
            trust.url,
            _trusting(trust.authority),
            f"/api/v1/nodes/{keys.node_id}/key",
            {
                "old": keys.public.hex(),
                "new": fresh.public.hex(),
                "signature_old": signature_old,
                "signature_new": fresh.sign(statement).hex(),
            },
            proxy,
        )
    except UserError as error:
        raise UserError(
            f"{error} The key was not changed; the box goes on with the old one."
        ) from error
    fresh.write(directory)
    return fresh


def untold_key(directory: Path, keys: SigningKeys) -> dict[str, str] | None:
    """What the ledger has to tell of a new key that is kept, None where there is nothing."""
    beside = directory / NEXT_KEY_NAME
    try:
        if SigningKeys.read(beside) != keys:
            return None
        signature = (beside / _SIGNATURE_NAME).read_text("ascii")
    except (FileNotFoundError, NotADirectoryError):
        return None
    old = note.Key(keys.key.name, keys.key.algorithm, keys.former[-1])
    return {"old": str(old), "new": str(keys.key), "signature": signature}


def key_told(directory: Path) -> None:
    """Clear away what `change_key` leaves until the ledger tells of the new key."""
    beside = directory / NEXT_KEY_NAME
    if beside.is_dir():
        for left in beside.iterdir():
            left.unlink()
        beside.rmdir()


def keep(directory: Path, enrolled: Enrolled) -> None:
    """Trust the hub from now on; a running node sees it by itself."""
    hub_trust.write(directory, enrolled.trust)

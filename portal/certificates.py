"""Certificates: until when phones will trust the one the portal serves, and whether they may be
told of the Captive Portal API, which they ask over HTTPS only (RFC 8908 4.1).

Nothing is fetched: the chain in the configured file is checked against the certificate authorities
this machine knows, as a phone would.
"""

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

API_PATH = "/captive-portal/api"
"""Where the Captive Portal API is, on every address of the portal."""
WARNED_BEFORE_S = 21 * 86_400
"""A certificate with less than this left is to be renewed. One that renews itself is never so old:
Let's Encrypt's live 90 days and are renewed 30 days before their end."""
ADVISED_BEFORE_S = 7 * 86_400
"""A certificate with less than this left is no longer announced to phones: announced and expired
is worse than not announced, since phones then wait for an answer they cannot get."""
OPTION_OCTETS = 255
"""The longest URI that fits DHCPv4 option 114 (RFC 8910 2.1)."""
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)
_END = b"-----END CERTIFICATE-----"


class Fault(StrEnum):
    """Why phones do not trust a certificate."""

    UNREADABLE = "unreadable"
    """No certificate can be read from the file."""
    OTHER_NAME = "other_name"
    """It does not name the portal's host."""
    NOT_YET = "not_yet"
    """Its time has not begun, or the clock is wrong."""
    ENDED = "ended"
    UNKNOWN_ISSUER = "unknown_issuer"
    """No certificate authority this machine knows has issued it, or the chain is incomplete."""
    NO_AUTHORITIES = "no_authorities"
    """This machine knows no certificate authorities, so it cannot tell."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What phones think of a certificate at one moment."""

    ends_at: int | None
    """Epoch seconds; None for an unreadable one."""
    names: tuple[str, ...]
    """The DNS names in it."""
    fault: Fault | None
    """None: phones trust it for the host that was asked for."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """What DHCP option 114 may say (RFC 8910 2.1)."""

    uri: str | None
    """The address of the API; None when phones must not be told of it."""
    why: str
    """Why not, one plain sentence; '' when they may."""


def standing(chain: bytes, host: str | None, now: int) -> Standing:
    """How phones look at a certificate with its issuers after it (PEM) when they ask for `host` at
    `now`. Without a host only its time is looked at: nobody is to trust it by a name."""
    certificates = _read(chain)
    if not certificates:
        return Standing(None, (), Fault.UNREADABLE)
    leaf, *issuers = certificates
    ends_at = int(leaf.not_valid_after_utc.timestamp())
    names = _names(leaf)
    return Standing(ends_at, names, _fault(leaf, issuers, names, host, now))


def _fault(
    leaf: x509.Certificate,
    issuers: list[x509.Certificate],
    names: tuple[str, ...],
    host: str | None,
    now: int,
) -> Fault | None:
    if now >= leaf.not_valid_after_utc.timestamp():
        return Fault.ENDED
    if now < leaf.not_valid_before_utc.timestamp():
        return Fault.NOT_YET
    if host is None:
        return None
    if not any(_fits(name, host) for name in names):
        return Fault.OTHER_NAME
    place = _bundle()
    authorities = () if place is None else _authorities(place, place.stat().st_mtime_ns)
    if not authorities:
        return Fault.NO_AUTHORITIES
    try:
        verifier = (
            PolicyBuilder()
            .store(Store(list(authorities)))
            .time(datetime.fromtimestamp(now, UTC))
            .build_server_verifier(x509.DNSName(host))
        )
        verifier.verify(leaf, issuers)
    except (VerificationError, ValueError):
        return Fault.UNKNOWN_ISSUER
    return None


def trusted_until(chain: Path | None, host: str | None, now: int) -> int | None:
    """When the certificate in `chain` (PEM, its issuers after it) ends, epoch seconds; None when
    phones would not trust it for `host` at `now`: not there, not readable, another name, expired,
    or not issued by a certificate authority of this machine.
    """
    if chain is None or not host:
        return None
    try:
        found = standing(chain.read_bytes(), host, now)
    except OSError:
        return None
    return None if found.fault is not None else found.ends_at


def is_announced(chain: Path | None, host: str | None, now: int) -> bool:
    """Whether phones may be told by DHCP option 114 (RFC 8910) to ask the portal over HTTPS."""
    until = trusted_until(chain, host, now)
    return until is not None and until - now >= ADVISED_BEFORE_S


def announcement(url: str | None, chain: Path | None, now: int) -> Announcement:
    """What DHCP option 114 may say of a portal at `url` ([http] url) that serves `chain`
    ([http] tls_cert); RFC 8910 2 wants a name, RFC 8908 4.1 a certificate that the phone trusts.
    """
    host = https_host(url)
    if url is None or host is None:
        return Announcement(None, "The portal has no https:// address with a name.")
    if chain is None:
        return Announcement(None, "The node has no certificate of its own to look at.")
    try:
        pem = chain.read_bytes()
    except OSError as error:
        return Announcement(None, f"The certificate {chain} cannot be read: {error.strerror}.")
    found = standing(pem, host, now)
    if found.fault is not None:
        return Announcement(None, sentence(found, host))
    if found.ends_at is None or found.ends_at - now < ADVISED_BEFORE_S:
        days = ADVISED_BEFORE_S // 86_400
        return Announcement(None, f"The certificate ends within {days} days.")
    uri = url + API_PATH
    if len(uri.encode()) > OPTION_OCTETS:
        return Announcement(None, f"The address is longer than {OPTION_OCTETS} octets.")
    return Announcement(uri, "")


def sentence(found: Standing, host: str | None) -> str:
    """Why phones do not trust a certificate, in plain English; '' when they do."""
    match found.fault:
        case None:
            return ""
        case Fault.UNREADABLE:
            return "There is no certificate in the file."
        case Fault.OTHER_NAME:
            names = ", ".join(found.names[:3]) or "no name at all"
            return f"The certificate is for {names} and not for {host}."
        case Fault.NOT_YET:
            return "The certificate's time has not begun, or the clock is wrong."
        case Fault.ENDED:
            return "The certificate has ended."
        case Fault.UNKNOWN_ISSUER:
            return (
                "No certificate authority that phones know has issued the certificate, or the"
                " certificates between it and theirs are missing from the file."
            )
        case Fault.NO_AUTHORITIES:
            return (
                "This machine knows no certificate authorities to check the certificate with;"
                " install the package ca-certificates."
            )


def https_host(url: str | None) -> str | None:
    """The name phones check the certificate for; None for another scheme or an IP address."""
    parts = urlsplit(url or "")
    if parts.scheme != "https" or not parts.hostname:
        return None
    try:
        ipaddress.ip_address(parts.hostname)
    except ValueError:
        return parts.hostname
    return None


def _read(pem: bytes) -> list[x509.Certificate]:
    """The certificates in a file, as far as they can be read from its beginning: TLS stacks serve
    those, too."""
    found = []
    for part in pem.split(_END)[:-1]:
        try:
            found.append(x509.load_pem_x509_certificate(part + _END + b"\n"))
        except ValueError:
            break
    return found


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return tuple(name.lower() for name in names.get_values_for_type(x509.DNSName))
    except (x509.ExtensionNotFound, ValueError):
        # Names in the subject count for no phone of the last ten years.
        return ()


def _fits(name: str, host: str) -> bool:
    """Whether a name of a certificate covers a host (RFC 6125 6.4: `*` is one label)."""
    if name.startswith("*."):
        return host.partition(".")[2] == name[2:]
    return name == host


def _bundle() -> Path | None:
    """Where this machine keeps its certificate authorities; SSL_CERT_FILE comes first."""
    for place in (ssl.get_default_verify_paths().cafile, *_BUNDLES):
        if place and Path(place).is_file():
            return Path(place)
    return None


@lru_cache(maxsize=2)
def _authorities(place: Path, changed_ns: int) -> tuple[x509.Certificate, ...]:
    """The certificate authorities in a file that was changed then; one that this program cannot
    read is left out."""
    found = []
    try:
        parts = place.read_bytes().split(_END)[:-1]
    except OSError:
        return ()
    for part in parts:
        try:
            found.append(x509.load_pem_x509_certificate(part + _END + b"\n"))
        except ValueError:
            continue
    return tuple(found)

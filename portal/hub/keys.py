"""The hub's keys: what it signs with, its certificate authority, and the office's recovery key.

One file beside the database, readable for its owner only and in every backup: nodes know the hub by
these keys alone, so a hub with new ones is another hub to all of them. The private half of the
recovery key is in no file of the hub: it is written once, for the office to keep elsewhere.
"""

import ipaddress
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from portal.domain import note
from portal.domain.ledger import hub_key_name
from portal.errors import UserError

FILE_NAME = "pesisir.hub.keys"
CERTIFICATE_NAME = "pesisir.hub.crt"
CERTIFICATE_KEY_NAME = "pesisir.hub.tls.key"
RECOVERY_NAME = "pesisir.recovery-key.txt"
CA_DAYS = 20 * 365
CERTIFICATE_DAYS = 397
RENEWED_BEFORE_DAYS = 60
# A node whose clock is behind must still find the certificate begun.
_BACKDATED = timedelta(days=2)
_OCTETS = 32


@dataclass(frozen=True, slots=True, repr=False)
class HubKeys:
    """Secret octets by purpose; keys of Ed25519 as their 32 octets of seed."""

    cosigner: bytes
    """Cosigns what nodes sent."""
    documents: bytes
    """Signs what nodes are to apply."""
    web_key: bytes
    """Signs forms and cookies of the pages."""
    recovery_public: bytes
    """X25519: backups of nodes are sealed for it."""
    ca_key: bytes
    """The authority's private key, PKCS #8 DER."""
    ca_certificate: bytes
    """The authority's certificate, DER: nodes believe this one and no other."""

    @property
    def hub_id(self) -> str:
        """The hub's name in keys and notes: 16 hex digits out of its cosigning key."""
        return sha256(public_of(self.cosigner)).hexdigest()[:16]

    @property
    def cosigner_key(self) -> note.Key:
        """The key that cosignatures are checked with."""
        name = hub_key_name(self.hub_id)
        return note.Key(name, note.COSIGNATURE, public_of(self.cosigner))

    @property
    def documents_key(self) -> note.Key:
        """The key that documents are checked with."""
        name = f"{hub_key_name(self.hub_id)}/documents"
        return note.Key(name, note.ED25519, public_of(self.documents))

    @property
    def ca_pem(self) -> str:
        """The authority's certificate as PEM."""
        certificate = x509.load_der_x509_certificate(self.ca_certificate)
        return certificate.public_bytes(serialization.Encoding.PEM).decode()

    def cosign(self, message: bytes) -> bytes:
        """Sign as the cosigner."""
        return Ed25519PrivateKey.from_private_bytes(self.cosigner).sign(message)

    def sign_document(self, message: bytes) -> bytes:
        """Sign as the office."""
        return Ed25519PrivateKey.from_private_bytes(self.documents).sign(message)


def public_of(seed: bytes) -> bytes:
    """The public half of an Ed25519 key."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def make(random_bytes: Callable[[int], bytes], now: int) -> tuple[HubKeys, bytes]:
    """New keys, and the private half of the recovery key, which they do not contain."""
    recovery = X25519PrivateKey.from_private_bytes(random_bytes(_OCTETS))
    ca_key = ec.generate_private_key(ec.SECP256R1())
    keys = HubKeys(
        cosigner=random_bytes(_OCTETS),
        documents=random_bytes(_OCTETS),
        web_key=random_bytes(_OCTETS),
        recovery_public=recovery.public_key().public_bytes_raw(),
        ca_key=ca_key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        ca_certificate=_authority(ca_key, now).public_bytes(serialization.Encoding.DER),
    )
    return keys, recovery.private_bytes_raw()


def write(directory: Path, keys: HubKeys) -> None:
    """Store keys in a new file that only its owner can read, safe against a power cut."""
    text = json.dumps({name: value.hex() for name, value in asdict(keys).items()}, indent=1)
    write_secretly(directory / FILE_NAME, text + "\n")


def write_secretly(path: Path, text: str) -> None:
    """Write a new file that only its owner can read, and have it on disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def read(directory: Path) -> HubKeys:
    """The keys of a hub's directory; raises UserError when the file is missing or damaged."""
    path = directory / FILE_NAME
    try:
        found = json.loads(path.read_text(encoding="ascii"))
        keys = HubKeys(**{name: bytes.fromhex(value) for name, value in found.items()})
        public_of(keys.cosigner), public_of(keys.documents)
        x509.load_der_x509_certificate(keys.ca_certificate)
        serialization.load_der_private_key(keys.ca_key, None)
    except FileNotFoundError as error:
        raise UserError(
            f"The key file {path} is missing; put it back from a backup, without it no node knows"
            " this hub."
        ) from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"The key file {path} cannot be read ({type(error).__name__}); put it back from a"
            " backup, without it no node knows this hub."
        ) from error
    return keys


def recovery_text(keys: HubKeys, private: bytes) -> str:
    """The file with the office's recovery key, and what to do with it."""
    return (
        "Recovery key of the Pesisir hub " + keys.hub_id + "\n\n"
        "With it the office reads the sealed backups of its nodes, and with them brings a\n"
        "village back whose box is lost. The hub does not have it and does not need it.\n"
        "Put this file on two sticks or print it, lock them away in different places, and\n"
        "delete it here.\n\n"
        f"X25519-PRIVATE {private.hex()}\n"
        f"X25519-PUBLIC  {keys.recovery_public.hex()}\n"
    )


# --- certificates


def names_of(host: str | None, listen_hosts: Sequence[str]) -> list[str]:
    """Names and addresses the server's certificate is for: the URL's, and those listened on."""
    hosts = [host] if host else []
    hosts += [each for each in listen_hosts if each not in ("0.0.0.0", "::")]
    hosts += ["localhost", "127.0.0.1", "::1"]
    return list(dict.fromkeys(hosts))


def renew_certificate(directory: Path, keys: HubKeys, names: Sequence[str], now: int) -> bool:
    """Have a server's certificate for exactly `names` in the directory; whether one was made.

    It is made anew when names have changed or its end is near. Raises UserError when it cannot be
    written.
    """
    try:
        if _is_good(directory, keys, names, now):
            return False
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _server_certificate(keys, key, names, now)
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        # Beside one another first: a power cut between the two renames leaves a pair that does not
        # fit, which the next start sees and makes anew.
        for name, content in ((CERTIFICATE_KEY_NAME, private), (CERTIFICATE_NAME, certificate)):
            beside = directory / f"{name}.new"
            beside.unlink(missing_ok=True)
            write_secretly(beside, content.decode())
            os.replace(beside, directory / name)
    except OSError as error:
        raise UserError(
            f"The hub's certificate cannot be written in {directory}: {error.strerror}."
        ) from error
    return True


def _is_good(directory: Path, keys: HubKeys, names: Sequence[str], now: int) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate((directory / CERTIFICATE_NAME).read_bytes())
        key = serialization.load_pem_private_key(
            (directory / CERTIFICATE_KEY_NAME).read_bytes(), None
        )
        certificate.verify_directly_issued_by(x509.load_der_x509_certificate(keys.ca_certificate))
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except Exception:  # whatever is wrong with it, a new one is right
        return False
    ends = certificate.not_valid_after_utc - timedelta(days=RENEWED_BEFORE_DAYS)
    return (
        key.public_key() == certificate.public_key()
        and list(found.value) == _alternative_names(names)
        and datetime.fromtimestamp(now, UTC) < ends
    )


def _authority(key: ec.EllipticCurvePrivateKey, now: int) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Pesisir hub")])
    begins = datetime.fromtimestamp(now, UTC) - _BACKDATED
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_usage(is_authority=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_names(names: Sequence[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name.encode("idna").decode()))
    return found


def _server_certificate(
    keys: HubKeys, key: ec.EllipticCurvePrivateKey, names: Sequence[str], now: int
) -> bytes:
    authority = x509.load_der_x509_certificate(keys.ca_certificate)
    authority_key = serialization.load_der_private_key(keys.ca_key, None)
    if not isinstance(authority_key, ec.EllipticCurvePrivateKey):
        raise UserError("The hub's authority has a key of another kind; expected P-256.")
    begins = datetime.fromtimestamp(now, UTC) - _BACKDATED
    issuer = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    certificate = (
        x509.CertificateBuilder()
        # X.520 allows a common name of 64 letters.
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName(_alternative_names(names)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(is_authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer.value),
            critical=False,
        )
        .sign(authority_key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)

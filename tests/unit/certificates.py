"""Certificates for tests: an authority of our own and what it issues, as PEM."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOST = "wifi.desa.example"
DAY_S = 86_400
_NO_TIME_CHECK = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME: tests have a clock of their own."""

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Issued:
    """A certificate with its issuers after it, and its key."""

    chain: bytes
    key: bytes


def make_key(kind: str = "ec") -> Key:
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


class Authority:
    """Signs certificates; `issuer` makes it an intermediate one."""

    def __init__(self, name: str = "Otoritas Uji", issuer: "Authority | None" = None) -> None:
        self._key = make_key()
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        above, signer = (self._name, self._key) if issuer is None else (issuer._name, issuer._key)
        self._above = [] if issuer is None else [self]
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(above)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
            .not_valid_after(datetime(2045, 1, 1, tzinfo=UTC))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
                critical=False,
            )
            .sign(signer, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        *names: str,
        until_at: int,
        from_at: int | None = None,
        kind: str = "ec",
        key: Key | None = None,
    ) -> Issued:
        """A certificate for these names that ends at `until_at`."""
        key = key or make_key(kind)
        from_at = until_at - 1_000 * DAY_S if from_at is None else from_at
        leaf = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.fromtimestamp(from_at, UTC))
            .not_valid_after(datetime.fromtimestamp(until_at, UTC))
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName(name) for name in names or (HOST,)]),
                critical=True,
            )
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        chain = leaf.public_bytes(serialization.Encoding.PEM)
        chain += b"".join(one.pem for one in self._above)
        return Issued(
            chain,
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def put(directory: Path, issued: Issued) -> None:
    """Write `cert.pem` and `key.pem`, each replaced at once."""
    for name, content in (("cert.pem", issued.chain), ("key.pem", issued.key)):
        new = directory / f"{name}.new"
        new.write_bytes(content)
        new.replace(directory / name)


def phone(authority: Authority, *, kinds: str | None = None) -> ssl.SSLContext:
    """A TLS client that trusts one authority, as phones trust those they come with."""
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.verify_flags |= _NO_TIME_CHECK
    if kinds is not None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(kinds)
    return context

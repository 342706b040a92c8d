"""Hidden passwords: PAP (RFC 2865 5.2) and CHAP (RFC 2865 2.2 and 5.3), on plain bytes."""

import hmac

from radius.md5 import md5

BLOCK_OCTETS = 16
MAX_HIDDEN_OCTETS = 128


def reveal(hidden: bytes, authenticator: bytes, secret: bytes) -> bytes | None:
    """The password in a User-Password value, without its NUL padding.

    None if the value is not 16, 32, ... or 128 octets long. With a wrong secret the result is
    noise, not None: see `is_noise`.
    """
    size = len(hidden)
    if size == BLOCK_OCTETS:
        stream = md5(secret + authenticator).digest()
    elif size % BLOCK_OCTETS or not 0 < size <= MAX_HIDDEN_OCTETS:
        return None
    else:
        chain = authenticator + hidden[:-BLOCK_OCTETS]
        stream = b"".join(
            md5(secret + chain[at : at + 16]).digest() for at in range(0, size, BLOCK_OCTETS)
        )
    plain = int.from_bytes(hidden, "big") ^ int.from_bytes(stream, "big")
    return plain.to_bytes(size, "big").rstrip(b"\0")


def hide(password: bytes, authenticator: bytes, secret: bytes) -> bytes:
    """The User-Password value for a request with this Request Authenticator.

    Raises ValueError if the password is longer than 128 octets.
    """
    if len(password) > MAX_HIDDEN_OCTETS:
        raise ValueError(f"password has {len(password)} octets, expected at most 128")
    blocks = max(1, -(-len(password) // BLOCK_OCTETS))
    padded = password.ljust(blocks * BLOCK_OCTETS, b"\0")
    hidden = b""
    previous = authenticator
    for at in range(0, len(padded), BLOCK_OCTETS):
        stream = md5(secret + previous).digest()
        block = padded[at : at + BLOCK_OCTETS]
        previous = bytes(left ^ right for left, right in zip(block, stream, strict=True))
        hidden += previous
    return hidden


def chap_fits(value: bytes, challenge: bytes, password: bytes) -> bool:
    """True if a CHAP-Password value (identifier and MD5) answers `challenge` with `password`.

    False if the value is not 17 octets long: its digest then is not 16.
    """
    expected = md5(value[:1] + password + challenge).digest()
    return hmac.compare_digest(expected, value[1:])


def is_noise(password: bytes) -> bool:
    """True if a revealed password looks like the work of a wrong shared secret.

    That is: not UTF-8, or with control characters. Only a hint for the log, for gateways that send
    no Message-Authenticator.
    """
    try:
        return any(char < " " or char == "\x7f" for char in password.decode())
    except UnicodeDecodeError:
        return True

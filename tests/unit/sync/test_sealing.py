"""Sealing: the office's key opens what was sealed for it, nothing else does."""

import os

import pytest

from portal import sealing

PRIVATE = bytes(range(32))
PUBLIC = sealing.public_of(PRIVATE)


def test_the_private_half_opens_it() -> None:
    sealed = sealing.seal(PUBLIC, "backup", b"balances", os.urandom)
    assert sealing.unseal(PRIVATE, "backup", sealed) == b"balances"
    assert len(sealed) == len(b"balances") + sealing.OVERHEAD_OCTETS
    assert b"balances" not in sealed


def test_two_seals_of_the_same_differ() -> None:
    first, second = (sealing.seal(PUBLIC, "backup", b"x", os.urandom) for _ in range(2))
    assert first != second


def test_another_key_another_purpose_or_changed_octets_do_not_open_it() -> None:
    sealed = sealing.seal(PUBLIC, "backup", b"balances", os.urandom)
    for private, purpose, octets in (
        (bytes(32), "backup", sealed),
        (PRIVATE, "delta", sealed),
        (PRIVATE, "backup", sealed[:-1]),
        (PRIVATE, "backup", sealed[:40] + bytes([sealed[40] ^ 1]) + sealed[41:]),
        (PRIVATE, "backup", bytes([sealed[0] ^ 1]) + sealed[1:]),
        (PRIVATE, "backup", b""),
    ):
        with pytest.raises(sealing.SealError):
            sealing.unseal(private, purpose, octets)

"""Signing keys: made once, readable by their owner only, refused when damaged."""

import json
import os
import stat
from pathlib import Path

import pytest

from portal.domain import ledger
from portal.errors import UserError
from portal.signing import FILE_NAME, SigningKeys, verify


def test_keys_are_made_once_and_stay(tmp_path: Path) -> None:
    made = SigningKeys.read_or_make(tmp_path, os.urandom)
    assert SigningKeys.read_or_make(tmp_path, os.urandom) == made
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600
    assert made.node_id == ledger.node_id(made.public)
    assert made.seed.hex() not in repr(made)
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_a_box_keeps_its_name_when_its_keys_change(tmp_path: Path) -> None:
    made = SigningKeys.read_or_make(tmp_path, os.urandom)
    changed = SigningKeys.make(os.urandom, made.node_id)
    changed.write(tmp_path)
    found = SigningKeys.read(tmp_path)
    assert found == changed and found.node_id == made.node_id and found.public != made.public


def test_a_signature_is_good_for_its_message_and_key_only() -> None:
    keys, others = SigningKeys.make(os.urandom), SigningKeys.make(os.urandom)
    signature = keys.sign(b"message")
    assert verify(keys.public, signature, b"message")
    assert not verify(keys.public, signature, b"messagf")
    assert not verify(others.public, signature, b"message")
    assert not verify(keys.public, signature[:-1], b"message")
    assert not verify(b"short", signature, b"message")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content[: len(content) // 2], "cannot be read"),
        (lambda content: "[]", "cannot be read"),
        (lambda content: json.dumps(json.loads(content) | {"seed": "00"}), "cut short"),
        (lambda content: json.dumps(json.loads(content) | {"node_id": "x"}), "16 hex digits"),
    ],
)
def test_a_damaged_file_is_refused_and_not_replaced(
    tmp_path: Path, change: "object", said: str
) -> None:
    SigningKeys.make(os.urandom).write(tmp_path)
    path = tmp_path / FILE_NAME
    assert callable(change)
    path.write_text(change(path.read_text()))
    before = path.read_bytes()
    with pytest.raises(UserError, match=said):
        SigningKeys.read_or_make(tmp_path, os.urandom)
    assert path.read_bytes() == before

"""Verify a ledger file of Pesisir: python3 verify-ledger.py FILE KEYFILE

A second reader, written apart from the first: Python and its package "cryptography", nothing else.
docs/ledger.md says what the lines mean and what a good file proves. Exit status 0: good, 1: not.
"""

import json
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

NODE, HUB = 1, 4  # types of keys


def need(is_so: bool, what: str) -> None:
    if not is_so:
        raise ValueError(what)


def octets(text: str) -> bytes:
    found = b64decode(text, validate=True)
    need(b64encode(found).decode() == text, "base64 in a second spelling")
    return found


def signed_at(note: str, keyline: str) -> int | None:
    """When a hub's key cosigned (C2SP tlog-cosignature); 0 for a node's; None: not by this key."""
    name, key_id, encoded = keyline.strip().split("+", 2)
    key, at = octets(encoded), None
    text, _, lines = note.rpartition("\n\n")
    for line in lines.splitlines():
        who, signature = line.removeprefix("\N{EM DASH} ").split(" ")
        mine, message = octets(signature), text + "\n"
        if who == name and mine[:4].hex() == key_id:
            at, mine = 0, mine[4:]
            if key[0] == HUB:
                at, mine = int.from_bytes(mine[:8], "big"), mine[8:]
                message = f"cosignature/v1\ntime {at}\n{message}"
            Ed25519PublicKey.from_public_bytes(key[1:]).verify(mine, message.encode())
    return at


def check_record(fields: dict[str, Any], n: int) -> bytes:
    """Return the leaf of record `n`, after checking all that its line shows of it."""
    need(fields["seq"] == n, "missing or out of order")
    leaf = octets(fields["leaf"])
    if "public" in fields:
        public, c_loc = octets(fields["public"]), octets(fields["c_loc"])
        need(sha256(b"\x00" + public + c_loc).digest() == leaf and len(c_loc) == 32, "changed")
        end = next(at for at in range(2, len(public)) if public[at] < 128)
        seq = sum((public[at] & 127) << 7 * (at - 2) for at in range(2, end + 1))
        need(public[0] == 1 and seq == n and (public[1] == 11) == (n == 0), "in a wrong place")
    if "salt" in fields or "personal" in fields:
        person = b"\x03" + octets(fields["salt"]) + fields["personal"].encode()
        need(sha256(person).digest() == c_loc, "another person than it was made with")
    need(len(leaf) == 32 and ("public" in fields or len(fields) == 2), "not a record")
    return leaf


def append(tree: list[tuple[int, bytes]], leaf: bytes) -> None:
    """RFC 6962 2.1. `tree`: its complete subtrees from left to right, each (leaves, root)."""
    tree.append((1, leaf))
    while len(tree) > 1 and tree[-2][0] == tree[-1][0]:
        (size, left), (_, right) = tree[-2:]
        tree[-2:] = [(2 * size, sha256(b"\x01" + left + right).digest())]


def root_of(tree: list[tuple[int, bytes]]) -> bytes:
    root = tree[-1][1] if tree else sha256().digest()
    for _, left in reversed(tree[:-1]):
        root = sha256(b"\x01" + left + root).digest()
    return root


def verify(lines: Iterable[bytes], keylines: list[str]) -> tuple[str, list[str]]:
    """Return what is wrong first, "" for nothing, and what is proven of each epoch."""
    proven: dict[int, str] = {}
    where, node, epoch, total, n, signed, is_over = "the file", "", -1, 0, 0, 0, False
    try:
        for number, line in enumerate(lines, 1):
            fields = json.loads(line)
            name = next(iter(fields))
            if name in ("epoch", "end") and epoch >= 0:
                where = f"one of the records {signed} to {max(signed, n - 1)} of epoch {epoch}"
                need(n == signed > 0, "under no signed checkpoint")
            where = f"record {n} of epoch {epoch}" if name == "seq" else f"line {number}"
            need((name == "format") == (number == 1) and not is_over, "not a ledger file")
            if name == "format":
                need((fields[name], fields["version"]) == ("pesisir-ledger", 1), "another format")
                node = f"pesisir/node/{fields['node']}"
                keys = {key: octets(key.split("+", 2)[2])[0] for key in keylines}
                nodes = [key for key in keys if keys[key] == NODE and key.startswith(f"{node}+")]
            elif name == "epoch":
                need(fields[name] > epoch, "epochs out of order")
                epoch, tree, n, signed = fields[name], list[tuple[int, bytes]](), 0, 0
            elif name == "seq":
                append(tree, check_record(fields, n))
                n, total = n + 1, total + 1
            elif name == "checkpoint":
                note = fields[name]
                origin, size, root = note.rpartition("\n\n")[0].split("\n")
                need(origin == f"{node}/{epoch}", "a checkpoint of another log")
                where = f"record {min(int(size), n)} of epoch {epoch}" if size != str(n) else where
                need(size == str(n), "missing or too many")
                need(any(signed_at(note, key) == 0 for key in nodes), "not signed by the node")
                where = f"one of the records {signed} to {max(signed, n - 1)} of epoch {epoch}"
                need(root_of(tree) == octets(root), "changed after it was signed")
                where, signed, hub = f"line {number}", n, proven.get(epoch, "").partition(", ")[2]
                times = [signed_at(note, key) for key in keys if keys[key] == HUB]
                for at in filter(None, times):
                    hub = f"{n} cosigned at {at}"
                proven[epoch] = f"epoch {epoch}: {n} records signed, {hub}"
            elif name != "key":
                need(name == "end" and fields[name] == total, "records are missing")
                is_over = True
        where = "the file"
        need(is_over, "cut short")
    except InvalidSignature:
        return f"{where}: a bad signature", [*proven.values()]
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration, NameError) as error:
        return f"{where}: {error}", [*proven.values()]
    return "", [*proven.values()]


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file, open(sys.argv[2], encoding="utf-8") as keyfile:
        wrong, facts = verify(file, keyfile.read().split())
    print(*facts, f"WRONG: {wrong}" if wrong else "All of it is as it was signed.", sep="\n")
    sys.exit(1 if wrong else 0)

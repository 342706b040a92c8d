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
FORMS = "format version node has_personal/key/epoch/seq leaf public c_loc salt personal/checkpoint"
FORMS += "/end dropped"
Key = tuple[str, str, bytes]  # name, id, type and public half
Place = tuple[int, int]  # epoch and number of a record


def need(is_so: bool, what: str) -> None:
    if not is_so:
        raise ValueError(what)


def octets(text: str) -> bytes:
    found = b64decode(text, validate=True)
    need(b64encode(found).decode() == text, "base64 in a second spelling")
    return found


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    need(len(dict(pairs)) == len(pairs), "a field twice")
    return dict(pairs)


def fields_of(line: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(line, object_pairs_hook=once)
    name = next(iter(fields))
    form = next(form.split() for form in FORMS.split("/") if form.split()[0] == name)
    need(fields.keys() <= set(form), "a field that is none")
    for name in {"seq", "epoch", "end", "version"} & fields.keys():
        need(type(fields[name]) is int, "not a whole number")
    return fields


def key_of(line: str) -> Key:
    name, key_id, encoded = line.strip().split("+", 2)
    key = octets(encoded)
    need(sha256(name.encode() + b"\n" + key).hexdigest()[:8] == key_id, "a damaged key")
    need(len(key) == 33 and key[0] in (NODE, HUB), "not a key of Ed25519")
    return name, key_id, key


def signers(note: str) -> list[tuple[str, bytes]]:
    lines = [line.split(" ") for line in note.rpartition("\n\n")[2].splitlines()]
    need(all(dash == "\N{EM DASH}" for dash, _, _ in lines), "not a signature")
    return [(who, octets(signature)) for _, who, signature in lines]


def signed_at(note: str, key: Key) -> int | None:
    """When a hub's key cosigned (C2SP tlog-cosignature); 0 for a node's; None: not by this key."""
    found, text = None, note.rpartition("\n\n")[0]
    for who, mine in signers(note):
        if (who, mine[:4].hex()) == key[:2]:
            found, mine, message = 0, mine[4:], text + "\n"
            if key[2][0] == HUB:
                found, mine = int.from_bytes(mine[:8], "big"), mine[8:]
                message = f"cosignature/v1\ntime {found}\n{message}"
            Ed25519PublicKey.from_public_bytes(key[2][1:]).verify(mine, message.encode())
    return found


def payload_of(public: bytes) -> bytes:
    """What stands behind seq, boot, at, an octet and the site."""
    at = 2
    for skipped in (0, 0, 1, 0):
        at = next(at for at in range(at, len(public)) if public[at] < 128) + 1 + skipped
    return public[at:]


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


def unsaid(bare: list[Place], said: list[dict[str, Any]]) -> list[Place]:
    """Records of which only the leaf is left, though no record of the log says that they went."""
    named = {tuple(place) for one in said for place in one.get("records", ())}
    bodies = [one for one in said if one.get("what") == "bodies"]
    spans = {(tuple(one["first"]), tuple(one["last"]), one["count"]) for one in bodies}
    rest = [place for place in bare if place not in named]
    inside = [place for place in rest if any(a <= place <= b for a, b, _ in spans)]
    gone = set(inside[: sum(count for _, _, count in spans)])
    return [place for place in rest if place not in gone]


def verify(lines: Iterable[bytes], keylines: list[str]) -> tuple[str, list[str]]:
    """Return what is wrong first, "" for nothing, and what is proven of each epoch."""
    proven: dict[int, str] = {}
    bare, said = list[Place](), list[dict[str, Any]]()
    where, node, epoch, total, n, signed, is_over = "the file", "", -1, 0, 0, 0, False
    again = 0
    try:
        given = [key_of(line) for line in keylines]
        known = list(given)
        for number, line in enumerate(lines, 1):
            where = f"line {number}"
            fields = fields_of(line)
            name = next(iter(fields))
            if name in ("epoch", "end") and epoch >= 0:
                where = f"one of the records {signed} to {max(signed, n - 1)} of epoch {epoch}"
                need(n == signed > 0, "under no signed checkpoint")
            where = f"record {n} of epoch {epoch}" if name == "seq" else f"line {number}"
            need((name == "format") == (number == 1) and not is_over, "not a ledger file")
            if name == "format":
                need((fields[name], fields["version"]) == ("pesisir-ledger", 1), "another format")
                node = f"pesisir/node/{fields['node']}"
                nodes = [key for key in given if key[0] == node and key[2][0] == NODE]
            elif name == "key":
                need(epoch < 0, "a key after the records")
                known.append(key_of(fields[name]))
            elif name == "epoch":
                where = where if nodes else "the file"
                need(bool(nodes), f"none of the keys belongs to {node}")
                need(fields[name] > epoch, "epochs out of order")
                epoch, tree, n, signed = fields[name], list[tuple[int, bytes]](), 0, 0
            elif name == "seq":
                append(tree, check_record(fields, n))
                bare += [] if "public" in fields else [(epoch, n)]
                for public in [octets(fields["public"])] if "public" in fields else []:
                    said += [json.loads(payload_of(public))] if public[1] == 9 else []
                    again += public[1] in (1, 2) and payload_of(public)[0] & 16 > 0
                n, total = n + 1, total + 1
            elif name == "checkpoint":
                note = fields[name]
                origin, size, root = note.rpartition("\n\n")[0].split("\n")
                need(origin == f"{node}/{epoch}", "a checkpoint of another log")
                where = f"record {min(int(size), n)} of epoch {epoch}" if size != str(n) else where
                need(size == str(n), "missing or too many")
                for who, mine in signers(note):
                    halves = [(who == key[0], mine[:4].hex() == key[1]) for key in known]
                    need((True, True) in halves or not any(map(any, halves)), "an unknown key")
                need(any(signed_at(note, key) == 0 for key in nodes), "not signed by the node")
                where = f"one of the records {signed} to {max(signed, n - 1)} of epoch {epoch}"
                need(root_of(tree) == octets(root), "changed after it was signed")
                where, signed, hub = f"line {number}", n, proven.get(epoch, "").partition(", ")[2]
                times = [signed_at(note, key) for key in given if key[2][0] == HUB]
                for at in filter(None, times):
                    hub = f"{n} cosigned at {at}"
                proven[epoch] = f"epoch {epoch}: {n} records signed, {hub}"
            else:
                need(fields[name] == total, "records are missing")
                is_over, dropped = True, fields.get("dropped", {})
        where = "the file"
        need(is_over, "cut short")
        for of, seq in unsaid(bare, said):
            where = f"record {seq} of epoch {of}"
            need(seq < dropped.get(str(of), 0), "only its leaf is left, and no record says why")
    except InvalidSignature:
        return f"{where}: a bad signature", [*proven.values()]
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration, NameError) as error:
        return f"{where}: {error}", [*proven.values()]
    if bare:
        proven[epoch + 1] = f"{len(bare)} records are leaves only, as the log says; but for"
        proven[epoch + 1] += f" {len(unsaid(bare, said))}, as whoever wrote the file says"
    if again:
        proven[epoch + 2] = f"{again} usage records may tell again what an earlier epoch told"
    return "", [*proven.values()]


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file, open(sys.argv[2], encoding="utf-8") as keyfile:
        wrong, facts = verify(file, keyfile.read().split())
    print(*facts, f"WRONG: {wrong}" if wrong else "All of it is as it was signed.", sep="\n")
    sys.exit(1 if wrong else 0)

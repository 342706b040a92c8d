"""What a ledger file proves, told by two verifiers that share no code: they agree on good files and
on tampered ones, and both name the first record that is wrong."""

import importlib.util
import json
import random
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from portal.domain import ledger, ledger_file, note
from portal.domain.ledger import Flag, Kind
from portal.domain.ledger_file import Finding
from tests.unit.written_ledger import (
    HUB,
    NODE,
    START_AT,
    STRANGER,
    Signer,
    Written,
    two_epochs,
    verify,
)

PROGRAM = Path(__file__).resolve().parents[2] / "docs" / "verify-ledger.py"
KEYS = (NODE.key, HUB.key)


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verify_ledger", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SECOND = loaded()


def check(lines: Sequence[bytes], keys: Sequence[note.Key] | None = KEYS) -> Finding:
    return ledger_file.check(lines, verify, trusted=keys)


def second(lines: Sequence[bytes], keys: Sequence[note.Key] = KEYS) -> str:
    """What the auditors' own program says is wrong; "" for nothing."""
    wrong: str = SECOND.verify(lines, [str(key) for key in keys])[0]
    return wrong


def test_both_say_how_many_records_may_tell_something_again() -> None:
    log = Written(has_personal=False)
    log.begin()
    log.session(1)
    parent = log.sign(is_cosigned=True)
    log.begin(parent)
    for flags in (Flag.FIRST | Flag.REPLAYED, Flag.LAST, Flag.LAST | Flag.REPLAYED):
        log.append(
            Kind.SLICE, ledger.Usage(int(flags), bytes(10), 1, 1, 60, 60, 60, 10, 90, 0), site=1
        )
    log.sign()
    lines = log.end()
    found = check(lines)
    assert found.problem is None and (found.replayed, found.replayed_octets) == (2, 200)
    wrong, facts = SECOND.verify(lines, [str(key) for key in KEYS])
    assert wrong == ""
    assert facts[-1] == "2 usage records may tell again what an earlier epoch told"
    facts = SECOND.verify(two_epochs(), [str(key) for key in KEYS])[1]
    assert "again" not in facts[-1]


def place(text: str) -> str:
    return text.partition(": ")[0]


def agreed(lines: Sequence[bytes], keys: Sequence[note.Key] = KEYS) -> str:
    """The place both name as the first that is wrong; "" when both find nothing."""
    first = check(lines, keys).problem
    other = second(lines, keys)
    assert (first is None) == (other == ""), (str(first), other)
    assert place(str(first or "")) == place(other), (str(first), other)
    return place(other)


# --- good files


def test_a_good_file_says_what_it_proves() -> None:
    found = check(two_epochs())
    assert found.problem is None
    assert (found.node, found.records, found.pruned) == (NODE.node, 32, 0)
    assert [(e.number, e.records, e.signed, e.cosigned) for e in found.epochs] == [
        (0, 23, 23, 20),
        (1, 9, 9, 9),
    ]
    first, later = found.epochs
    assert (first.first_at, first.last_at) == (START_AT, START_AT + 22 * 60)
    assert (first.cosigned_at, later.cosigned_at) == (START_AT + 20 * 60, START_AT + 32 * 60)
    assert (found.opened, found.closed) == (0, 29)
    assert found.sites == {1: "TANJUNG"}
    numbers = [*range(1, 22), *range(30, 38)]
    assert found.usages[1].sessions == len(numbers)
    assert found.usages[1].input_octets == sum(numbers)
    assert found.usages[1].output_octets == 1000 * sum(numbers)
    assert found.hub_names == ["pesisir/hub/bahari"]
    assert found.remarks == []


def test_both_verifiers_find_a_good_file_good() -> None:
    assert agreed(two_epochs()) == ""
    assert agreed(two_epochs(has_personal=True)) == ""


def test_the_auditors_program_says_what_is_proven(tmp_path: Path) -> None:
    file, keys = tmp_path / "ledger.txt", tmp_path / "keys.txt"
    file.write_bytes(b"".join(two_epochs()))
    keys.write_text(f"{NODE.key}\n{HUB.key}\n", encoding="utf-8")
    command = [sys.executable, "-I", str(PROGRAM), str(file), str(keys)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines() == [
        f"epoch 0: 23 records signed, 20 cosigned at {START_AT + 20 * 60}",
        f"epoch 1: 9 records signed, 9 cosigned at {START_AT + 32 * 60}",
        "All of it is as it was signed.",
    ]
    file.write_bytes(b"".join(change_record(two_epochs(), 7, kind=9)))
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (1, "")
    assert ran.stdout.splitlines()[-1].startswith("WRONG: record 7 of epoch 0: ")


def test_the_auditors_program_is_one_page_and_stands_alone() -> None:
    text = PROGRAM.read_text(encoding="utf-8")
    assert text.count("\n") < 210
    assert "portal" not in text


def test_personal_parts_are_opened_and_counted() -> None:
    found = check(two_epochs(has_personal=True))
    assert (found.problem, found.opened, found.closed) == (None, 29, 0)


def pruned(said: dict[str, Any] | None, *, dropped: int = 0) -> list[bytes]:
    """Four of eight sessions without a body, and what the log says of that."""
    log = Written()
    log.begin()
    for n in range(1, 9):
        log.session(n, is_pruned=n < 5)
    if said is not None:
        log.append(Kind.ERASURE, {"rule": "session_months=13", "before": 1, **said})
    log.sign(is_cosigned=True)
    last = ledger_file.end_line(log.total, {0: dropped}).encode()
    return [*log.end()[:-1], last]


BODIES = {"what": "bodies", "count": 4, "first": [0, 1], "last": [0, 4]}


def test_pruned_bodies_leave_the_tree_whole_where_the_log_says_so() -> None:
    for lines in (
        pruned(BODIES),
        pruned({"what": "person", "count": 4, "records": [[0, n] for n in range(1, 5)]}),
        pruned({**BODIES, "count": 3, "first": [0, 2], "records": [[0, 1]]}),
    ):
        found = check(lines)
        assert (found.problem, found.records, found.pruned, found.dropped) == (None, 10, 4, 0)
        assert agreed(lines) == ""


def test_a_body_that_is_missing_without_a_word_is_wrong() -> None:
    assert agreed(pruned(None)) == "record 1 of epoch 0"
    assert agreed(pruned({**BODIES, "first": [0, 2]})) == "record 1 of epoch 0"
    assert agreed(pruned({**BODIES, "last": [0, 3]})) == "record 4 of epoch 0"
    assert agreed(pruned({**BODIES, "count": 3})) == "record 4 of epoch 0"
    assert agreed(pruned({**BODIES, "what": "phones"})) == "record 1 of epoch 0"
    named = {"what": "person", "count": 4, "records": [[0, 1], [0, 2], [1, 3], [0, 4]]}
    assert agreed(pruned(named)) == "record 3 of epoch 0"


def test_what_a_hub_has_removed_by_age_is_counted_apart() -> None:
    found = check(pruned(None, dropped=5))
    assert (found.problem, found.pruned, found.dropped) == (None, 0, 4)
    assert agreed(pruned(None, dropped=5)) == ""
    assert agreed(pruned(None, dropped=4)) == "record 4 of epoch 0"


def changed_key(signer: Signer) -> list[bytes]:
    """A log whose node signs with another key from its third record on; `signer` hands over."""
    fresh = Signer(4)
    fresh.node, fresh.key = NODE.node, note.Key(NODE.key.name, note.ED25519, fresh.key.public)
    log = Written()
    log.begin()
    log.sign()
    statement = ledger.key_statement(NODE.node, NODE.key.public, fresh.key.public)
    handed = {
        "old": str(NODE.key),
        "new": str(fresh.key),
        "signature": signer.sign(statement).hex(),
    }
    log.append(Kind.KEY, handed)
    log.node = fresh
    log.session(1)
    log.sign(is_cosigned=True)
    log.lines.insert(1, ledger_file.key_line(fresh.key))
    return list(log.end())


def test_a_key_is_believed_that_an_older_one_handed_over_to() -> None:
    assert check(changed_key(NODE), None).problem is None
    wrong = check(changed_key(STRANGER), None).problem
    assert wrong is not None and "has not signed" in wrong.what


def test_the_keys_of_the_file_are_taken_where_the_reader_has_none() -> None:
    found = check(two_epochs(), None)
    assert found.problem is None
    assert not found.are_keys_given
    assert found.hub_names == ["pesisir/hub/bahari"]
    assert check(two_epochs()).are_keys_given


def test_a_file_signed_anew_by_somebody_else_is_not_believed() -> None:
    """The node's id is the hash of its key, so that a key of the same name is not enough."""
    forger = Signer(9)
    forger.node = NODE.node
    forger.key = note.Key(ledger.node_key_name(NODE.node), note.ED25519, forger.key.public)
    log = Written(node=forger)
    log.begin()
    log.session(1)
    log.sign()
    problem = check(log.end(), None).problem
    assert problem is not None and "brings no key that belongs to node" in str(problem)
    assert "not signed" in str(check(log.end()).problem)
    assert agreed(log.end()) == "line 7"


def test_a_file_of_another_node_is_not_this_nodes() -> None:
    keys = (STRANGER.key, HUB.key)
    assert "none of the keys given" in str(check(two_epochs(), keys).problem)
    assert second(two_epochs(), keys) != ""


def test_a_box_that_went_back_is_told_and_not_wrong() -> None:
    """An older disk was put back: the hub has more of the epoch before than the box."""
    before = Written()
    before.begin()
    for n in range(1, 10):
        before.session(n)
    parent = before.note(is_cosigned=True)
    log = Written()
    log.begin()
    for n in range(1, 5):
        log.session(n)
    log.sign()
    log.begin(parent)
    log.sign()
    found = check(log.end())
    assert found.problem is None
    assert found.remarks == [
        "epoch 1 goes on from record 10 of epoch 0; this file has only 5 records of it: an older "
        "disk was put back in the box. The hub has the others."
    ]


def test_a_parent_that_does_not_fit_is_found() -> None:
    other = Written()
    other.begin()
    for n in range(50, 54):
        other.session(n)
    log = Written()
    log.begin()
    for n in range(1, 9):
        log.session(n)
    log.sign()
    log.begin(other.note(is_cosigned=True))
    log.sign()
    assert str(check(log.end()).problem) == (
        "record 0 of epoch 1: names a parent of epoch 0 that does not fit it"
    )


def test_a_box_that_replaced_another_names_it() -> None:
    other = Written(node=STRANGER)
    other.begin()
    log = Written()
    log.begin(other.note(is_cosigned=True))
    log.sign()
    found = check(log.end())
    assert found.problem is None
    assert STRANGER.node in found.remarks[0]


# --- what is wrong first


def fields_of(line: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(line)
    return fields


def is_record(line: bytes) -> bool:
    return line.startswith(b'{"seq"')


def spelled(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def record_at(lines: Sequence[bytes], n: int) -> int:
    """The line of the n-th record of the file."""
    return [at for at, line in enumerate(lines) if is_record(line)][n]


def changed_body(fields: dict[str, Any], kind: int) -> dict[str, Any]:
    public = bytearray(b64decode(fields["public"]))
    public[1] = kind
    return {**fields, "public": b64encode(public).decode()}


def change_record(
    lines: Sequence[bytes], n: int, *, kind: int, is_leaf: bool = False
) -> list[bytes]:
    """Another kind for the n-th record; with `is_leaf` by somebody who knows about leaves."""
    at = record_at(lines, n)
    fields = changed_body(fields_of(lines[at]), kind)
    if is_leaf:
        leaf = ledger.leaf(b64decode(fields["public"]), b64decode(fields["c_loc"]))
        fields["leaf"] = b64encode(leaf).decode()
    return [*lines[:at], spelled(fields), *lines[at + 1 :]]


@pytest.mark.parametrize("n", [0, 1, 7, 19, 20, 22])
def test_a_changed_record_is_named(n: int) -> None:
    lines = change_record(two_epochs(), n, kind=2)
    assert agreed(lines) == f"record {n} of epoch 0"
    assert "was changed" in str(check(lines).problem)
    assert check(lines).records == n


def test_a_changed_record_of_the_second_epoch_is_named() -> None:
    assert agreed(change_record(two_epochs(), 26, kind=2)) == "record 3 of epoch 1"


@pytest.mark.parametrize(("n", "first", "last"), [(2, 0, 7), (7, 0, 7), (8, 8, 13), (22, 20, 22)])
def test_a_record_changed_with_its_leaf_is_narrowed_down_by_the_signatures(
    n: int, first: int, last: int
) -> None:
    lines = change_record(two_epochs(), n, kind=2, is_leaf=True)
    assert agreed(lines) == f"one of the records {first} to {last} of epoch 0"


def test_a_dropped_record_is_named() -> None:
    lines = list(two_epochs())
    del lines[record_at(lines, 9)]
    assert agreed(lines) == "record 9 of epoch 0"


def test_swapped_records_are_named() -> None:
    lines = list(two_epochs())
    one, two = record_at(lines, 9), record_at(lines, 10)
    lines[one], lines[two] = lines[two], lines[one]
    assert agreed(lines) == "record 9 of epoch 0"


def test_records_dropped_at_the_end_are_missed() -> None:
    """The last checkpoint covers more than the file has."""
    lines = list(two_epochs())
    del lines[record_at(lines, 31)]
    assert agreed(lines) == "record 8 of epoch 1"


def test_a_tail_without_a_signature_is_named() -> None:
    lines = list(two_epochs())
    del lines[-2]
    assert agreed(lines) == "one of the records 0 to 8 of epoch 1"


def test_a_cut_file_is_not_taken_for_whole() -> None:
    assert agreed(two_epochs()[:-1]) == "the file"
    assert "cut short" in str(check(two_epochs()[:-1]).problem)


def test_another_person_than_the_one_committed_to_is_named() -> None:
    lines = list(two_epochs(has_personal=True))
    at = record_at(lines, 12)
    fields = fields_of(lines[at])
    fields["personal"] = fields["personal"].replace("A001-11", "A001-12")
    lines[at] = spelled(fields)
    assert agreed(lines) == "record 12 of epoch 0"


def flipped(lines: Sequence[bytes], at: int, octet: int, bit: int) -> list[bytes]:
    line = bytearray(lines[at])
    line[octet] ^= 1 << bit
    return [*lines[:at], bytes(line), *lines[at + 1 :]]


def test_no_octet_of_a_line_can_be_another() -> None:
    lines = two_epochs(has_personal=True)
    kinds = {next(iter(fields_of(line))): at for at, line in enumerate(lines)}
    rng = random.Random(20261201)
    for name, at in kinds.items():
        head = lines[at].index(b'"has_personal"') if name == "format" else len(lines[at]) - 1
        for octet in rng.sample(range(head), min(head, 60)):
            other = flipped(lines, at, octet, rng.randrange(8))
            if name == "format" and check(other).problem is None:
                continue
            assert agreed(other) != "", (name, octet, other[at])


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.replace(b'{"seq":3,', b'{"seq":3,"seq":3,'),
        lambda line: line.replace(b'{"seq":3,', b'{"seq":3.0,'),
        lambda line: line.replace(b'{"seq":3,', b'{"seq":3,"end":7,'),
    ],
)
def test_a_line_has_its_own_fields_each_once(change: Any) -> None:
    lines = list(two_epochs())
    at = next(at for at, line in enumerate(lines) if line.startswith(b'{"seq":3,'))
    lines[at] = change(lines[at])
    assert agreed(lines) != ""


def test_a_signature_under_half_a_known_name_is_wrong() -> None:
    lines = list(two_epochs())
    at = max(n for n, line in enumerate(lines) if line.startswith(b'{"checkpoint"'))
    lines[at] = lines[at].replace(b"pesisir/hub/bahari", b"pesisir/hub/baharu")
    assert agreed(lines) == f"line {at + 1}"


def test_what_is_no_ledger_file_is_refused() -> None:
    for lines in ([], [b"PK\x03\x04"], [b"{}\n"], [b"[]\n"], [b"null\n"], [b'{"format":"x"}\n']):
        assert check(lines).problem is not None
        assert second(lines) != ""


def tampered(rng: random.Random, lines: Sequence[bytes]) -> list[bytes]:
    """The file after somebody altered, dropped, doubled, swapped, inserted, cut or forged."""
    other = list(lines)
    records = [at for at, line in enumerate(other) if is_record(line)]
    at = rng.choice(records)
    match rng.randrange(8):
        case 0:
            old = fields_of(other[at])
            kind = b64decode(old["public"])[1]
            other[at] = spelled(changed_body(old, kind % 14 + 1))
        case 1:  # a session's end becomes its midnight, and the leaf is made to fit
            n = rng.choice([n for n in range(2, 32) if n != 23])
            other = change_record(other, n, kind=2, is_leaf=True)
        case 2:
            del other[at]
        case 3:
            other.insert(at, other[at])
        case 4:
            to = rng.choice([one for one in records if one != at])
            other[at], other[to] = other[to], other[at]
        case 5:  # swapped and numbered anew
            to = rng.choice([one for one in records if one != at])
            one, two = fields_of(other[at]), fields_of(other[to])
            one["seq"], two["seq"] = two["seq"], one["seq"]
            other[at], other[to] = spelled(two), spelled(one)
        case 6:  # the last record of an epoch taken away, with the numbers put right
            last = rng.choice((record_at(lines, 22), record_at(lines, 31)))
            del other[last]
            other[-1] = ledger_file.end_line(31).encode()
        case 7:  # a record of another log
            log = Written(node=STRANGER)
            log.begin()
            for n in range(records.index(at) + 1):
                log.session(n + 100)
            other[at] = log.lines[-1].encode()
    return other


@pytest.mark.parametrize("has_personal", [False, True])
def test_both_verifiers_agree_on_200_tampered_files(has_personal: bool) -> None:
    good = two_epochs(has_personal=has_personal)
    rng = random.Random(5)
    found = 0
    for _ in range(200):
        lines = tampered(rng, good)
        found += agreed(lines) != ""
    assert found == 200


def test_both_verifiers_agree_on_files_with_an_octet_damaged() -> None:
    """What damaged JSON is called may differ; whether the file is good may not."""
    good = two_epochs(has_personal=True)
    rng = random.Random(6)
    for _ in range(300):
        at = rng.randrange(len(good))
        line = bytearray(good[at])
        line[rng.randrange(len(line) - 1)] ^= rng.choice((1, 2, 4, 8, 16, 32))
        lines = [*good[:at], bytes(line), *good[at + 1 :]]
        first, other = check(lines).problem, second(lines)
        assert (first is None) == (other == ""), (bytes(line), str(first), other)
        if first is not None and first.first is not None and "record" in place(other):
            assert place(str(first)) == place(other)


def without_cosignatures(lines: list[bytes]) -> list[bytes]:
    found = []
    for line in lines:
        fields = fields_of(line)
        if "checkpoint" in fields:
            parsed = note.parse_note(fields["checkpoint"])
            signed = note.format_note(parsed.text, parsed.signatures[:1])
            line = ledger_file.checkpoint_line(signed).encode()
        found.append(line)
    return found


def test_without_cosignatures_less_is_proven() -> None:
    lines = without_cosignatures(list(two_epochs()))
    assert agreed(lines) == ""
    assert [epoch.cosigned for epoch in check(lines).epochs] == [0, 0]


def test_a_bad_cosignature_is_not_passed_over() -> None:
    log = Written()
    log.begin()
    parsed = note.parse_note(log.note(is_cosigned=True))
    signed, cosigned = parsed.signatures
    bad = note.Signature(cosigned.name, cosigned.key_id, bytes(8) + cosigned.octets[8:])
    log.lines.append(ledger_file.checkpoint_line(note.format_note(parsed.text, (signed, bad))))
    assert agreed(log.end()) == "line 6"
    assert "bad cosignature" in str(check(log.end()).problem)


def test_an_epoch_begins_with_its_own_record() -> None:
    log = Written()
    log.begin()
    log.append(Kind.EPOCH, {"why": "again", "parent": None})
    log.sign()
    assert agreed(log.end()) == "record 1 of epoch 0"

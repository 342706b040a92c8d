"""Records of the ledger: one spelling for each, and every change of one is seen in the tree."""

import json
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.domain import ledger, merkle
from portal.domain.ledger import (
    ClockQuality,
    DayTotal,
    Flag,
    Kind,
    LedgerError,
    Record,
    Usage,
)

SESSION = Record(
    *(Kind.SESSION, 300, 7, 1_790_000_000, ClockQuality.RUNNING, 2),
    payload=Usage(
        *(Flag.FIRST | Flag.LAST, bytes(range(10)), 3, 1),
        *(3600, 3590, 3500, 1_000_000, 25_000_000, 1),
    ),
)
DAY = Record(
    *(Kind.DAY_TOTAL, 301, 7, 1_790_000_100, ClockQuality.SYNCHRONISED, 2),
    payload=DayTotal(739_000, 200, 87, 10**9, 10**10, 360_000, 31),
)
BOOT = Record(
    *(Kind.BOOT, 0, 1, 0, ClockQuality.UNSET, ledger.WHOLE_NODE),
    payload={"reason": "listrik kembali", "n": 1},
)

NUMBERS = st.integers(0, ledger.MOST_NUMBER)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXTS, JSON, max_size=4)
USAGES = st.builds(
    Usage,
    *(st.integers(0, 31), st.binary(min_size=10, max_size=10)),
    *(NUMBERS for _ in range(8)),
)
TOTALS = st.builds(DayTotal, *(NUMBERS for _ in range(7)))


@st.composite
def records(draw: st.DrawFn) -> Record:
    kind = draw(st.sampled_from(Kind))
    payload: st.SearchStrategy[Any] = {
        Kind.SESSION: USAGES,
        Kind.SLICE: USAGES,
        Kind.DAY_TOTAL: TOTALS,
    }.get(kind, OBJECTS)
    return Record(
        *(kind, draw(NUMBERS), draw(NUMBERS), draw(NUMBERS)),
        *(draw(st.sampled_from(ClockQuality)), draw(NUMBERS), draw(payload)),
    )


# --- octets


def test_the_octets_of_a_session_are_these() -> None:
    """Written out by hand from the layout: a change here changes every root there is."""
    assert ledger.encode(SESSION).hex(" ") == (
        "01 01 ac 02 07 80 f7 c4 d5 06 02 02"  # version, kind, seq, boot, at, clock, site
        " 03 00 01 02 03 04 05 06 07 08 09"  # flags, pseudonym
        " 03 01 90 1c 86 1c ac 1b c0 84 3d c0 f0 f5 0b 01"
    )


def test_the_octets_of_a_boot_are_these() -> None:
    assert ledger.encode(BOOT) == (
        b'\x01\x04\x00\x01\x00\x04\x00{"n":1,"reason":"listrik kembali"}'
    )


@given(records())
def test_a_record_comes_back_as_it_was(record: Record) -> None:
    assert ledger.decode(ledger.encode(record)) == record


@given(st.binary(max_size=60) | st.builds(lambda head, rest: head + rest, *(st.binary(),) * 2))
def test_whatever_decodes_is_spelled_that_way(octets: bytes) -> None:
    for public in (octets, b"\x01" + octets, b"\x01\x01" + octets, b"\x01\x03" + octets):
        try:
            record = ledger.decode(public)
        except LedgerError:
            continue
        assert ledger.encode(record) == public


@given(records(), st.data())
def test_a_changed_octet_is_another_record_or_none(record: Record, data: st.DataObject) -> None:
    public = bytearray(ledger.encode(record))
    at = data.draw(st.integers(0, len(public) - 1))
    public[at] ^= data.draw(st.integers(1, 255))
    try:
        other = ledger.decode(bytes(public))
    except LedgerError as error:
        assert "expected" in str(error)
        return
    assert other != record
    assert ledger.encode(other) == public


@pytest.mark.parametrize("record", [SESSION, DAY, BOOT])
def test_a_record_cut_anywhere_or_with_more_behind_it_is_refused(record: Record) -> None:
    public = ledger.encode(record)
    for end in range(len(public)):
        with pytest.raises(LedgerError, match="expected"):
            ledger.decode(public[:end])
    with pytest.raises(LedgerError, match="expected"):
        ledger.decode(public + b"\0")


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (b"\x02\x01", "version of a record is 2; expected 1"),
        (b"", "version of a record is missing; expected 1"),
        (b"\x01\x00", "kind of a record is 0; expected 1 to 14"),
        (b"\x01\x0f", "kind of a record is 15; expected 1 to 14"),
        (b"\x01\x04\x80\x00", "number at octet 2 is longer than needed"),
        (b"\x01\x04" + b"\xff" * 8 + b"\xff\x01", "goes on and on|below 2\\^63"),
        (b"\x01\x04" + b"\x80" * 20, "goes on and on"),
        (b"\x01\x04\x00\x01\x00\x05\x00{}", "clock quality of a record is 5; expected 1 to 4"),
        (b"\x01\x04\x00\x01\x00\x04\x00[]", "expected a JSON object"),
        (b"\x01\x04\x00\x01\x00\x04\x00{} ", "compact JSON"),
        (b'\x01\x04\x00\x01\x00\x04\x00{"b":1,"a":1}', "keys in order"),
        (b'\x01\x04\x00\x01\x00\x04\x00{"a":1,"a":1}', "keys in order"),
        (b'\x01\x04\x00\x01\x00\x04\x00{"a":"\\u0041"}', "compact JSON"),
        (b'\x01\x04\x00\x01\x00\x04\x00{"a":1.0}', "expected text, whole numbers"),
        (b'\x01\x04\x00\x01\x00\x04\x00{"a":NaN}', "expected text, whole numbers"),
        (b'\x01\x04\x00\x01\x00\x04\x00{"a":9223372036854775808}', "within 2\\^63"),
        (b'\x01\x04\x00\x01\x00\x04\x00{"a":"\\ud800"}', "cannot be written as JSON"),
        (b"\x01\x04\x00\x01\x00\x04\x00" + b'{"a":' * 3000, "expected a JSON object"),
        (b"\x01\x04\x00\x01\x00\x04\x00{}" + b" " * 20_000, "at most 16384"),
        (b"\x01\x01\x00\x01\x00\x04\x00\x20" + bytes(18), "flags are 32; expected 0 to 31"),
    ],
)
def test_what_is_not_a_record_is_refused_with_its_reason(bad: bytes, complaint: str) -> None:
    with pytest.raises(LedgerError, match=complaint):
        ledger.decode(bad)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"seq": -1}, "number is -1; expected 0 to"),
        ({"at": 2**63}, "expected 0 to"),
        ({"payload": DAY.payload}, "payload of SESSION is a DayTotal"),
        ({"payload": {}}, "payload of SESSION is a dict"),
        ({"kind": Kind.BOOT}, "payload of BOOT is a Usage"),
        ({"kind": Kind.BOOT, "payload": {"a": 0.5}}, "BOOT holds 0.5; expected text, whole"),
        ({"kind": Kind.BOOT, "payload": {"a": {1: 2}}}, "has the key 1; expected text"),
        ({"kind": Kind.BOOT, "payload": {"a": "x" * 17_000}}, "BOOT record of 170.. octets"),
        ({"kind": Kind.BOOT, "payload": {"a": b"x"}}, "expected text, whole numbers"),
    ],
)
def test_what_a_record_cannot_hold_is_refused(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(LedgerError, match=complaint):
        ledger.encode(SESSION._replace(**change))


def test_a_usage_that_does_not_fit_is_refused() -> None:
    assert isinstance(SESSION.payload, Usage)
    for change, complaint in (
        ({"pseudonym": bytes(9)}, "pseudonym of 9 octets"),
        ({"flags": 32}, "flags are 32"),
        ({"input_octets": -1}, "number is -1"),
    ):
        payload = SESSION.payload._replace(**change)
        with pytest.raises(LedgerError, match=complaint):
            ledger.encode(SESSION._replace(payload=payload))


@given(NUMBERS, *(st.none() | TEXTS for _ in range(3)))
def test_who_a_session_was_is_spelled_as_any_personal_part(
    session: int, mac: str | None, ip: str | None, serial: str | None
) -> None:
    known = {"session": session, "mac": mac, "ip": ip, "serial": serial}
    told = {name: value for name, value in known.items() if value is not None}
    spelled = ledger.person_octets(session=session, mac=mac, ip=ip, serial=serial)
    assert spelled == ledger.personal_octets(told)


@given(NUMBERS)
def test_a_number_has_one_spelling(number: int) -> None:
    spelled = ledger.varint(number)
    assert ledger.read_varint(b"xx" + spelled + b"y", 2) == (number, 2 + len(spelled))
    longer = spelled[:-1] + bytes((spelled[-1] | 0x80, 0))
    with pytest.raises(LedgerError, match="longer than needed|goes on"):
        ledger.read_varint(longer, 0)


def test_a_session_record_is_small() -> None:
    """80 octets of HTTP body a record is the promise; deflate cannot shrink what is random."""
    assert len(ledger.encode(SESSION)) + len(ledger.NO_PERSONAL) <= 75


# --- hashes and names


def test_a_leaf_is_hashed_as_written_down() -> None:
    public, salt, personal = ledger.encode(SESSION), bytes(range(16)), b'{"mac":"02a1b2c3d4e5"}'
    c_loc = ledger.commitment(salt, personal)
    assert c_loc == sha256(b"\x03" + salt + personal).digest()
    assert ledger.leaf(public, c_loc) == sha256(b"\x00" + public + c_loc).digest()


def test_an_erased_personal_part_leaves_the_leaf() -> None:
    """The commitment stays when salt and person are gone: nothing else is needed for the leaf."""
    public = ledger.encode(SESSION)
    c_loc = ledger.commitment(bytes(16), ledger.personal_octets({"serial": "A017-23"}))
    other = ledger.commitment(bytes(16), ledger.personal_octets({"serial": "A017-24"}))
    assert ledger.leaf(public, c_loc) != ledger.leaf(public, other)
    assert ledger.leaf(public, c_loc) != ledger.leaf(public, ledger.NO_PERSONAL)


def test_salts_and_commitments_have_their_length() -> None:
    with pytest.raises(LedgerError, match="salt of 15 octets; expected 16"):
        ledger.commitment(bytes(15), b"{}")
    with pytest.raises(LedgerError, match="c_loc of 31 octets; expected 32"):
        ledger.leaf(b"", bytes(31))


def test_a_personal_part_is_compact_json_in_the_order_of_its_keys() -> None:
    personal = ledger.personal_octets({"serial": "A017-23", "mac": "02a1b2c3d4e5", "ip": None})
    assert personal == b'{"ip":null,"mac":"02a1b2c3d4e5","serial":"A017-23"}'
    assert json.loads(personal)["mac"] == "02a1b2c3d4e5"


def test_names_of_nodes_hubs_and_logs() -> None:
    node = ledger.node_id(bytes(32))
    assert node == "66687aadf862bd77"
    assert ledger.node_key_name(node) == "pesisir/node/66687aadf862bd77"
    assert ledger.hub_key_name("1") == "pesisir/hub/1"
    assert ledger.origin(node, 2) == "pesisir/node/66687aadf862bd77/2"
    assert ledger.parse_origin(ledger.origin(node, 2)) == (node, 2)


@pytest.mark.parametrize(
    "bad",
    ["", "pesisir/node/66687aadf862bd77", "pesisir/node/66687AADF862BD77/0"]
    + ["pesisir/node/66687aadf862bd77/00", "pesisir/node/66687aadf862bd77/0\n", "a/0"],
)
def test_another_origin_is_refused(bad: str) -> None:
    with pytest.raises(LedgerError, match="expected pesisir/node"):
        ledger.parse_origin(bad)


# --- tampering with records


@given(st.lists(records(), min_size=1, max_size=12), st.data())
def test_any_change_of_any_record_changes_the_root(
    history: list[Record], data: st.DataObject
) -> None:
    leaves = [ledger.leaf(ledger.encode(one), ledger.NO_PERSONAL) for one in history]
    at = data.draw(st.integers(0, len(history) - 1))
    other = data.draw(records().filter(lambda one: one != history[at]))
    changed = list(leaves)
    changed[at] = ledger.leaf(ledger.encode(other), ledger.NO_PERSONAL)
    assert merkle.root(changed) != merkle.root(leaves)
    proof = merkle.inclusion_proof(leaves, at)
    head = merkle.root(leaves)
    assert merkle.verify_inclusion(leaves[at], at, len(leaves), proof, head)
    assert not merkle.verify_inclusion(changed[at], at, len(leaves), proof, head)

"""Wire: bodies and batches come back as they were, and nothing else is taken for one."""

import os
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal import wire

RECORDS = st.lists(
    st.tuples(st.binary(min_size=1, max_size=300), st.binary(min_size=32, max_size=32)),
    max_size=60,
)


def an_exchange(records: bytes = b"") -> wire.Exchange:
    return wire.Exchange(
        version=wire.VERSION,
        epoch=0,
        first=7,
        records=records,
        checkpoint="note",
        acked_size=7,
        held=[wire.Held("profiles", "all", 3)],
    )


@given(RECORDS)
def test_a_batch_comes_back_as_it_was(records: list[tuple[bytes, bytes]]) -> None:
    assert wire.unpack_records(wire.pack_records(records)) == records


@given(RECORDS.filter(bool), st.integers(min_value=1, max_value=31))
def test_a_batch_that_ends_early_is_refused(
    records: list[tuple[bytes, bytes]], missing: int
) -> None:
    with pytest.raises(wire.WireError, match="ends early"):
        wire.unpack_records(wire.pack_records(records)[:-missing])


@pytest.mark.parametrize("length", [b"\x80\x00", b"\xff\xff\xff\x01", b"\x80", b"\x00"])
def test_a_length_in_another_form_is_refused(length: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.unpack_records(length + bytes(32))


def test_a_batch_of_more_records_than_allowed_is_refused() -> None:
    packed = wire.pack_records([(b"r", bytes(32))] * 501)
    with pytest.raises(wire.WireError, match="more than 500"):
        wire.unpack_records(packed)


def test_what_fits_is_the_longest_beginning_that_the_hub_takes() -> None:
    records = [(bytes(400), bytes(32))] * 600
    fits = wire.how_many_fit(records)
    assert fits < 500
    assert len(wire.unpack_records(wire.pack_records(records[:fits]))) == fits
    with pytest.raises(wire.WireError):
        wire.unpack_records(wire.pack_records(records[: fits + 1]))
    assert wire.how_many_fit([(b"r", bytes(32))] * 600) == 500
    assert wire.how_many_fit(records, 3) == 3
    assert wire.how_many_fit([]) == 0


def test_a_message_comes_back_as_it_was() -> None:
    sent = an_exchange(wire.pack_records([(b"one", bytes(32))]))
    assert wire.unpack(wire.pack(sent), wire.Exchange) == sent


def test_a_message_of_an_older_program_gets_the_defaults() -> None:
    old = zlib.compress(msgspec.msgpack.encode([1, 0, 7, b"", "note", 7, []]))
    assert wire.unpack(old, wire.Exchange).delta is None


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "ends early"),
        (b"\x93\x01\x02\x03", "not deflated"),
        (zlib.compress(b"\x93\x01\x02\x03") + b"x", "behind its end"),
        (zlib.compress(b"\x93\x01\x02\x03")[:-1], "ends early"),
        (zlib.compress(b"\x93\x01\x02\x03"), "no exchange"),
        (zlib.compress(msgspec.msgpack.encode({"version": 1})), "no exchange"),
        (zlib.compress(bytes(wire.MOST_INFLATED_OCTETS + 1)), "unpacks to more"),
        (zlib.compress(os.urandom(wire.MOST_BODY_OCTETS), 0), "at most 256000"),
    ],
)
def test_a_body_that_is_none_is_refused(body: bytes, complaint: str) -> None:
    with pytest.raises(wire.WireError, match=complaint):
        wire.unpack(body, wire.Exchange)

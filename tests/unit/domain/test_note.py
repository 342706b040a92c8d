"""Notes, checkpoints and cosignatures against the examples that were published with them."""

from base64 import b64decode

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from portal.domain import note
from portal.domain.note import Checkpoint, Key, NoteError, Signature

# The example of golang.org/x/mod/sumdb/note, from which C2SP's signed-note was taken.
SECRET = b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
KEY_LINE = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
NOTE = (
    f"{TEXT}\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXg"
    "KvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
# The examples in C2SP's signed-note, tlog-checkpoint and tlog-cosignature (their keys are not
# published there, their form is).
POEM = (
    "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n"
    "\n— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouF"
    "SQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
)
COSIGNED = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    "\n— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcy"
    "v2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2o"
    "yin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)

PRIVATE = Ed25519PrivateKey.from_private_bytes(SECRET)
KEY = note.parse_key(KEY_LINE)
HUB = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
HUB_KEY = Key("pesisir/hub/1", note.COSIGNATURE, HUB.public_key().public_bytes_raw())


def verify(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


# --- published examples


def test_the_published_note_is_signed_by_the_published_key() -> None:
    assert note.is_signed(note.parse_note(NOTE), KEY, verify)


def test_signing_the_published_text_gives_the_published_note() -> None:
    assert PRIVATE.public_key().public_bytes_raw() == KEY.public
    assert note.format_note(TEXT, [note.sign_note(TEXT, KEY, PRIVATE.sign)]) == NOTE


def test_the_published_key_is_spelled_as_published() -> None:
    assert (KEY.name, KEY.algorithm, KEY.key_id.hex()) == ("PeterNeumann", 1, "c74f20a3")
    assert str(KEY) == KEY_LINE


@pytest.mark.parametrize("published", [NOTE, POEM, COSIGNED])
def test_published_notes_keep_their_spelling(published: str) -> None:
    parsed = note.parse_note(published)
    assert note.format_note(parsed.text, parsed.signatures) == published


def test_a_text_may_hold_blank_lines() -> None:
    assert note.parse_note(POEM).text.count("\n\n") == 1


def test_the_published_checkpoint() -> None:
    checkpoint = note.parse_checkpoint(note.parse_note(COSIGNED).text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.root.hex().startswith("0ac5186a91863e8e")
    assert note.checkpoint_text(checkpoint) == note.parse_note(COSIGNED).text


def test_the_published_cosignature_tells_its_time_and_what_is_signed() -> None:
    parsed = note.parse_note(COSIGNED)
    asked = []

    def remember(public: bytes, signature: bytes, message: bytes) -> bool:
        asked.append((len(signature), message))
        return True

    witness = parsed.signatures[1]
    assert witness.name == "witness.example.com/w1"
    # The key of the example is not published, so one that has its key id is put in its place.
    key = _Named(witness.name, note.COSIGNATURE, bytes(32), witness.key_id)
    assert note.cosigned_at(parsed, key, remember) == 1679315147
    assert asked == [
        (
            64,
            b"cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\n"
            b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        )
    ]


class _Named(Key):
    """A key that claims a key id."""

    def __init__(self, name: str, algorithm: int, public: bytes, claimed: bytes) -> None:
        super().__init__(name, algorithm, public)
        object.__setattr__(self, "_claimed", claimed)

    @property
    def key_id(self) -> bytes:
        claimed: bytes = object.__getattribute__(self, "_claimed")
        return claimed


# --- what is signed and what is not


def test_another_text_is_not_signed() -> None:
    other = NOTE.replace("cryptography", "steganography")
    assert not note.is_signed(note.parse_note(other), KEY, verify)


def test_a_key_of_another_name_or_type_signs_nothing() -> None:
    parsed = note.parse_note(NOTE)
    for key in (Key("Peter", 1, KEY.public), Key(KEY.name, note.COSIGNATURE, KEY.public)):
        assert not note.is_signed(parsed, key, verify)


def test_unknown_signatures_are_passed_over_and_a_bad_one_of_a_known_key_is_not() -> None:
    good = note.parse_note(NOTE).signatures[0]
    unknown = Signature("somebody/else", b"abcd", bytes(64))
    bad = Signature(good.name, good.key_id, bytes(64))
    assert note.is_signed(note.Note(TEXT, (unknown, good)), KEY, verify)
    assert not note.is_signed(note.Note(TEXT, (good, bad)), KEY, verify)


CHECKPOINT = Checkpoint("pesisir/node/0123456789abcdef/0", 12, bytes(range(32)))


def test_a_cosignature_says_when() -> None:
    text = note.checkpoint_text(CHECKPOINT)
    cosignatures = [note.cosign(text, at, HUB_KEY, HUB.sign) for at in (1_790_000_000, 5)]
    signed = note.sign_note(text, KEY, PRIVATE.sign)
    parsed = note.parse_note(note.format_note(text, [signed, *cosignatures]))
    assert note.is_signed(parsed, KEY, verify)
    assert note.cosigned_at(parsed, HUB_KEY, verify) == 1_790_000_000
    assert note.cosigned_at(parsed, KEY, verify) is None


def test_a_cosignature_of_another_time_text_or_length_is_none() -> None:
    text = note.checkpoint_text(CHECKPOINT)
    good = note.cosign(text, 1_790_000_000, HUB_KEY, HUB.sign)
    for octets in (
        (1_790_000_001).to_bytes(8, "big") + good.octets[8:],
        good.octets[:-1],
        good.octets + b"\0",
        b"",
    ):
        other = Signature(good.name, good.key_id, octets)
        assert note.cosigned_at(note.Note(text, (other,)), HUB_KEY, verify) is None
        assert note.cosigned_at(note.Note(text, (good, other)), HUB_KEY, verify) is None
    assert note.cosigned_at(note.Note(text + "x\n", (good,)), HUB_KEY, verify) is None


# --- one spelling only


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "text\n",
        "text\n\n",
        NOTE[:-1],
        NOTE + "\n",
        NOTE.replace("—", "-"),
        NOTE.replace("— ", "—  "),
        NOTE.replace("nAM=", "nAM"),
        NOTE.replace("nAM=", "nAN="),  # the same octets in another spelling
        NOTE.replace("nAM=", "nAM= "),
        NOTE.replace("— PeterNeumann", "— Peter Neumann"),
        NOTE.replace("— PeterNeumann", "— Peter+Neumann"),
        NOTE.replace("— PeterNeumann", "— Peter\u00a0Neumann"),
        NOTE.replace("— PeterNeumann ", "—  "),
        NOTE.replace("If you", "If\tyou"),
        NOTE.replace("problem,\n", "problem,\r\n"),
        NOTE.replace("\n\n— ", "\n\n\x7fjunk\n— "),
        f"{TEXT}\n— short eA==\n",
        f"{TEXT}\n" + "— n AAAAAAA=\n" * 17,
        "x" * note.MOST_CHARACTERS + NOTE,
    ],
)
def test_a_note_in_another_form_is_refused(bad: str) -> None:
    with pytest.raises(NoteError, match="expected"):
        note.parse_note(bad)


def test_sixteen_signatures_are_taken() -> None:
    assert len(note.parse_note(f"{TEXT}\n" + "— n AAAAAAA=\n" * 16).signatures) == 16


@pytest.mark.parametrize("text", ["", "no newline", "bell\a\n"])
def test_a_text_that_cannot_be_a_note_is_not_signed(text: str) -> None:
    with pytest.raises(NoteError, match="expected"):
        note.sign_note(text, KEY, PRIVATE.sign)


@pytest.mark.parametrize(
    "bad",
    [
        "example.com/log\n1\n",
        "example.com/log\n1\nAAAA\n",
        f"example.com/log\n01\n{'A' * 43}=\n",
        f"example.com/log\n-1\n{'A' * 43}=\n",
        f"example.com/log\n١\n{'A' * 43}=\n",
        f"example.com/log\n{'9' * 20}\n{'A' * 43}=\n",
        f"example.com/log\n1\n{'A' * 43}=\nextension\n",
        f"example.com/log\n1\n{'A' * 43}=",
        f"\n1\n{'A' * 43}=\n",
        f"two words\n1\n{'A' * 43}=\n",
    ],
)
def test_a_checkpoint_in_another_form_is_refused(bad: str) -> None:
    with pytest.raises(NoteError, match="expected"):
        note.parse_checkpoint(bad)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "PeterNeumann",
        KEY_LINE.replace("c74f20a3", "c74f20a4"),
        KEY_LINE.replace("c74f20a3", "C74F20A3"),
        KEY_LINE.replace("ARpc", "Ahpc"),
        KEY_LINE.replace("PeterNeumann", "Peter Neumann"),
        KEY_LINE[:-4],
    ],
)
def test_a_key_in_another_form_is_refused(bad: str) -> None:
    with pytest.raises(NoteError, match="expected"):
        note.parse_key(bad)


NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789/.-", min_size=1, max_size=30)


@given(NAMES, st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32))
def test_a_checkpoint_comes_back_as_it_was(name: str, size: int, head: bytes) -> None:
    checkpoint = Checkpoint(name, size, head)
    assert note.parse_checkpoint(note.checkpoint_text(checkpoint)) == checkpoint


@given(
    st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.just("\n"), max_size=60),
    st.lists(
        st.tuples(NAMES, st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=80)),
        min_size=1,
        max_size=16,
    ),
)
def test_a_note_comes_back_as_it_was(text: str, lines: list[tuple[str, bytes, bytes]]) -> None:
    signatures = tuple(Signature(*line) for line in lines)
    parsed = note.parse_note(note.format_note(text + "\n", signatures))
    assert parsed == note.Note(text + "\n", signatures)


@given(st.text(max_size=200))
def test_whatever_parses_is_spelled_that_way(text: str) -> None:
    try:
        parsed = note.parse_note(text)
    except NoteError:
        return
    assert note.format_note(parsed.text, parsed.signatures) == text

"""The Merkle tree against the published vectors of certificate-transparency, and against tampering:
whatever is done to the leaves, no proof of the old tree fits and no root is the same.
"""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.domain.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root,
    verify_consistency,
    verify_inclusion,
)

# merkle_tree_test.cc and testonly/constants.go of certificate-transparency: leaves, the roots of
# the trees over the first 1 to 8 of them, and proofs.
LEAVES = [
    leaf_hash(bytes.fromhex(text))
    for text in (
        *("", "00", "10", "2021", "3031", "40414243", "5051525354555657"),
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
N0_1 = "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
N2_3 = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
N4 = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
N4_7 = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
N6_7 = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
L0 = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
L1 = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"

INCLUSION = [
    (0, 1, []),
    (0, 8, [L1, N2_3, N4_7]),
    (5, 8, [N4, N6_7, ROOTS[3]]),
    (2, 3, [N0_1]),
    (1, 5, [L0, N2_3, N4]),
]
CONSISTENCY = [
    (1, 1, []),
    (1, 8, [L1, N2_3, N4_7]),
    (6, 8, ["0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a", N6_7, ROOTS[3]]),
    (2, 5, [N2_3, N4]),
]


def octets(texts: list[str]) -> list[bytes]:
    return [bytes.fromhex(text) for text in texts]


@pytest.mark.parametrize("size", range(1, 9))
def test_the_published_roots(size: int) -> None:
    assert root(LEAVES[:size]).hex() == ROOTS[size - 1]


def test_the_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert root([]) == EMPTY_ROOT == sha256(b"").digest()


@pytest.mark.parametrize(("index", "size", "proof"), INCLUSION)
def test_the_published_inclusion_proofs(index: int, size: int, proof: list[str]) -> None:
    assert inclusion_proof(LEAVES[:size], index) == octets(proof)
    head = bytes.fromhex(ROOTS[size - 1])
    assert verify_inclusion(LEAVES[index], index, size, octets(proof), head)


@pytest.mark.parametrize(("first", "second", "proof"), CONSISTENCY)
def test_the_published_consistency_proofs(first: int, second: int, proof: list[str]) -> None:
    assert consistency_proof(LEAVES[:second], first) == octets(proof)
    older, newer = bytes.fromhex(ROOTS[first - 1]), bytes.fromhex(ROOTS[second - 1])
    assert verify_consistency(first, second, older, newer, octets(proof))


def made(size: int) -> list[bytes]:
    return [leaf_hash(n.to_bytes(4, "big")) for n in range(size)]


def test_every_proof_of_every_tree_up_to_33_leaves() -> None:
    leaves = made(33)
    roots = [root(leaves[:size]) for size in range(34)]
    for size in range(34):
        for index in range(size):
            proof = inclusion_proof(leaves[:size], index)
            assert verify_inclusion(leaves[index], index, size, proof, roots[size])
        for first in range(size + 1):
            proof = consistency_proof(leaves[:size], first)
            assert verify_consistency(first, size, roots[first], roots[size], proof)


def recursive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 2.1 as it stands there; slow, and nothing of it is shared with the code."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else sha256(b"").digest()
    middle = 1
    while middle * 2 < len(leaves):
        middle *= 2
    halves = recursive_root(leaves[:middle]) + recursive_root(leaves[middle:])
    return sha256(b"\x01" + halves).digest()


@given(st.lists(st.binary(max_size=4), max_size=70))
def test_a_frontier_has_the_root_the_rfc_defines(contents: list[bytes]) -> None:
    leaves = [leaf_hash(content) for content in contents]
    frontier = Frontier()
    for n, leaf in enumerate(leaves):
        assert frontier.root() == recursive_root(leaves[:n])
        frontier.append(leaf)
    assert frontier.root() == recursive_root(leaves)
    assert len(frontier.hashes) == frontier.size.bit_count()


@given(st.integers(0, 300), st.integers(0, 50))
def test_a_stored_frontier_goes_on_where_it_was(before: int, after: int) -> None:
    leaves = made(before + after)
    frontier = Frontier()
    frontier.extend(leaves[:before])
    again = Frontier.from_octets(frontier.to_octets())
    assert again == frontier
    again.extend(leaves[before:])
    assert again.root() == root(leaves)
    assert frontier.size == before


def test_a_copy_does_not_change_what_it_was_made_of() -> None:
    frontier = Frontier()
    frontier.extend(made(5))
    kept = frontier.root()
    frontier.copy().append(leaf_hash(b"six"))
    assert (frontier.size, frontier.root()) == (5, kept)


@pytest.mark.parametrize("change", [b"", b"\0" * 7, (3).to_bytes(8, "big") + bytes(32)])
def test_a_stored_frontier_of_the_wrong_length_is_refused(change: bytes) -> None:
    with pytest.raises(ValueError, match="expected"):
        Frontier.from_octets(change)


# --- tampering: none of it passes


@st.composite
def tampered(draw: st.DrawFn) -> tuple[list[bytes], list[bytes]]:
    """A history, and the same after somebody altered, dropped, swapped, inserted or doubled."""
    leaves = made(draw(st.integers(1, 40)))
    other = list(leaves)
    at = draw(st.integers(0, len(leaves) - 1))
    match draw(st.sampled_from(("alter", "drop", "swap", "insert", "double"))):
        case "alter":
            other[at] = leaf_hash(b"altered")
        case "drop":
            del other[at]
        case "swap":
            to = draw(st.integers(0, len(leaves) - 1))
            if to == at:
                other[at] = leaf_hash(b"nobody to swap with")
            else:
                other[at], other[to] = other[to], other[at]
        case "insert":
            other.insert(at, leaf_hash(b"inserted"))
        case "double":
            other.insert(at, other[at])
    return leaves, other


@given(tampered())
def test_another_history_has_another_root(histories: tuple[list[bytes], list[bytes]]) -> None:
    leaves, other = histories
    assert root(other) != root(leaves)


@given(tampered(), st.integers(0, 20))
def test_no_later_tree_of_another_history_is_consistent(
    histories: tuple[list[bytes], list[bytes]], more: int
) -> None:
    leaves, other = histories
    later = [*other, *made(100)[60 : 60 + more]]
    if later[: len(leaves)] == leaves or len(later) < len(leaves):
        return  # the tampering is behind the older head: nothing of it was changed
    proof = consistency_proof(later, len(leaves))
    assert not verify_consistency(len(leaves), len(later), root(leaves), root(later), proof)


@given(st.integers(2, 40), st.data())
def test_a_rolled_back_or_forked_log_is_not_consistent(size: int, data: st.DataObject) -> None:
    leaves = made(size)
    kept = data.draw(st.integers(0, size - 1))
    fork = [*leaves[:kept], *(leaf_hash(b"fork %d" % n) for n in range(kept, size + 3))]
    assert not verify_consistency(size, kept, root(leaves), root(leaves[:kept]), [])
    proof = consistency_proof(fork, size)
    assert not verify_consistency(size, len(fork), root(leaves), root(fork), proof)
    assert not verify_consistency(size, size, root(leaves), root(fork[:size]), [])


@given(st.integers(1, 40), st.data())
def test_a_changed_proof_is_not_believed(size: int, data: st.DataObject) -> None:
    leaves = made(size)
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(leaves, index)
    head = root(leaves)
    assert not verify_inclusion(leaf_hash(b"another"), index, size, proof, head)
    assert not verify_inclusion(leaves[index], index, size, [*proof, head], head)
    assert not verify_inclusion(leaves[index], size, size, proof, head)
    assert not verify_inclusion(leaves[index], -1, size, proof, head)
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        other = [*proof[:at], bytes(32), *proof[at + 1 :]]
        assert not verify_inclusion(leaves[index], index, size, other, head)
        assert not verify_inclusion(leaves[index], index, size, proof[:-1], head)


@given(st.integers(1, 40), st.data())
def test_a_changed_consistency_proof_is_not_believed(size: int, data: st.DataObject) -> None:
    leaves = made(size)
    first = data.draw(st.integers(1, size))
    older, newer = root(leaves[:first]), root(leaves)
    proof = consistency_proof(leaves, first)
    assert not verify_consistency(first, size, older, newer, [*proof, newer])
    assert not verify_consistency(first, size, bytes(32), newer, proof)
    assert not verify_consistency(first, size, older, bytes(32), proof)
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        other = [*proof[:at], bytes(32), *proof[at + 1 :]]
        assert not verify_consistency(first, size, older, newer, other)
        assert not verify_consistency(first, size, older, newer, proof[1:])


def test_a_leaf_cannot_stand_for_a_node() -> None:
    left, right = made(2)
    assert leaf_hash(left + right) != node_hash(left, right)


def test_proofs_of_what_is_not_there_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="leaf 3 of 3; expected 0 to 2"):
        inclusion_proof(made(3), 3)
    with pytest.raises(ValueError, match="first 4 leaves of 3; expected 0 to 3"):
        consistency_proof(made(3), 4)
    assert not verify_consistency(0, 3, bytes(32), root(made(3)), [])
    assert not verify_consistency(3, 5, root(made(3)), root(made(5)), [])

"""Merkle tree of RFC 6962 section 2.1: one root that stands for every record and their order.

Pure. Hashes are 32 octets of SHA-256. A leaf and an inner node are hashed with different first
octets (0x00 and 0x01), so that neither can be passed off as the other. Appending needs only the
frontier, the roots of the complete subtrees from left to right: at most 64 hashes, whatever the
size. Proofs are checked as RFC 9162 sections 2.1.3.2 and 2.1.4.2 write it down.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

HASH_OCTETS = 32
EMPTY_ROOT = sha256(b"").digest()
_SIZE_OCTETS = 8


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf that holds `data`."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node above two hashes."""
    return sha256(b"\x01" + left + right).digest()


@dataclass(slots=True)
class Frontier:
    """The right edge of a tree: all that is needed to append to it and to know its root."""

    size: int = 0
    """Number of leaves."""
    hashes: list[bytes] = field(default_factory=list)
    """Roots of the complete subtrees, the largest first: one for each bit of `size` that is set."""

    def append(self, leaf: bytes) -> None:
        """Add the hash of one more leaf."""
        hashes, size = self.hashes, self.size
        while size & 1:
            leaf = node_hash(hashes.pop(), leaf)
            size >>= 1
        hashes.append(leaf)
        self.size += 1

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add the hashes of more leaves, in their order."""
        for leaf in leaves:
            self.append(leaf)

    def root(self) -> bytes:
        """Return the root of the tree; of an empty one the hash of nothing (RFC 6962 2.1)."""
        if not self.hashes:
            return EMPTY_ROOT
        found = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            found = node_hash(left, found)
        return found

    def copy(self) -> "Frontier":
        """Return one that can be appended to without changing this one."""
        return Frontier(self.size, list(self.hashes))

    def to_octets(self) -> bytes:
        """Return the form in which it is stored: the size in 8 octets, then the hashes."""
        return self.size.to_bytes(_SIZE_OCTETS, "big") + b"".join(self.hashes)

    @classmethod
    def from_octets(cls, stored: bytes) -> "Frontier":
        """Return what `to_octets` stored.

        Raises ValueError when the number of hashes does not fit the size.
        """
        size = int.from_bytes(stored[:_SIZE_OCTETS], "big")
        expected = _SIZE_OCTETS + HASH_OCTETS * size.bit_count()
        if len(stored) != expected:
            raise ValueError(
                f"a frontier of {len(stored)} octets says size {size}; expected {expected} octets"
            )
        starts = range(_SIZE_OCTETS, expected, HASH_OCTETS)
        return cls(size, [stored[at : at + HASH_OCTETS] for at in starts])


def root(leaves: Iterable[bytes]) -> bytes:
    """Return the root of the tree over these leaf hashes."""
    frontier = Frontier()
    frontier.extend(leaves)
    return frontier.root()


# --- proofs -------------------------------------------------------------------------------------


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the audit path of leaf `index` in the tree over all of `leaves` (RFC 6962 2.1.1)."""
    if not 0 <= index < len(leaves):
        raise ValueError(f"leaf {index} of {len(leaves)}; expected 0 to {len(leaves) - 1}")
    if len(leaves) == 1:
        return []
    middle = _split(len(leaves))
    if index < middle:
        return [*inclusion_proof(leaves[:middle], index), root(leaves[middle:])]
    return [*inclusion_proof(leaves[middle:], index - middle), root(leaves[:middle])]


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], tree_root: bytes
) -> bool:
    """Tell whether `leaf` is number `index` (from 0) of the tree of this size and root."""
    if not 0 <= index < size:
        return False
    node, last, found = index, size - 1, leaf
    for step in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            found = node_hash(step, found)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            found = node_hash(found, step)
        node >>= 1
        last >>= 1
    return last == 0 and found == tree_root


def consistency_proof(leaves: Sequence[bytes], first: int) -> list[bytes]:
    """Return the proof that the first `first` of `leaves` are the start of all (RFC 6962 2.1.2)."""
    if not 0 <= first <= len(leaves):
        raise ValueError(f"first {first} leaves of {len(leaves)}; expected 0 to {len(leaves)}")
    if first == 0:
        return []
    return _subproof(leaves, first, True)


def _subproof(leaves: Sequence[bytes], first: int, is_known: bool) -> list[bytes]:
    """`is_known`: the verifier has the root of just these leaves as the older root."""
    if first == len(leaves):
        return [] if is_known else [root(leaves)]
    middle = _split(len(leaves))
    if first <= middle:
        return [*_subproof(leaves[:middle], first, is_known), root(leaves[middle:])]
    return [*_subproof(leaves[middle:], first - middle, False), root(leaves[:middle])]


def verify_consistency(
    first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Tell whether the tree of size `second` begins with the whole tree of size `first`.

    Everything begins with the empty tree, which proves nothing and needs no proof.
    """
    if not 0 <= first <= second:
        return False
    if first == second:
        return not proof and first_root == second_root
    if first == 0:
        return not proof and first_root == EMPTY_ROOT
    steps = list(proof)
    if first & (first - 1) == 0:  # a complete tree is its own first step
        steps.insert(0, first_root)
    if not steps:
        return False
    node, last = first - 1, second - 1
    while node & 1:
        node >>= 1
        last >>= 1
    older = newer = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            older = node_hash(step, older)
            newer = node_hash(step, newer)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            newer = node_hash(newer, step)
        node >>= 1
        last >>= 1
    return last == 0 and older == first_root and newer == second_root


def _split(size: int) -> int:
    """Return the size of the left subtree: the largest power of two below `size` (above 1)."""
    return 1 << ((size - 1).bit_length() - 1)

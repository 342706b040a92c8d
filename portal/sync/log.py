"""Sync log: the node's log as it is sent, its checkpoints, and what the hub's notes say of it.

Reads and signs; changes nothing.
"""

from dataclasses import dataclass

from portal import wire
from portal.domain import ledger, merkle, note
from portal.domain.exchange import Head
from portal.ledger import Ledger
from portal.signing import verify
from portal.sync.trust import HubTrust


@dataclass(frozen=True, slots=True)
class Log:
    """One epoch's log, as far as it is to be sent."""

    epoch: int
    node: str
    size: int
    acked: int
    tree: merkle.Frontier
    is_over: bool


class SentLog:
    """The epochs of a node's log, as far as the hub does not have them."""

    def __init__(self, ledger: Ledger):
        self._store = ledger.store
        self._ledger = ledger
        self.given_up: set[int] = set()
        """Epochs that are over and of which the hub wants no more."""
        self.lost: set[int] = set()
        """Epochs that are over and of which the hub, which once had them, has lost records."""
        self.resent: set[int] = set()
        """Those of them that were sent again in this round."""
        self.known: tuple[int, merkle.Frontier] | None = None
        """The tree up to where the hub is, of an epoch."""

    async def next(self) -> Log:
        """What is to be sent next."""
        return (await self.logs())[0]

    async def logs(self) -> list[Log]:
        """Epochs that are over and that the hub does not have whole, and the newest."""
        found = []
        *over, newest = self._store.epochs()
        for row in over:
            size = row["size"] if row["void_from"] is None else row["void_from"]
            is_ours = row["node"] == self._ledger.keys.node_id
            is_wanted = row["acked"] < size or row["epoch"] in self.lost
            if is_ours and is_wanted and row["epoch"] not in self.given_up:
                tree = await self.tree(row["epoch"], size)
                acked = min(row["acked"], size)
                found.append(Log(row["epoch"], row["node"], size, acked, tree, is_over=True))
        head = self._store.head()
        if head is None or head.epoch != newest["epoch"]:
            raise RuntimeError("the ledger has no epoch; expected Ledger.begin before")
        return [
            *found,
            Log(head.epoch, head.node, head.size, newest["acked"], head.frontier, is_over=False),
        ]

    def resend(self, epoch: int) -> bool:
        """Send an epoch that is over again, and those before it, as far as the hub has lost them;
        False where all that there is has been sent in this round."""
        ours = [
            row["epoch"] for row in self._store.epochs() if row["node"] == self._ledger.keys.node_id
        ]
        wanted = {each for each in ours[:-1] if each <= epoch} - self.resent
        self.lost |= wanted
        self.resent |= wanted
        self.given_up -= wanted
        return bool(wanted)

    def records(self, epoch: int, first: int, most: int) -> list[tuple[bytes, bytes]]:
        """Records from `first` on, as many as one exchange carries; fewer where some are gone."""
        if not most:
            return []
        rows = self._store.records(epoch, first, most)
        whole = [
            (public, c_loc)
            for place, (seq, public, c_loc) in enumerate(rows, first)
            if seq == place
        ]
        return whole[: wire.how_many_fit(whole)]

    async def tree(self, epoch: int, size: int) -> merkle.Frontier:
        """The tree over the first `size` records of an epoch."""
        head = self._store.head()
        if head is not None and (head.epoch, head.size) == (epoch, size):
            return head.frontier.copy()
        known = self.known
        if known is None or known[0] != epoch or known[1].size != size:
            frontier = merkle.Frontier()
            frontier.extend((await self._store.leaves(epoch))[:size])
            self.known = known = (epoch, frontier)
        return known[1].copy()

    def signed(self, node: str, epoch: int, tree: merkle.Frontier) -> str:
        checkpoint = note.Checkpoint(ledger.origin(node, epoch), tree.size, tree.root())
        text = note.checkpoint_text(checkpoint)
        keys = self._ledger.keys
        return note.format_note(text, [note.sign_note(text, keys.key, keys.sign)])

    def cosigned(self, trust: HubTrust, checkpoint: str, line: str | None) -> str | None:
        """The checkpoint with the hub's cosignature, None where there is none that is good."""
        if line is None:
            return None
        whole = f"{checkpoint}{line}\n"
        try:
            parsed = note.parse_note(whole)
            key = note.parse_key(trust.cosigner)
        except note.NoteError:
            return None
        return None if note.cosigned_at(parsed, key, verify) is None else whole

    async def judged(self, trust: HubTrust, head: str | None) -> Head | None:
        """What a head that the hub shows is worth."""
        if head is None:
            return None
        try:
            parsed = note.parse_note(head)
            checkpoint = note.parse_checkpoint(parsed.text)
            node, epoch = ledger.parse_origin(checkpoint.origin)
            cosigner = note.parse_key(trust.cosigner)
        except (note.NoteError, ledger.LedgerError):
            return None
        leaves = await self._store.leaves(epoch) if node == self._node() else []
        return Head(
            epoch=epoch,
            size=checkpoint.size,
            is_signed_by_us=any(
                note.is_signed(parsed, key, verify) for key in self._ledger.keys.known_keys
            ),
            is_signed_by_hub=note.cosigned_at(parsed, cosigner, verify) is not None,
            is_known=len(leaves) >= checkpoint.size
            and merkle.root(leaves[: checkpoint.size]) == checkpoint.root,
        )

    def _node(self) -> str:
        head = self._store.head()
        return "" if head is None else head.node

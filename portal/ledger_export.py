"""Ledger export: a node writes its own log out as a file that proves itself.

What is in the database is written as it is and nothing is put right: whether it fits the signatures
is for whoever verifies it (portal/domain/ledger_file.py). The node signs only the head it has kept
while appending, never one made of the rows, so that an export cannot bless what was changed.
"""

from collections.abc import Callable, Collection
from pathlib import Path

from portal.domain import ledger, ledger_file, merkle, note
from portal.domain.merkle import Frontier
from portal.errors import UserError
from portal.ledger import Ledger
from portal.store.db import DatabaseError, Row

PAGE = 2_000
"""Records read at once: a few hundred kB."""


async def write(
    log: Ledger,
    target: Path,
    *,
    hub_keys: Collection[str] = (),
    with_personal: bool = False,
    report: Callable[[int, int], None],
) -> dict[str, object]:
    """Write all epochs of this box to `target`, which must not exist.

    `hub_keys`: lines of the keys by which the hub cosigns. Returns {"node", "records", "epochs"}.
    Raises UserError when the node has no records yet or its tables make no sense, OSError when the
    file cannot be written.
    """
    try:
        # What old age takes meanwhile would be missing in the file without a word.
        async with log.store.pruning:
            return await _write(log, target, hub_keys, with_personal, report)
    except (DatabaseError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"The ledger in the database is damaged ({error}); nothing of it can be proven from"
            " here. The hub has what was sent to it."
        ) from error


async def _write(
    log: Ledger,
    target: Path,
    hub_keys: Collection[str],
    with_personal: bool,
    report: Callable[[int, int], None],
) -> dict[str, object]:
    node = log.keys.node_id
    # What is appended from here on waits for the next export.
    epochs = [row for row in log.store.epochs() if row["node"] == node and row["size"]]
    epochs = [row for row in epochs if _end(row)]
    if not epochs:
        raise UserError("The ledger has no records yet; the first is made when the node starts.")
    ends = [_end(row) for row in epochs]
    total, done = sum(ends), 0
    cosigned: dict[tuple[int, int], str] = {
        (row["epoch"], row["size"]): row["note"] for row in log.store.cosigned_checkpoints()
    }
    with target.open("x", encoding="utf-8", newline="\n") as file:
        file.write(ledger_file.head_line(node, has_personal=with_personal))
        for key in dict.fromkeys((*map(str, log.keys.known_keys), *hub_keys)):
            file.write(ledger_file.key_line(note.parse_key(key)))
        for row, end in zip(epochs, ends, strict=True):
            epoch = row["epoch"]
            file.write(ledger_file.epoch_line(epoch))
            last = cosigned.get((epoch, end)) or await _signed(log, row, end)
            for first in range(0, end, PAGE):
                # A record that was taken away leaves no line, and the verifier names it.
                for body in await log.store.bodies(epoch, first, min(PAGE, end - first)):
                    if body["seq"] >= min(first + PAGE, end):
                        break
                    file.write(_line(body, with_personal))
                    size = body["seq"] + 1
                    if size < end and (epoch, size) in cosigned:
                        file.write(ledger_file.checkpoint_line(cosigned[epoch, size]))
                report(done + min(first + PAGE, end), total)
            done += end
            file.write(ledger_file.checkpoint_line(last))
            for beyond in sorted(size for of, size in cosigned if of == epoch):
                if beyond > row["size"]:
                    # Cosigned over records that are no longer here: the verifier says so.
                    file.write(ledger_file.checkpoint_line(cosigned[epoch, beyond]))
        file.write(ledger_file.end_line(total))
    return {"node": node, "records": total, "epochs": len(epochs)}


def _end(row: Row) -> int:
    """How much of an epoch counts: what the next one tells again is told there."""
    return int(row["size"] if row["void_from"] is None else min(row["size"], row["void_from"]))


async def _signed(log: Ledger, row: Row, end: int) -> str:
    """A checkpoint over the epoch: of the frontier that was kept with every record. Only of an
    epoch that ends earlier, in a part the hub never had, is there nothing but the leaves."""
    if end == row["size"]:
        root = Frontier.from_octets(row["frontier"]).root()
    else:
        root = merkle.root((await log.store.leaves(row["epoch"]))[:end])
    head = note.Checkpoint(ledger.origin(row["node"], row["epoch"]), end, root)
    text = note.checkpoint_text(head)
    return note.format_note(text, (note.sign_note(text, log.keys.key, log.keys.sign),))


def _line(body: Row, with_personal: bool) -> str:
    shown = with_personal and body["personal"] is not None
    return ledger_file.record_line(
        body["seq"],
        body["leaf"],
        body["public"],
        body["c_loc"],
        salt=body["salt"] if shown else None,
        personal=body["personal"] if shown else None,
    )

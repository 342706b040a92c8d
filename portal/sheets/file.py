"""Print file: the sheet of a batch as a file of the person who asked for it.

For the command line, which is a process of its own already: nothing of the node waits for it.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from portal.errors import UserError
from portal.sheets.layouts import sheet_of


def check_new(file: Path) -> None:
    """Raise UserError unless `file` can be made: before cards are issued for it."""
    if file.is_symlink() or file.exists():
        raise UserError(f"{file} exists already; expected a new name.")
    if not file.parent.is_dir():
        raise UserError(f"There is no directory {file.parent}; expected one to put the sheet in.")
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise UserError(f"The directory {file.parent} cannot be written by this user.")


def write(
    file: Path,
    words: dict[str, Any],
    batch: Mapping[str, Any],
    layout: str,
    report: Callable[[int, int], None],
) -> None:
    """Draw a batch (as `vouchers.issue` returns it) into a new file that only its owner can read.

    `words` are the fields of a Sheet. Raises UserError when the file cannot be written.
    """
    # Loading what draws takes a third of a second, which other commands need not wait.
    from portal import printing
    from portal.sheets import child as print_child

    cards = [printing.Card(one["serial"], one["code"], one["url"]) for one in batch["vouchers"]]
    drawing = printing.pdf(sheet_of(words), cards, layout, report)
    try:
        print_child.write(file, drawing)
    except OSError as error:
        raise UserError(
            f"Batch {batch['batch']} is issued, but its sheet cannot be written to {file}:"
            f" {error.strerror}; print it at the operator's desk within 72 hours."
        ) from error

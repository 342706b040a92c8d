"""Print child: the process that draws what the node wants printed.

Reads JSON lines from standard input: the task, {"kind", "sheet" or "words", "layout", "path"}, then
lists of cards, each [serial, code, url]; draws and ends with status 0. With a path the drawing goes
into that new file, which only its owner can read, and "done total" lines on standard output tell
how far it is; without one the drawing itself goes to standard output. Codes come in by the pipe
and are on no command line.
"""

import json
import os
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from portal import printing
from portal.printing import Card
from portal.sheets.layouts import poster_words_of, sheet_of

NICENESS = 15
MOST_OCTETS = 400_000_000
"""Memory it may take; ten thousand tickets, each a page of its own, take 220 MB."""
SYNCED_OCTETS = 512_000
"""Written before the disk is waited for: ten thousand tickets at once would keep the node's commits
waiting for seconds on a flash card."""
_OOM_SCORE = "900"
"""Where memory runs out, this process goes and not the node."""


def draw(task: dict[str, Any], cards: Sequence[Card], report: printing.Report) -> bytes:
    """What a task asks for."""
    if task["kind"] == "poster":
        return printing.poster(poster_words_of(task["words"]), task["layout"])
    sheet = sheet_of(task["sheet"])
    match task["kind"]:
        case "pdf":
            return printing.pdf(sheet, cards, task["layout"], report)
        case "svg":
            return "".join(printing.svg_pages(sheet, cards, task["layout"])).encode()
        case "png":
            return printing.png384(sheet, cards[0])
    raise ValueError(f"kind is {task['kind']!r}; expected pdf, svg, png or poster")


def write(path: Path, drawing: bytes) -> None:
    """Store a drawing in a new file that only its owner can read, safe against a power cut."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        for first in range(0, len(drawing), SYNCED_OCTETS):
            file.write(drawing[first : first + SYNCED_OCTETS])
            file.flush()
            os.fdatasync(file.fileno())
        os.fsync(file.fileno())


def stand_back() -> None:
    """Leave the processors to the node.

    On one of them only: the scheduler moves a busy process about, also to where the node is about
    to wake.
    """
    os.nice(NICENESS)
    processors = os.sched_getaffinity(0)
    if len(processors) > 1:
        os.sched_setaffinity(0, {max(processors)})


def main() -> int:
    """Do the one task; the exit status is 1 when it cannot be done."""
    stand_back()
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, "ascii")
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_OCTETS, MOST_OCTETS))
    task = json.loads(sys.stdin.readline())
    cards = [Card(*card) for line in sys.stdin for card in json.loads(line)]

    def report(done: int, total: int) -> None:
        # Fails when the node is gone, and with it whoever wanted this.
        print(done, total, flush=True)  # noqa: T201

    try:
        if task["path"] is None:
            sys.stdout.buffer.write(draw(task, cards, lambda done, total: None))
            sys.stdout.flush()
        else:
            write(Path(task["path"]), draw(task, cards, report))
    except BrokenPipeError:
        return 1
    except Exception as error:
        # Only what it was: a message could hold a code.
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        line = "" if place is None else f" {place.tb_frame.f_code.co_name}:{place.tb_lineno}"
        sys.stderr.write(f"{type(error).__name__}{line}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A person at a terminal, for tests: runs `pesisir` on a pty, reads what it shows and types."""

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.e2e.command import PROGRAM, environment

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """The command on a terminal of 100 columns; `text` is all it has shown, without colours."""

    def __init__(self, *words: str | Path, rows: int = 50, **settings: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [*PROGRAM, *map(str, words)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(COLUMNS="100", LINES=str(rows), TERM="xterm", **settings),
            start_new_session=True,
        )
        os.close(theirs)
        self._shown = b""
        self._seen_to = 0

    @property
    def text(self) -> str:
        """All that was shown."""
        return _ESCAPES.sub("", self._shown.decode(errors="replace")).replace("\r\n", "\n")

    def expect(self, *words: str, within_s: float = 60.0) -> str:
        """Wait until one of these was shown after what was expected before; which one."""
        deadline = time.monotonic() + within_s
        while True:
            text = self.text
            found = [(text.find(word, self._seen_to), word) for word in words]
            there = [(at, word) for at, word in found if at >= 0]
            if there:
                at, word = min(there)
                self._seen_to = at + len(word)
                return word
            left_s = deadline - time.monotonic()
            assert left_s > 0 and self._read(left_s), f"no {words} in:\n{text[-3000:]}"

    def type(self, line: str) -> None:
        """A line and Enter."""
        os.write(self._ours, line.encode() + b"\n")

    def answer(self, question: str, line: str) -> None:
        """Type a line once this was asked."""
        self.expect(question)
        self.type(line)

    def interrupt(self, within_s: float = 60.0) -> None:
        """Ctrl-C, once the program waits as it does for people.

        Between its question and its wait for the answer Python only notes a signal, and hears of
        it with the next line typed; people are not that fast.
        """
        deadline = time.monotonic() + within_s
        naps = 0
        while naps < 3:
            assert time.monotonic() < deadline, f"it does not wait:\n{self.text[-3000:]}"
            # The state stands behind the name, which is in parentheses.
            state = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0]
            naps = naps + 1 if state == "S" else 0
            time.sleep(0.02)
        self.process.send_signal(signal.SIGINT)

    def end(self, within_s: float = 60.0) -> int:
        """Wait for its end; the exit status."""
        deadline = time.monotonic() + within_s
        while self._read(max(0.0, deadline - time.monotonic())):
            pass
        return self.process.wait(max(0.1, deadline - time.monotonic()))

    def _read(self, within_s: float) -> bool:
        """Take in what is shown next; False at the end, or when nothing came in time."""
        if not select.select([self._ours], [], [], within_s)[0]:
            return False
        try:
            piece = os.read(self._ours, 65_536)
        except OSError:
            # Linux reports the end of the other side so.
            return False
        self._shown += piece
        return bool(piece)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)


def run_all(terminal: Terminal, answers: Sequence[tuple[str, str]]) -> None:
    """Answer these questions in this order."""
    for question, line in answers:
        terminal.answer(question, line)

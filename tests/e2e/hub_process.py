"""A hub for tests: its directory made by the real command, its process beside the test's."""

import subprocess
from pathlib import Path
from typing import Self

from tests.e2e.command import PROGRAM, environment, pesisir
from tests.ports import free_port


class RunningHub:
    """A hub that runs from `with` to its end."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.url = f"https://localhost:{free_port()}"
        made = pesisir(
            *("--dir", directory, "init", "--role", "hub", "--name", "Dinas", "--json"),
            *("--url", self.url),
        ).json
        self.recovery_key = Path(made["recovery_key"])
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [*PROGRAM, "--dir", str(self.directory), "hub"],
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("ready"), line
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process is not None and self._process.stdout is not None
        self._process.terminate()
        self._process.wait(60)
        self._process.stdout.close()

    def command(self, *words: str | Path) -> object:
        """A command at the hub; its JSON."""
        return pesisir("--dir", self.directory, *words, "--json").json

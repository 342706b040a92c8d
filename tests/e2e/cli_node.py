"""A directory for tests of the command line: a site, a profile, a gateway and three cards."""

import json
from pathlib import Path

from tests.e2e.command import (
    SETTINGS,
    pesisir,
)


def make(directory: Path) -> Path:
    """A node's directory with ports of the system's choice."""
    directory.mkdir()
    (directory / "pesisir.toml").write_text(SETTINGS)
    outcome = pesisir(
        *("init", "--site", "KMAL", "--name", "Balai Desa Kamal", "--zone", "WITA"),
        *("--admin", "siti", "--dir", directory, "--json"),
    )
    assert set(outcome.json) >= {"dir", "admin", "password"}
    return directory


def cards(directory: Path) -> list[dict[str, str]]:
    """The three cards of the directory."""
    found: list[dict[str, str]] = json.loads((directory / "cards.json").read_text())["vouchers"]
    return found

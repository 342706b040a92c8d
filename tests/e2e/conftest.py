"""What the end-to-end tests share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.e2e.chromium import CHROMIUM
from tests.e2e.cli_node import make
from tests.e2e.command import RunningNode, pesisir


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One Chromium for the tests of a module."""
    assert CHROMIUM is not None, "CI=true and no Chromium: install the Debian package chromium"
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        )
        yield browser
        browser.close()


# --- a directory of its own for the command line


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new directory with a profile, a gateway and three cards, which no test changes."""
    directory = make(tmp_path_factory.mktemp("pristine") / "node")
    assert (
        pesisir("profile", "set", "harian", "--data-day", "500MB", "--dir", directory).status == 0
    )
    assert (
        pesisir(
            *("gateway", "add", "pos-1", "--family", "coova", "--address", "127.0.0.1"),
            *("--secret", "rahasia-pos-1", "--dir", directory),
        ).status
        == 0
    )
    cards = pesisir(
        *("voucher", "issue", "--profile", "harian", "--count", "3", "--json"),
        *("--dir", directory),
    )
    (directory / "cards.json").write_text(cards.out)
    return directory


@pytest.fixture
def directory(pristine: Path, tmp_path: Path) -> Path:
    """A copy of it to work on."""
    return Path(shutil.copytree(pristine, tmp_path / "node"))


@pytest.fixture(scope="module")
def running(pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """A node that runs on another copy; tests only add to it."""
    place = Path(shutil.copytree(pristine, tmp_path_factory.mktemp("running") / "node"))
    with RunningNode(place) as node:
        yield node


@pytest.fixture
def live(running: RunningNode) -> Path:
    """The directory of the running node."""
    return Path(running.process.args[-1])  # type: ignore[index,arg-type]


@pytest.fixture(params=["alone", "beside a node"])
def place(request: pytest.FixtureRequest) -> Path:
    """A directory whose commands run in their own process, and one whose node runs them."""
    name = "directory" if request.param == "alone" else "live"
    found: Path = request.getfixturevalue(name)
    return found

"""What all tests share."""

import fcntl
import os
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from threading import main_thread
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from portal.compiled import refuse_stale
from portal.errors import UserError

# How long one example takes, or making it up, says more about the machine than about the code. CI
# takes the same examples every time, so that a change is judged by what it changed; other runs look
# further.
_AT_LEISURE: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("pesisir", **_AT_LEISURE)
settings.register_profile("ci", derandomize=True, **_AT_LEISURE)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "pesisir")

# Two files to lock, the same for every worker of a checkout.
_TURNSTILE = os.open(__file__, os.O_RDONLY | os.O_CLOEXEC)
_ROOM = os.open(Path(__file__).with_name("__init__.py"), os.O_RDONLY | os.O_CLOEXEC)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Whoever is marked `alone` has the room to itself, fixtures included; others share it.

    Who waits for the room stands in the turnstile, so nobody overtakes a test that wants to be
    alone.
    """
    is_alone = item.get_closest_marker("alone") is not None
    fcntl.flock(_TURNSTILE, fcntl.LOCK_EX)
    fcntl.flock(_ROOM, fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH)
    fcntl.flock(_TURNSTILE, fcntl.LOCK_UN)
    try:
        return (yield)
    finally:
        fcntl.flock(_ROOM, fcntl.LOCK_UN)


def pytest_configure() -> None:
    """Test what the sources say, not what was compiled from older ones."""
    try:
        refuse_stale()
    except UserError as error:
        raise pytest.UsageError(str(error)) from error


_EXIT_STATUS = pytest.StashKey[int]()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Keep the status for `pytest_unconfigure`."""
    session.config.stash[_EXIT_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave when all is said: Python would wait for ever for the thread of a database that a failed
    test left open. Workers are ended by who started them.
    """
    is_left = any(not one.daemon for one in threading.enumerate() if one is not main_thread())
    if is_left and _EXIT_STATUS in config.stash and "PYTEST_XDIST_WORKER" not in os.environ:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[_EXIT_STATUS])

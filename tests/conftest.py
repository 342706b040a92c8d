"""What all tests share."""

import os

import pytest
from hypothesis import settings

from portal.compiled import refuse_stale
from portal.errors import UserError

# How long one example takes says more about the machine than about the code. CI takes the same
# examples every time, so that a change is judged by what it changed; other runs look further.
settings.register_profile("pesisir", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "pesisir")


def pytest_configure() -> None:
    """Test what the sources say, not what was compiled from older ones."""
    try:
        refuse_stale()
    except UserError as error:
        raise pytest.UsageError(str(error)) from error

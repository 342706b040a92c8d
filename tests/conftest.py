"""What all tests share."""

import os

from hypothesis import settings

# How long one example takes says more about the machine than about the code. CI takes the same
# examples every time, so that a change is judged by what it changed; other runs look further.
settings.register_profile("pesisir", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "pesisir")

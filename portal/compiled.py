"""Compiled: whether the hot path runs as C, and whether that C is of the sources beside it.

The modules every packet passes can be compiled (.ci/compile.py). Then Python imports the compiled
form and no longer looks at the `.py` beside it, so a source that was changed since would silently
do nothing: whoever starts the program or its tests asks here first.
"""

import hashlib
import json
from pathlib import Path

from portal.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
STAMP = Path(__file__).with_name("compiled.json")


def is_compiled() -> bool:
    """Whether packets pass compiled modules here."""
    return STAMP.exists()


def changed_since() -> list[str]:
    """The sources that are not those which were compiled, as paths from the top."""
    if not STAMP.exists():
        return []
    sources: dict[str, str] = json.loads(STAMP.read_text(encoding="utf-8"))["sources"]
    return [path for path, digest in sources.items() if _digest(ROOT / path) != digest]


def refuse_stale() -> None:
    """Raise UserError when what would run is not what the sources say."""
    changed = changed_since()
    if changed:
        raise UserError(
            f"Changed since they were compiled: {', '.join(changed)}; run `make compile`, or"
            " `make uncompiled` to go on in plain Python."
        )


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None

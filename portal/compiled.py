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
STAMP = "portal/compiled.json"
"""What was compiled, and from which sources; written by .ci/compile.py."""


def is_compiled(root: Path = ROOT) -> bool:
    """Whether packets pass compiled modules here."""
    return (root / STAMP).exists()


def changed_since(root: Path = ROOT) -> list[str]:
    """The sources that are not those which were compiled, as paths from the top."""
    if not is_compiled(root):
        return []
    sources: dict[str, str] = json.loads((root / STAMP).read_text(encoding="utf-8"))["sources"]
    return [path for path, digest in sources.items() if _digest(root / path) != digest]


def refuse_stale(root: Path = ROOT) -> None:
    """Raise UserError when what would run is not what the sources say."""
    changed = changed_since(root)
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

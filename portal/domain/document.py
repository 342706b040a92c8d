"""Document: what the hub wants of its nodes, as the text that it signs.

Pure. A document is the text of a signed note: header lines, a blank line, one JSON object. The
signed octets are stored and passed on as they came, so nothing depends on how JSON is spelled.
Which document a node follows is decided by name and scope; versions only grow.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

NAMES: Final = ("profiles", "announcements", "blocked", "settings", "reset")
MOST_CHARACTERS: Final = 64_000
NO_PREVIOUS: Final = "-"
ALL: Final = "all"
_SCOPE = re.compile(r"all|group [a-z0-9][a-z0-9-]{0,31}|site [A-Z0-9][A-Z0-9-]{0,15}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,14}")
_DIGEST = re.compile(r"-|[0-9a-f]{64}")
_HEADER = ("doc", "scope", "version", "not-before", "prev")


class DocumentError(ValueError):
    """A text that is no document: what, seen, expected, in one sentence."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document taken apart; its signature is checked elsewhere."""

    name: str
    scope: str
    """`all`, `group x`, `site X`."""
    version: int
    not_before_at: int
    """It holds from this moment on (epoch s); 0 = at once."""
    previous: str
    """`digest` of the version before, `-` for the first."""
    content: Mapping[str, Any]

    @property
    def precedence(self) -> int:
        """Where two documents of one name say different things, the narrower scope holds."""
        return 0 if self.scope == ALL else 1 if self.scope.startswith("group ") else 2


def digest(text: str) -> str:
    """What the next version names as its `prev`: the hex SHA-256 of a document's text."""
    return sha256(text.encode()).hexdigest()


def text_of(document: Document) -> str:
    """The text to sign; raises DocumentError for a document that cannot be."""
    text = (
        f"doc {document.name}\n"
        f"scope {document.scope}\n"
        f"version {document.version}\n"
        f"not-before {document.not_before_at}\n"
        f"prev {document.previous}\n"
        "\n"
        # ASCII and one line: a note's text ends at its last blank line.
        f"{json.dumps(dict(document.content), separators=(',', ':'), sort_keys=True)}\n"
    )
    parse(text)
    return text


def parse(text: str) -> Document:
    """The document of a text; raises DocumentError for any other text."""
    if len(text) > MOST_CHARACTERS:
        raise DocumentError(
            f"a document of {len(text)} characters; expected at most {MOST_CHARACTERS}"
        )
    head, blank, rest = text.partition("\n\n")
    lines = [line.partition(" ") for line in head.split("\n")]
    if not blank or tuple(line[0] for line in lines) != _HEADER:
        raise DocumentError(f"a document begins {head[:60]!r}; expected {', '.join(_HEADER)}")
    name, scope, version, not_before, previous = (line[2] for line in lines)
    if name not in NAMES:
        raise DocumentError(f"the document is {name[:40]!r}; expected one of {', '.join(NAMES)}")
    for what, value, form in (
        ("scope", scope, _SCOPE),
        ("version", version, _NUMBER),
        ("not-before", not_before, _NUMBER),
        ("prev", previous, _DIGEST),
    ):
        if not form.fullmatch(value):
            raise DocumentError(f"the {what} of a document is {value[:60]!r}")
    if version == "0":
        raise DocumentError("the version of a document is 0; expected 1 or more")
    try:
        content = json.loads(rest)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"the content of a document is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise DocumentError("the content of a document is no JSON object")
    return Document(name, scope, int(version), int(not_before), previous, content)

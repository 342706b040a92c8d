"""The talk between the node and its program on an openNDS gateway: lines of words, signed.

A request is one HTTP body, an answer another; both look the same:

    pesisir-opennds 1 CHALLENGE NONCE              pesisir-opennds 1 STATUS NONCE CHALLENGE
    WORD WORD ...                                  WORD WORD ...
    sign HEX                                       sign HEX

HEX is HMAC-SHA256 over the name of the side (`agent` or `node`), the gateway's name and the lines
above it. The node gives the CHALLENGE and keeps it in memory, so that nothing heard before its
start is good after it; the gateway makes the NONCE, which is good once under a challenge. Neither
side needs a clock. An answer repeats the NONCE: an old answer fits no new question.

Words are printable ASCII without spaces, `-` stands for "none". Nothing here knows what they mean.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass, field

VERSION = "pesisir-opennds 1"
OK, STALE = "ok", "stale"
"""STATUS: taken; or not looked at, for the challenge is not (or no longer) one of ours."""
CHALLENGES_KEPT = 2
"""The newest and the one before, which a request under way may still name."""
CHALLENGE_LIFE_S = 3600.0
NONCES_A_CHALLENGE = 5_000
"""Then a new challenge is given: what is remembered stays small."""
MAX_BODY_OCTETS = 128 * 1024
_LINES = re.compile(r"[\x20-\x7e\n]*")
_NONCE = re.compile(r"[0-9A-Za-z-]{16,64}")
_SIGN = "\nsign "


def agent_key(secret: str) -> str:
    """The key of the program on a gateway with this RADIUS secret: 64 hex digits, used as text.

    Derived, so that the shell script there needs no quoting and does not hold the secret itself.
    """
    return hmac.new(secret.encode(), b"pesisir opennds agent 1", hashlib.sha256).hexdigest()


def sign(side: str, name: str, text: str, key: str) -> str:
    """The HEX of `text`; `side` is `agent` or `node`, `name` the gateway's."""
    message = f"{side} {name}\n{text}".encode()
    return hmac.new(key.encode(), message, hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Letter:
    """A request whose signature fits."""

    challenge: str
    nonce: str
    lines: list[list[str]]


def read(body: bytes, name: str, key: str) -> Letter | None:
    """A request of the program on the gateway `name`; None for anything that it did not sign."""
    if len(body) > MAX_BODY_OCTETS:
        return None
    try:
        text = body.decode("ascii")
    except UnicodeDecodeError:
        return None
    text, separator, signature = text.rstrip("\n").rpartition(_SIGN)
    if not separator or not _LINES.fullmatch(text):
        return None
    if not hmac.compare_digest(sign("agent", name, text, key), signature):
        return None
    head, *lines = text.split("\n")
    words = head.split(" ")
    if len(words) != 4 or f"{words[0]} {words[1]}" != VERSION or not _NONCE.fullmatch(words[3]):
        return None
    return Letter(words[2], words[3], [line.split() for line in lines if line.strip()])


def write(status: str, nonce: str, challenge: str, lines: list[str], name: str, key: str) -> str:
    """An answer."""
    text = "\n".join((f"{VERSION} {status} {nonce} {challenge}", *lines))
    return f"{text}{_SIGN}{sign('node', name, text, key)}\n"


@dataclass(slots=True)
class _Challenge:
    text: str
    made_s: float
    nonces: set[str] = field(default_factory=set)


class Challenges:
    """What one gateway was given, and which nonces it has used. Times are elapsed-time readings."""

    def __init__(self) -> None:
        self._given: list[_Challenge] = []

    def take(self, letter: Letter) -> bool:
        """Whether a request is neither from before our start nor a repetition; it is used up."""
        for given in self._given:
            if given.text == letter.challenge:
                if letter.nonce in given.nonces:
                    return False
                given.nonces.add(letter.nonce)
                return True
        return False

    def newest(self, fresh: str, elapsed_s: float) -> str:
        """The challenge for the next request; `fresh` becomes it when the old one is worn out."""
        given = self._given[-1] if self._given else None
        if (
            given is None
            or elapsed_s - given.made_s > CHALLENGE_LIFE_S
            or len(given.nonces) >= NONCES_A_CHALLENGE
        ):
            given = _Challenge(fresh, elapsed_s)
            self._given = [*self._given, given][-CHALLENGES_KEPT:]
        return given.text

"""Complaints: what residents tell without signing in, and the answers of the desk.

A resident gets a number with a key, `K-0042-7391`: the first digits name the complaint, the last
four show that one has it. The key is a keyed hash of the number, so nothing more is stored. The
desk has 24 hours; what waits longer is late. Contact and card are personal: retention erases them.
"""

import asyncio
import hmac
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Container, Iterable
from dataclasses import dataclass
from hashlib import sha256

from portal.errors import DeskError
from portal.store.audit import Deed
from portal.store.complaints import ComplaintStore
from portal.store.db import Row

CATEGORIES = ("no_internet", "slow", "card", "place", "person", "other")
"""What a complaint may be about; the text is `complaint.about_<category>`."""
WORDS_LONGEST = 500
CONTACT_LONGEST = 60
ANSWER_LONGEST = 500
ANSWER_WITHIN_S = 86_400
"""What residents are promised."""
WAITING_MOST = 200
"""Complaints of a site without an answer: then the box is full until somebody answers."""
CLIENT_MOST, CLIENT_SPAN_S = 3, 3_600.0
SITE_MOST, SITE_SPAN_S = 30, 3_600.0
LOOKS_MOST, LOOKS_SPAN_S = 10, 600.0
"""Wrong keys of one client: 10,000 keys last over a week."""
LOOKS_OF_ALL_MOST = 100
SAME_KEPT_S = 1_800.0
"""So long the same words from the same client are the same complaint, sent twice."""
CLIENTS_KEPT = 5_000

_NUMBER = re.compile(r"[0-9]{5,14}")


@dataclass(frozen=True, slots=True)
class Complaint:
    """What a resident told, and what was answered. Instants are epoch seconds UTC."""

    id: int
    site_id: int
    category: str
    words: str
    contact: str
    serial: str | None
    """The card of the phone it came from, where that was known."""
    created_at: int
    answer: str | None
    answered_at: int | None
    answered_by: str | None

    @property
    def number(self) -> str:
        """What people call it: `K-0042`."""
        return number_of(self.id)

    @property
    def due_at(self) -> int:
        """When the promised time is over."""
        return self.created_at + ANSWER_WITHIN_S

    def is_late(self, at: int) -> bool:
        """Whether it has waited longer than promised, or had when it was answered."""
        return (self.answered_at or at) > self.due_at


def number_of(complaint_id: int) -> str:
    """`K-0042`."""
    return f"K-{complaint_id:04d}"


def read_number(text: str) -> int | None:
    """The id in `K-0042`, None for anything else."""
    match = re.fullmatch(r"[Kk]-?([0-9]{1,9})", text.strip())
    return None if match is None else int(match[1])


class TooOftenError(Exception):
    """A client has to wait; nothing was done."""

    def __init__(self, wait_s: float):
        super().__init__(f"wait {wait_s:.0f} s")
        self.wait_s = max(1, round(wait_s + 0.5))


class BoxFullError(Exception):
    """As many complaints wait at this site as the box takes."""


def _complaint(row: Row) -> Complaint:
    return Complaint(**dict(row))


class Complaints:
    """The complaints of all sites."""

    def __init__(
        self,
        store: ComplaintStore,
        *,
        secret: bytes,
        now: Callable[[], int],
        elapsed_s: Callable[[], float],
        hidden_cards: Container[int],
    ):
        """`hidden_cards`: ids of the cards that nobody holds, those of known devices."""
        self._hidden_cards = hidden_cards
        self._store = store
        self._secret = secret
        self._now = now
        self._elapsed_s = elapsed_s
        self._adding = asyncio.Lock()
        self._waiting: dict[int, tuple[int, int]] = {
            row["id"]: (row["site_id"], row["created_at"]) for row in store.open()
        }
        """Site and time of what has no answer."""
        self._made = Counts(SITE_SPAN_S)
        self._looks = Counts(LOOKS_SPAN_S)
        self._same: OrderedDict[bytes, tuple[int, float]] = OrderedDict()
        """By a keyed hash: words and contacts are on disk, where retention finds them."""

    # -- residents -------------------------------------------------------------------------

    async def add(
        self,
        site_id: int,
        *,
        category: str,
        words: str,
        contact: str,
        serial: str | None,
        client: str | None,
        source: str,
    ) -> Complaint:
        """Take a complaint.

        `client`: who tells, None for one that cannot be told from others behind a gateway; `source`
        is the address. The same words from the same address are one complaint. The caller has
        checked lengths and category (raises ValueError). Raises TooOftenError and BoxFullError.
        """
        words, contact = tidy(words), " ".join(contact.split())
        if category not in CATEGORIES or not words:
            raise ValueError(f"category {category!r} or words unusable")
        if len(words) > WORDS_LONGEST or len(contact) > CONTACT_LONGEST:
            raise ValueError("words or contact too long")
        text = "\0".join((str(site_id), source, category, words, contact))
        same = hmac.digest(self._secret, text.encode(), sha256)
        async with self._adding:
            elapsed_s = self._elapsed_s()
            known = self._same.get(same)
            if known is not None and elapsed_s - known[1] < SAME_KEPT_S:
                found = self.one(known[0])
                if found is not None:
                    return found
            if sum(site == site_id for site, _ in self._waiting.values()) >= WAITING_MOST:
                raise BoxFullError
            limits = [(f"site {site_id}", SITE_MOST)]
            if client is not None:
                limits.append((f"client {client}", CLIENT_MOST))
            self._made.check(limits, elapsed_s)
            now = self._now()
            made = await self._store.add(
                site_id=site_id,
                category=category,
                words=words,
                contact=contact,
                serial=serial,
                at=now,
            )
            self._made.count((key for key, _ in limits), elapsed_s)
            self._waiting[made] = (site_id, now)
            self._same[same] = (made, elapsed_s)
            while len(self._same) > CLIENTS_KEPT:
                self._same.popitem(last=False)
        return Complaint(made, site_id, category, words, contact, serial, now, None, None, None)

    def serial_to_note(self, voucher_id: int, serial: str) -> str | None:
        """The card a complaint is noted with; None for the card of a device, which nobody holds."""
        return None if voucher_id in self._hidden_cards else serial

    def full_number(self, complaint_id: int) -> str:
        """What the resident is given: `K-0042-7391`, number and key."""
        return f"{number_of(complaint_id)}-{self._key(complaint_id)}"

    def look_up(self, text: str, client: str | None) -> Complaint | None:
        """The complaint with this full number, however it is written; None for a wrong one.

        Wrong ones are counted. Raises TooOftenError.
        """
        elapsed_s = self._elapsed_s()
        counted = ["all"] if client is None else ["all", f"client {client}"]
        if client is None or self._looks.has(f"client {client}"):
            # Who never was wrong is not made to wait for the mistakes of others.
            limits = {"all": LOOKS_OF_ALL_MOST, f"client {client}": LOOKS_MOST}
            self._looks.check([(key, limits[key]) for key in counted], elapsed_s)
        digits = re.sub(r"[^0-9]", "", text)
        if _NUMBER.fullmatch(digits) is not None:
            complaint_id = int(digits[:-4])
            if hmac.compare_digest(digits[-4:], self._key(complaint_id)):
                found = self.one(complaint_id)
                if found is not None:
                    return found
        if digits:
            self._looks.count(counted, elapsed_s)
        return None

    def _key(self, complaint_id: int) -> str:
        digest = hmac.digest(self._secret, b"pesisir complaint %d" % complaint_id, sha256)
        return f"{int.from_bytes(digest[:8], 'big') % 10_000:04d}"

    # -- the desk --------------------------------------------------------------------------

    def waiting(self, site_ids: Collection[int]) -> tuple[int, int]:
        """How many complaints of these sites wait for an answer, and how many of them are late.
        From memory."""
        late_before_at = self._now() - ANSWER_WITHIN_S
        times = [at for site_id, at in self._waiting.values() if site_id in site_ids]
        return len(times), sum(at < late_before_at for at in times)

    def one(self, complaint_id: int) -> Complaint | None:
        """A complaint by its id."""
        row = self._store.one(complaint_id)
        return None if row is None else _complaint(row)

    async def unanswered(self, site_id: int) -> list[Complaint]:
        """What waits for an answer at a site, oldest first: late ones stand at the top."""
        return [_complaint(row) for row in await self._store.unanswered(site_id)]

    async def answered(
        self, site_id: int, *, before_id: int | None = None, limit: int = 20
    ) -> list[Complaint]:
        """What was answered at a site, newest first."""
        return [_complaint(row) for row in await self._store.answered(site_id, before_id, limit)]

    async def answer(self, complaint_id: int, site_id: int, words: str, *, by: str) -> Complaint:
        """Answer a complaint of a site, once.

        Raises DeskError for no or too many words, an unknown complaint (`complaints.gone`) and one
        that somebody else has answered (`complaints.answered`).
        """
        words = tidy(words)
        if not words:
            raise DeskError("complaints.empty")
        if len(words) > ANSWER_LONGEST:
            raise DeskError("complaints.too_long", length=len(words), most=ANSWER_LONGEST)
        found = self.one(complaint_id)
        if found is None or found.site_id != site_id:
            raise DeskError("complaints.gone")
        deed = Deed(by, "complaint.answer", site_id, found.number)
        if found.answered_at is not None or not await self._store.answer(
            complaint_id, words, at=self._now(), deed=deed
        ):
            found = self.one(complaint_id) or found
            raise DeskError("complaints.answered", by=found.answered_by or "-")
        self._waiting.pop(complaint_id, None)
        return self.one(complaint_id) or found


class Counts:
    """How often something was done by whom, over a span that moves with time."""

    def __init__(self, span_s: float):
        self._span_s = span_s
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def check(self, limits: Iterable[tuple[str, int]], elapsed_s: float) -> None:
        """Raise TooOftenError when one of the (key, most) has been counted that often."""
        for key, most in limits:
            times = self._times.get(key)
            while times and elapsed_s - times[0] >= self._span_s:
                times.popleft()
            if times is not None and len(times) >= most:
                raise TooOftenError(times[0] + self._span_s - elapsed_s)

    def has(self, key: str) -> bool:
        """Whether it was counted at all, not too long ago to be forgotten."""
        return bool(self._times.get(key))

    def count(self, keys: Iterable[str], elapsed_s: float) -> None:
        """Note that it was done now."""
        for key in keys:
            self._times.setdefault(key, deque(maxlen=1_000)).append(elapsed_s)
            self._times.move_to_end(key)
        while len(self._times) > CLIENTS_KEPT:
            self._times.popitem(last=False)


def tidy(words: str) -> str:
    """Words as they are kept: lines without spaces around them, no more than one empty line."""
    lines = [" ".join(line.split()) for line in words.replace("\r\n", "\n").split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()

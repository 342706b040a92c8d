"""Notices: the announcements of a site on the residents' pages, with a start and an end.

What runs or will run is kept in memory, so that a page asks no disk. An announcement without an end
runs until somebody ends it; `pesisir site set --announcement` makes one of that kind.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

from portal.admin import Admin
from portal.audit import COMMAND_LINE
from portal.errors import DeskError
from portal.store.audit import Deed
from portal.store.db import Row
from portal.store.notices import NoticeStore

WORDS_LONGEST = 200
"""Letters: what a resident reads, and what the page has room for."""
KEPT_MOST = 5
"""Announcements of a site that run or will run: a wall full of paper is not read."""
LATE_START_S = 600
"""A start so far back still means now: the form was open a while."""
AHEAD_MOST_S = 366 * 86_400
"""Beyond it a date is a slip of the hand."""
OVER_SHOWN = 20

State = Literal["now", "coming", "over"]

_DATE = re.compile(
    r"(2[0-9]{3})-([0-9]{1,2})-([0-9]{1,2})|([0-9]{1,2})[-/.]([0-9]{1,2})[-/.](2[0-9]{3})", re.ASCII
)
_TIME = re.compile(r"([0-9]{1,2})(?:[.:]([0-9]{2})(?:[.:][0-9]{2})?)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Announcement:
    """Words for a site's residents. Instants are epoch seconds UTC."""

    id: int
    site_id: int
    words: str
    starts_at: int
    ends_at: int | None
    """None: until somebody ends it."""
    created_at: int
    removed_at: int | None
    """When somebody ended it early."""

    def state(self, at: int) -> State:
        """Whether it runs at `at`."""
        if self.removed_at is not None or (self.ends_at is not None and self.ends_at <= at):
            return "over"
        return "now" if self.starts_at <= at else "coming"

    @property
    def over_at(self) -> int | None:
        """When it really ended or will end."""
        return self.ends_at if self.removed_at is None else self.removed_at


def _announcement(row: Row) -> Announcement:
    return Announcement(**dict(row))


def moment(day: str, time: str, zone: ZoneInfo) -> int:
    """Read a date (2026-11-21, 21/11/2026, 21-11-2026) and a time (18:00, 18.00, 18) of a form.

    Raises DeskError `notices.date` and `notices.time`.
    """
    date_match, time_match = _DATE.fullmatch(day.strip()), _TIME.fullmatch(time.strip())
    if date_match is None:
        raise DeskError("notices.date", text=day[:20])
    if time_match is None:
        raise DeskError("notices.time", text=time[:20])
    parts = [int(part) for part in date_match.groups() if part is not None]
    year, month, date = parts if date_match[1] else reversed(parts)
    hour, minute = int(time_match[1]), int(time_match[2] or 0)
    if hour > 23 or minute > 59:
        raise DeskError("notices.time", text=time[:20])
    try:
        return int(datetime(year, month, date, hour, minute, tzinfo=zone).timestamp())
    except ValueError as error:
        raise DeskError("notices.date", text=day[:20]) from error


class Notices:
    """The announcements of all sites."""

    def __init__(self, store: NoticeStore, admin: Admin, *, now: Callable[[], int]):
        self._store = store
        self._admin = admin
        self._now = now
        self._changing = asyncio.Lock()
        self._live = {row["id"]: _announcement(row) for row in store.not_over(now())}
        """What runs or will run, in the order of its start."""

    # -- reading ---------------------------------------------------------------------------

    def running(self, site_id: int) -> tuple[str, ...]:
        """What the residents of a site are told now, the oldest first. From memory."""
        now = self._now()
        return tuple(
            found.words
            for found in self._live.values()
            if found.site_id == site_id and found.state(now) == "now"
        )

    def live(self, site_id: int) -> list[Announcement]:
        """What runs or will run at a site, in the order of its start."""
        now = self._now()
        return [
            found
            for found in self._live.values()
            if found.site_id == site_id and found.state(now) != "over"
        ]

    def find(self, announcement_id: int) -> Announcement | None:
        """An announcement that runs or will run."""
        found = self._live.get(announcement_id)
        return None if found is None or found.state(self._now()) == "over" else found

    async def over(self, site_id: int) -> list[Announcement]:
        """The announcements of a site that have ended, the newest first."""
        rows = await self._store.over(site_id, self._now(), OVER_SHOWN)
        return [_announcement(row) for row in rows]

    def lasting(self, site_id: int) -> str:
        """The words of the running announcement without an end, empty when there is none."""
        now = self._now()
        found = [a.words for a in self._lasting(site_id) if a.state(now) == "now"]
        return found[-1] if found else ""

    def _lasting(self, site_id: int) -> list[Announcement]:
        return [found for found in self.live(site_id) if found.ends_at is None]

    # -- changing --------------------------------------------------------------------------

    async def add(
        self,
        site_id: int,
        words: str,
        *,
        starts_at: int | None,
        ends_at: int | None,
        by: str,
    ) -> Announcement:
        """Announce `words` from `starts_at` (None: now) to `ends_at` (None: until ended).

        Raises DeskError for no or too many words, times in the past or the wrong way round, an
        announcement that runs already, and too many of them.
        """
        words = _checked(words)
        now = self._now()
        if starts_at is None or now - LATE_START_S <= starts_at < now:
            starts_at = now
        if starts_at < now:
            raise DeskError("notices.past_start")
        if ends_at is not None and ends_at <= now:
            raise DeskError("notices.past_end")
        if ends_at is not None and ends_at <= starts_at:
            raise DeskError("notices.order")
        if max(starts_at, ends_at or 0) > now + AHEAD_MOST_S:
            raise DeskError("notices.far")
        async with self._changing:
            live = self.live(site_id)
            if any(found.words == words for found in live):
                raise DeskError("notices.twice")
            if len(live) >= KEPT_MOST:
                raise DeskError("notices.full", most=KEPT_MOST)
            code = self._admin.sites_by_id[site_id].code
            deed = Deed(by, "announcement.add", site_id, code, details=words)
            made = await self._store.add(site_id, words, starts_at, ends_at, at=now, deed=deed)
            added = Announcement(made, site_id, words, starts_at, ends_at, now, None)
            self._take(added)
        return added

    async def end(self, announcement_id: int, site_id: int, *, by: str) -> Announcement:
        """End an announcement of a site before its time; one that is coming never comes.

        Raises DeskError `notices.gone` when it is over already or not of this site.
        """
        async with self._changing:
            found = self._live.get(announcement_id)
            now = self._now()
            if found is None or found.site_id != site_id or found.state(now) == "over":
                raise DeskError("notices.gone")
            code = self._admin.sites_by_id[site_id].code
            deed = Deed(by, "announcement.remove", site_id, code, details=found.words)
            await self._store.end(announcement_id, at=now, deed=deed)
            del self._live[announcement_id]
        return found

    async def set_lasting(self, code: str, words: str, *, by: str = COMMAND_LINE) -> None:
        """Have one announcement without an end at a site: `words`, or none when they are empty.

        Those without an end that are there give way; those with an end stay. Raises UserError for
        an unknown site, DeskError for too many words or announcements.
        """
        site = self._admin.site(code)
        words = _checked(words) if words.strip() else ""
        async with self._changing:
            old = self._lasting(site.id)
            if [found.words for found in old] == ([words] if words else []):
                return
            if words and len(self.live(site.id)) - len(old) >= KEPT_MOST:
                raise DeskError("notices.full", most=KEPT_MOST)
            before = ", ".join(found.words for found in old) or "-"
            action = "announcement.add" if words else "announcement.remove"
            deed = Deed(by, action, site.id, site.code, details=f"{before} -> {words or '-'}")
            now = self._now()
            made = await self._store.replace(
                [found.id for found in old], site.id, words, at=now, deed=deed
            )
            for found in old:
                del self._live[found.id]
            if made is not None:
                self._take(Announcement(made, site.id, words, now, None, now, None))

    def check_words(self, words: str) -> None:
        """Raise DeskError when `words` are too many for an announcement."""
        if words.strip():
            _checked(words)

    def _take(self, added: Announcement) -> None:
        now = self._now()
        kept = [found for found in self._live.values() if found.state(now) != "over"]
        kept.append(added)
        kept.sort(key=lambda found: (found.starts_at, found.id))
        self._live = {found.id: found for found in kept}


def _checked(words: str) -> str:
    """Words with single spaces; raises DeskError."""
    words = " ".join(words.split())
    if not words:
        raise DeskError("notices.empty")
    if len(words) > WORDS_LONGEST:
        raise DeskError("notices.too_long", length=len(words), most=WORDS_LONGEST)
    return words

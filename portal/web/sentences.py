"""Sentences: what a page says about a card, its quotas and its troubles.

Turns use-case results into short texts and figures that templates only have to place. Every trouble
is one sentence of what happened and one of what to do, with the time where there is one.
"""

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from portal.admin import Site
from portal.domain.quota import Reason, WindowLeft
from portal.domain.voucher import State, mask
from portal.door import Problem
from portal.grants import VoucherStatus
from portal.web.text import Translator

LOW_PERCENT = 80
"""From this share used on a page warns (design, section 4, Pages)."""
_SMALLEST_LEVEL = 3


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that stops the resident: what it is, and the next step."""

    what: str
    next: str | None = None

    def __str__(self) -> str:
        return f"{self.what} {self.next}" if self.next else self.what


@dataclass(frozen=True, slots=True)
class Gauge:
    """One quota as a battery with words."""

    title: str
    left: str
    level: int
    """What is left, in hundredths; something is never shown as nothing."""
    detail: str
    is_low: bool


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of a status page."""

    title: str
    value: str


_OWN_NEXT = frozenset(
    (
        Reason.REVOKED,
        Reason.REPLACED,
        Reason.BLOCKED,
        Reason.IN_USE,
        Reason.RESERVED,
        Reason.DISK_FULL,
        Reason.DATA_NOT_COUNTED,
        Reason.TOO_MANY_MOVES,
    )
)
"""Reasons whose next step is a text of its own, `error.<reason>_next`."""
_NEW_CARD = frozenset(
    (Reason.USED_UP_DATA, Reason.USED_UP_TIME, Reason.EXPIRED, Reason.USE_BEFORE_PASSED)
)
_OVER = frozenset((State.EXPIRED, State.REVOKED, State.REPLACED))
"""What is left on such a card, and until when it was good, is left for nobody."""
_UNSAID = frozenset((Reason.UNKNOWN_PHONE, Reason.CHALLENGE_STALE, Reason.BAD_REQUEST))
"""Reasons that are no fault of the card: the resident presses the button again."""


def power_words(t: Translator, site: Site, at: int, zone: ZoneInfo) -> str | None:
    """When a site has electricity, None when it always has."""
    hours = site.power_hours
    if hours is not None:
        return t("site.power", window=t.hours(hours, at, zone))
    # An older version took any words.
    return t("site.power_words", window=site.power_window) if site.power_window else None


def card_place(t: Translator, site: Site | None, at: int, zone: ZoneInfo) -> str | None:
    """Where and when cards are given: `di Kantor Desa, pukul 08.00–15.00 WITA`; None: not known."""
    hours = t.hours(site.opening_hours, at, zone) if site and site.opening_hours else None
    if site is not None and site.counter:
        if hours is None:
            return t("place.at", place=site.counter)
        return t("place.at_hours", place=site.counter, hours=hours)
    return None if hours is None else t("place.hours", hours=hours)


def new_card_words(t: Translator, site: Site | None, at: int, zone: ZoneInfo) -> str:
    """What to do when a card is over: where to get a new one, and when."""
    place = card_place(t, site, at, zone)
    return t("error.new_card") if place is None else t("error.new_card_at", place=place)


def first_card_words(t: Translator, site: Site | None, at: int, zone: ZoneInfo) -> str:
    """What to do without a card."""
    place = card_place(t, site, at, zone)
    return t("login.no_card") if place is None else t("login.no_card_at", place=place)


def is_unsaid(reason: Reason) -> bool:
    """Tell whether a reason is no news for a resident."""
    return reason in _UNSAID


def trouble(
    t: Translator, problem: Problem, *, now: int, zone: ZoneInfo, site: Site | None
) -> Trouble:
    """Say why a card cannot be used now and what to do."""
    new_card = new_card_words(t, site, now, zone)
    site_name = site.name if site else t("site.unnamed")
    reason, status = problem.reason, problem.status
    if reason in _UNSAID:
        return Trouble(t("error.not_yet"), t("error.press_again"))
    if reason in (Reason.UNKNOWN_CODE, Reason.WRONG_PASSWORD):
        return Trouble(t("error.unknown_code"), t("error.unknown_code_next", site=site_name))
    if reason is Reason.MISTYPED:
        return Trouble(t("error.mistyped"), t("error.mistyped_next"))
    if reason is Reason.TOO_MANY_MISSES:
        wait = t.wait(max(problem.wait_s or 0, 1))
        return Trouble(t("error.too_many_misses"), t("error.too_many_misses_next", wait=wait))
    if reason is Reason.EXPIRED:
        what = t("error.expired_undated")
        if status is not None and status.expires_at is not None:
            what = t("error.expired", until=t.moment(status.expires_at, now, zone))
        return Trouble(what, new_card)
    if reason is Reason.USE_BEFORE_PASSED:
        what = t("error.expired_undated")
        if status is not None and status.use_before_at is not None:
            before = t.date(status.use_before_at, zone)
            what = t("error.use_before_passed", before=before)
        return Trouble(what, new_card)
    what = t(f"error.{reason}")
    if problem.retry_at is not None:
        return Trouble(what, t("error.again", when=t.moment(problem.retry_at, now, zone)))
    if reason in _OWN_NEXT:
        return Trouble(what, t(f"error.{reason}_next"))
    return Trouble(what, new_card if reason in _NEW_CARD else None)


def trouble_of_status(
    t: Translator, status: VoucherStatus, *, now: int, zone: ZoneInfo, site: Site | None
) -> Trouble | None:
    """Say why this card could not log in now, None when it could."""
    if status.reason is None or status.reason in _UNSAID:
        return None
    problem = Problem(status.reason, retry_at=status.retry_at, status=status)
    return trouble(t, problem, now=now, zone=zone, site=site)


def gauges(t: Translator, status: VoucherStatus, *, now: int, zone: ZoneInfo) -> list[Gauge]:
    """Every quota the card still has, data before time in each window."""
    found = []
    for window in _windows(status):
        again = ""
        if window.resets_at is not None:
            again = " " + t("status.resets", when=t.moment(window.resets_at, now, zone))
        if window.octets_quota is not None:
            left = window.octets_quota - window.octets_used
            found.append(
                Gauge(
                    t(f"status.data_{window.window}"),
                    t.octets_left(left) if left > 0 else t("status.used_up"),
                    _level(left, window.octets_quota),
                    t("status.of", quota=t.quota(window.octets_quota)) + again,
                    _is_low(window.octets_used, window.octets_quota),
                )
            )
        if window.seconds_quota is not None:
            left = window.seconds_quota - window.seconds_used
            found.append(
                Gauge(
                    t(f"status.time_{window.window}"),
                    t.duration(left) if left > 0 else t("status.used_up"),
                    _level(left, window.seconds_quota),
                    t("status.of", quota=t.duration(window.seconds_quota)) + again,
                    _is_low(window.seconds_used, window.seconds_quota),
                )
            )
    return found


def _windows(status: VoucherStatus) -> list[WindowLeft]:
    """The quotas worth telling: a card that is over has none, and where the total is gone no day
    brings anything back."""
    if status.state in _OVER:
        return []
    is_gone = status.state is State.USED_UP
    return [window for window in status.windows if window.window == "total" or not is_gone]


def _level(left: int, quota: int) -> int:
    if left <= 0:
        return 0
    return min(100, max(_SMALLEST_LEVEL, left * 100 // quota))


def _is_low(used: int, quota: int) -> bool:
    return used * 100 >= quota * LOW_PERCENT


def warning(t: Translator, status: VoucherStatus) -> str | None:
    """The warning of the tightest quota that is nearly used up, None while there is enough."""
    tightest: tuple[float, str] | None = None
    for window in _windows(status):
        for share, text in _warnings(t, window):
            if tightest is None or share > tightest[0]:
                tightest = (share, text)
    return None if tightest is None else tightest[1]


def _warnings(t: Translator, window: WindowLeft) -> list[tuple[float, str]]:
    found = []
    quota, used = window.octets_quota, window.octets_used
    if quota is not None and used < quota and _is_low(used, quota):
        found.append((used / quota, t("warning.data", left=t.octets_left(quota - used))))
    quota, used = window.seconds_quota, window.seconds_used
    if quota is not None and used < quota and _is_low(used, quota):
        found.append((used / quota, t("warning.time", left=t.duration(quota - used))))
    return found


def end_of(t: Translator, status: VoucherStatus, *, now: int, zone: ZoneInfo) -> Fact | None:
    """When the card stops being good, None while nothing is set or when it is over."""
    if status.state in _OVER:
        return None
    if status.expires_at is not None:
        return Fact(t("status.valid_until"), t.moment(status.expires_at, now, zone))
    if status.first_used_at is None and status.use_before_at is not None:
        return Fact(t("status.use_until"), t.last_date(status.use_before_at, zone))
    return None


def facts(t: Translator, status: VoucherStatus, *, now: int, zone: ZoneInfo) -> list[Fact]:
    """What else there is to know about a card: its end, its phones, why the last session ended."""
    found = []
    if not any(window.octets_quota is not None for window in status.windows):
        used = t.octets(status.octets_used)
        found.append(Fact(t("status.used"), t("status.no_limit", used=used)))
    end = end_of(t, status, now=now, zone=zone)
    if end is not None:
        found.append(end)
    if (
        status.open_sessions
        and status.open_until_at is not None
        and status.open_until_at != status.expires_at
    ):
        found.append(Fact(t("status.open_until"), t.moment(status.open_until_at, now, zone)))
    if status.devices_allowed > 1 or status.devices_in_use > 1:
        used = t.number(status.devices_in_use)
        allowed = t.number(status.devices_allowed)
        found.append(Fact(t("status.devices"), t("status.devices_of", used=used, allowed=allowed)))
    if status.last_end_cause is not None and status.last_ended_at is not None:
        when = t.moment(status.last_ended_at, now, zone)
        why = t(f"end.{end_key(status.last_end_cause)}")
        found.append(Fact(t("status.last_end"), t("status.last_end_why", when=when, why=why)))
    found.append(Fact(t("status.card"), f"{status.serial} ({mask(status.last4)})"))
    return found


_END_KEYS = {
    "user-request": "user",
    "session-timeout": "quota",
    "idle-timeout": "idle",
    "lost-carrier": "lost",
    "lost-service": "lost",
    "admin-reset": "disconnected",
    "admin-reboot": "power",
    "nas-reboot": "power",
    "nas-error": "power",
    "nas-request": "power",
    "accounting-on": "power",
    "accounting-off": "power",
    "moved": "moved",
    "superseded": "moved",
}


def end_key(cause: str) -> str:
    """The text for an end cause: RADIUS's own names (RFC 2866 5.10) and the node's."""
    return _END_KEYS.get(cause.lower().replace(" ", "-").replace("_", "-"), "other")
